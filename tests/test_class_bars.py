"""Bars of every class."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest
from typer.testing import CliRunner

from anymask.benchmarks.class_bars import class_numbers, draw_class_bars
from anymask.cli.app import app
from anymask.errors import InputError
from anymask.report import Report


def report(title: str, count: int, shift: float = 0.0) -> Report:
    values = {f"class {k}": min(1.0, k / count + shift) for k in range(count)}
    return Report(title, {"mIoU": 0.5, "per_class": {**values, "never": float("nan")}})


def test_a_picture_from_the_terminal(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name, shift in (("a", 0.0), ("b", 0.1)):
        (tmp_path / f"{name}.json").write_text(report(name, 12, shift).to_json())
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    done = CliRunner().invoke(app, ["measure", "bars", *files, "--out", str(tmp_path / "p.png")])
    assert done.exit_code == 0, done.output
    with PIL.Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 400


def test_many_classes_are_cut(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_class_bars([report("many", 200)], tmp_path / "p.png", most=20)
    with PIL.Image.open(tmp_path / "p.png") as picture:
        assert picture.height < 1000


def test_a_report_without_classes_shows_its_metrics(tmp_path: Path) -> None:
    assert "never" not in class_numbers(report("x", 3))
    plain = Report("x", {"AP": 0.1, "phrases": 40, "MCC": -0.2}, slices={"small": {"AP": 0.05}})
    assert class_numbers(plain) == {"AP": 0.1, "small: AP": 0.05}
    with pytest.raises(InputError, match="no metric between 0 and 1"):
        class_numbers(Report("x", {"phrases": 40}))
    pytest.importorskip("matplotlib")
    draw_class_bars([plain], tmp_path / "p.png")
    with PIL.Image.open(tmp_path / "p.png") as picture:
        assert picture.width > 400
