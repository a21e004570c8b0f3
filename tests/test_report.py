"""Reports: tables, files, and comparisons that say when they are none."""

from __future__ import annotations

import json
import math
import pickle
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymask.errors import DataError, InputError
from anymask.report import Report
from anymask.version import __version__


def sample(**changes: Any) -> Report:
    content: dict[str, Any] = {
        "title": "class-agnostic recall of a test",
        "metrics": {"AR": {"10": np.float32(0.125), "100": 0.5}, "AP": float("nan")},
        "slices": {"small": {"AR": {"10": 0.0, "100": 0.25}}},
        "protocol": {"iou": (0.5, 0.95), "proposals": 100, "crowd": "ignored"},
        "data": {"coco.json": "ab" * 32},
        "vocabulary": {"lvis": "cd" * 32},
        "checkpoint": {"pocket": "ef" * 32},
    }
    return Report(**{**content, **changes})


def test_numbers() -> None:
    report = sample()
    assert report.version == __version__
    assert report["AR/10"] == 0.125
    assert report["small: AR/100"] == 0.25
    assert math.isnan(report["AP"])
    assert list(report.flat) == ["AR/10", "AR/100", "AP", "small: AR/10", "small: AR/100"]
    with pytest.raises(KeyError, match="there are AR/10"):
        report["AR"]


def test_table() -> None:
    assert sample().table(digits=3) == (
        "class-agnostic recall of a test\n"
        "\n"
        "          all  small\n"
        "AR/10   0.125  0.000\n"
        "AR/100  0.500  0.250\n"
        "AP          -      -\n"
        "\n"
        "protocol    iou = [0.5, 0.95]\n"
        "protocol    proposals = 100\n"
        "protocol    crowd = ignored\n"
        "data        coco.json abababababab\n"
        "vocabulary  lvis cdcdcdcdcdcd\n"
        "checkpoint  pocket efefefefefef\n"
        f"anymask     {__version__}"
    )
    assert str(Report("one number", {"AP": 1})) == (
        f"one number\n\nAP  1.0000\n\nanymask  {__version__}"
    )


def test_a_report_does_not_change_with_what_it_was_made_of() -> None:
    metrics: dict[str, Any] = {"a": {"b": 1}}
    protocol = {"x": [1]}
    report = Report("t", metrics, protocol=protocol)
    metrics["a"]["b"] = 2
    protocol["x"].append(2)
    assert report["a/b"] == 1
    assert report.protocol == {"x": [1]}


def test_json_round_trip(tmp_path: Path) -> None:
    report = sample()
    path = tmp_path / "deep" / "r.json"
    text = report.to_json(path)
    assert path.read_text() == text
    assert json.loads(text)["metrics"]["AP"] is None
    assert Report.from_json(path) == report
    assert pickle.loads(pickle.dumps(report)) == report
    assert [entry.name for entry in path.parent.iterdir()] == ["r.json"]
    assert report != sample(title="another")
    assert report != 3


METRICS = st.recursive(
    st.one_of(st.floats(allow_infinity=False), st.integers(-(10**9), 10**9)),
    lambda inner: st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(
    st.dictionaries(st.text(max_size=4), METRICS, max_size=3),
    st.dictionaries(st.text(max_size=4), st.lists(st.integers(0, 9)), max_size=3),
)
def test_any_report_survives_its_file(metrics: Any, protocol: Any) -> None:
    report = Report("t", metrics, protocol=protocol)
    with tempfile.TemporaryDirectory() as folder:
        report.to_json(Path(folder) / "r.json")
        assert Report.from_json(Path(folder) / "r.json") == report
    assert isinstance(report.table(), str)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a report"),
        ("[" * 100_000, "not a report"),
        ("[]", "not a report"),
        ("{}", "not a report"),
        ('{"format": "anymask-report-1"}', "damaged"),
        ('{"format": "anymask-report-1", "metrics": 3, "slices": {}, "title": "t"}', "damaged"),
        (
            '{"format": "anymask-report-1", "metrics": {"a": "b"}, "slices": {}, "title": "t"}',
            "damaged",
        ),
        ('{"format": "anymask-report-1", "metrics": {}, "slices": {}, "t": "t"}', "damaged"),
    ],
)
def test_broken_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        Report.from_json(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        Report.from_json(tmp_path / "r.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"metrics": {"a": "b"}},
        {"metrics": {"a": None}},
        {"metrics": {"a": math.inf}},
        {"metrics": {1: 2}},
        {"metrics": 3},
        {"slices": {"small": 3}},
        {"protocol": {"a": object()}},
        {"protocol": {"a": math.nan}},
    ],
)
def test_malformed_reports(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        sample(**changes)


def test_diff() -> None:
    later = sample(metrics={"AR": {"10": 0.25, "100": 0.4}}, checkpoint={"pocket": "00" * 32})
    diff = sample().diff(later)
    assert diff.comparable
    assert diff.deltas["AR/10"] == pytest.approx(0.125)
    assert diff.deltas["AR/100"] == pytest.approx(-0.1)
    assert math.isnan(diff.deltas["AP"])
    assert diff.table(digits=2) == (
        "before  class-agnostic recall of a test\n"
        "after   class-agnostic recall of a test\n"
        "\n"
        "               before  after  change\n"
        "AR/10            0.12   0.25   +0.12\n"
        "AR/100           0.50   0.40   -0.10\n"
        "AP                  -      -       -\n"
        "small: AR/10     0.00   0.00   +0.00\n"
        "small: AR/100    0.25   0.25   +0.00"
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"protocol": {"iou": [0.5], "proposals": 100, "crowd": "ignored"}}, "protocol: iou"),
        ({"protocol": {}}, "protocol: proposals"),
        ({"data": {"coco.json": "00" * 32}}, "data: coco.json"),
        ({"vocabulary": {}}, "vocabulary: lvis"),
    ],
)
def test_what_is_not_comparable_is_refused(changes: dict[str, Any], named: str) -> None:
    other = sample(**changes)
    with pytest.raises(InputError, match=named):
        sample().diff(other)
    diff = sample().diff(other, allow_different_protocol=True)
    assert not diff.comparable
    assert named in diff.conditions
    assert "NOT COMPARABLE" in str(diff)
    assert named in str(diff)
