"""The speed comparison runs, at tiny size, and its two sides agree."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "discover.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_discover", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_sides_agree_in_double_precision(benchmark: ModuleType) -> None:
    assert benchmark.tiny_difference() < 1e-9


def test_the_parts_add_up(benchmark: ModuleType) -> None:
    model = benchmark.our_model("tiny")
    seconds = benchmark.parts(model, benchmark.pictures(64)[0], repeats=1)
    assert seconds["whole"] > 0
    main = ("backbone", "pixel decoder", "query decoder")
    assert sum(seconds[name] for name in main) <= seconds["whole"]


def test_a_quick_run_prints_ratios(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "SIDES", ("stock", "ours"))
    assert benchmark.main(["--quick", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"stock .* 1\.00 x the better stock", printed)
    assert re.search(r"ours .* x the better stock", printed)
    assert "equal mask signs: 100.000 %" in printed
    assert "deformable attention" in printed
