"""Results of naming tools, measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from anymask.benchmarks.naming_protocol import NamedPair, measure_naming, read_pairs, scored
from anymask.cli.app import app
from anymask.errors import DataError
from anymask.nn.sentence_encoder import packaged_folder


def same(texts: list[str]) -> np.ndarray:
    """A vector a word: equal texts have cosine 1, others 0."""
    words = ["", "car", "cat", "dog", "red car"]
    return np.eye(len(words))[[words.index(text.strip().lower()) for text in texts]]


def test_micro_and_class_means() -> None:
    pairs = [NamedPair("dog", "dog", 100.0)] * 3 + [NamedPair("cat", "red car", 10_000.0)]
    report = measure_naming(pairs, scored(pairs, same))
    assert report["semantic_iou"] == pytest.approx(0.75)
    assert report["class_mean_iou"] == pytest.approx(0.5)
    assert report["classes"] == 2
    assert report.slices["small"]["instances"] == 3
    assert report.slices["large"]["semantic_iou"] == 0
    assert report.slices["rare"]["instances"] == 4
    assert "named" not in report.slices


def test_released_shards_are_read(tmp_path: Path) -> None:
    for k in range(2):
        rows = [{"id": f"{k}", "pred_labels": ["dog", ""], "gt_labels": ["dog", "cat"],
                 "num_masks": 2}]  # fmt: skip
        (tmp_path / f"subset_{k}.json").write_text(json.dumps(rows))
    pairs = read_pairs(tmp_path)
    assert len(pairs) == 4
    assert pairs[1].where == "0, 1"
    report = measure_naming(pairs, scored(pairs, same), masks="box", about={"mask_iou": 0.5})
    assert report["unnamed"] == 2
    assert report["mask_iou"] == 0.5
    assert report.protocol["masks"] == "box"
    # The released evaluation leaves regions without a name out.
    assert report.slices["named"]["semantic_iou"] == 1.0
    assert report["semantic_iou"] == 0.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read"),
        ("{}", "no list"),
        ('[{"pred_labels": ["a"], "gt_labels": []}]', "1 names for 0"),
        ('[{"x": 1}]', "record 0 has neither"),
        ("[3]", "record 0 has neither"),
    ],
)
def test_wrong_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_pairs(tmp_path / "r.json")
    with pytest.raises(DataError, match="holds no"):
        read_pairs(_empty(tmp_path))


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir(exist_ok=True)
    return folder / "empty"


def test_the_command(tmp_path: Path) -> None:
    if packaged_folder() is None:
        pytest.skip("needs the extra offline")
    rows = [{"prediction": "puppy", "truth": "dog"}, {"prediction": "car", "truth": "car"}]
    (tmp_path / "r.json").write_text(json.dumps(rows))
    arguments = ["measure", "naming", "--predictions", str(tmp_path / "r.json"), "--worst", "1"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "semantic_similarity" in done.output
    assert "'puppy' for 'dog'" in done.output
