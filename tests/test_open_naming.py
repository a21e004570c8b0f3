"""`anymask measure open-naming`: accuracy, not-in-vocabulary, the gallery and the curve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import osm_tiny as tiny
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from anymask.benchmarks.naming_protocol import NamedPair
from anymask.benchmarks.open_naming_protocol import measure_open_naming
from anymask.cli.app import app
from anymask.errors import DataError, InputError
from anymask.methods.osm.files import save_texts
from anymask.vocabulary import Vocabulary

RUN = CliRunner()
O6 = [("Traffic Lights", "traffic light"), ("woman", "person"), ("chair", "couch"),
      ("monitor", "tv"), ("knife", "knife")]  # fmt: skip


def test_o6_on_coco(tmp_path: Path) -> None:
    coco = Vocabulary.of("coco-panoptic")
    report = measure_open_naming([NamedPair(*pair) for pair in O6], coco)
    assert report.metrics["accuracy"] == pytest.approx(0.6)
    assert report.metrics["not_in_vocabulary"] == pytest.approx(0.4)
    assert set(report.metrics["most_often_outside"]) == {"traffic lights", "monitor"}
    full_stop = measure_open_naming([NamedPair("dog.", "dog")], coco)
    assert (full_stop.metrics["accuracy"], full_stop.metrics["not_in_vocabulary"]) == (0, 1)
    rows = [{"prediction": a, "truth": b} for a, b in O6]
    (tmp_path / "found.json").write_text(json.dumps(rows))
    result = RUN.invoke(
        app, ["measure", "open-naming", "--predictions", str(tmp_path / "found.json"),
              "--vocabulary", "coco-panoptic", "--out", str(tmp_path / "report.json")],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["metrics"]["accuracy"] == pytest.approx(0.6)


def test_groups_and_classes() -> None:
    from dataclasses import replace

    words = Vocabulary.from_names([["bus", "coach"], ["leaf"]])
    groups = ("known", "unseen")
    kinds = (replace(c, group=g) for c, g in zip(words.categories, groups, strict=True))
    words = replace(words, categories=tuple(kinds))
    pairs = [NamedPair("coach", "bus"), NamedPair("", "bus"), NamedPair("leaves", "leaf")]
    report = measure_open_naming(pairs, words)
    assert report.metrics["per_class"] == {"bus": 0.5, "leaf": 1.0}
    assert report.slices["known"]["accuracy"] == 0.5
    assert report.slices["unseen"]["not_in_vocabulary"] == 1.0
    with pytest.raises(DataError, match="'tram'"):
        measure_open_naming([NamedPair("bus", "tram", None, "7, 1")], words)


def test_a_run_over_checkpoints(tmp_path: Path) -> None:
    tiny.sources(tmp_path, pictures=2)
    words = tmp_path / "words.txt"
    words.write_text("red cup\ndog\n")
    run = tmp_path / "run"
    for step in (5, 20, 100):
        torch.manual_seed(step)
        model = tiny.model(torch.float32)
        with torch.no_grad():
            model.query_tokens.mul_(step)
        model.save_pretrained(run / f"checkpoint-{step}")
    save_texts(tiny.texts(), run)
    asked = ["measure", "open-naming", "--regions", str(tmp_path / "coco.jsonl"), "--vocabulary",
             str(words), "--device", "cpu"]  # fmt: skip
    result = RUN.invoke(
        app, [*asked, "--model", str(run), "--mode", "coco", "--curve", str(tmp_path / "c.png")],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("checkpoint-")]
    assert [line.split(":")[0].rsplit("-", 1)[1] for line in lines] == ["5", "20", "100"]
    assert np.asarray(PIL.Image.open(tmp_path / "c.png")).std() > 1
    result = RUN.invoke(
        app, [*asked, "--model", str(run / "checkpoint-5"), "--gallery", str(tmp_path / "g.png")],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert np.asarray(PIL.Image.open(tmp_path / "g.png")).std() > 1
    for options, message in (
        (["--model", str(tmp_path), "--curve", "c.png"], "--keep 100"),
        (["--predictions", "x.json"], "one way"),
    ):
        with pytest.raises(InputError, match=message):
            RUN.invoke(app, [*asked, *options], catch_exceptions=False)
