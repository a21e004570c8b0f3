"""Mean IoU and panoptic quality against oracles and slow, independent code."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymask.errors import InputError
from anymask.metrics.panoptic import PanopticQuality, Segment
from anymask.metrics.semantic import ConfusionMatrix

A, B, C, IGNORED = 0, 1, 2, -1


def measured(truth: list[int], found: list[int], classes: int, **how: Any) -> dict[str, float]:
    table = ConfusionMatrix(classes)
    table.add(np.array([truth]), np.array([found]))
    return table.summary(**how)


def test_oracle_o13() -> None:
    truth = [A, A, A, B, B, B, IGNORED, IGNORED]
    result = measured(truth, [A, A, B, B, B, C, A, C], 3)
    assert result["mIoU"] == pytest.approx(0.583333, abs=1e-6)
    assert result["mIoU_present_or_predicted"] == pytest.approx(0.388889, abs=1e-6)
    assert result["classes_present"] == 2
    assert result["classes_present_or_predicted"] == 3


def test_oracle_o13_others() -> None:
    others = 1
    truth, found = [A, A, others, others], [A, others, others, A]
    assert measured(truth, found, 2)["mIoU"] == pytest.approx(1 / 3)
    assert measured([A, A, -1, -1], found, 2)["mIoU"] == pytest.approx(1 / 2)
    assert measured(truth, found, 2, left_out=[others])["mIoU"] == pytest.approx(1 / 3)


def test_no_prediction_is_a_miss() -> None:
    assert measured([A, A], [A, -1], 1)["mIoU"] == 0.5


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 5), st.integers(0, 10**6))
def test_against_sets_of_pixels(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(-1, classes, (2, 4, 5))
    table = ConfusionMatrix(classes)
    for t, f in ((truth[:2], found[:2]), (truth[2:], found[2:])):  # streamed
        table.add(t, f)
    judged = truth >= 0
    expected = {}
    for c in range(classes):
        one, two = (truth == c) & judged, (found == c) & judged
        if one.any():
            expected[c] = (one & two).sum() / (one | two).sum()
    got = table.summary(groups={"even": range(0, classes, 2)})
    if expected:
        assert got["mIoU"] == pytest.approx(np.mean(list(expected.values())))
        assert got["pACC"] == pytest.approx(((truth == found) & judged).sum() / judged.sum())
    even = [v for c, v in expected.items() if c % 2 == 0]
    assert math.isnan(got["mIoU_even"]) if not even else True
    if even:
        assert got["mIoU_even"] == pytest.approx(np.mean(even))


def test_similarity_bins() -> None:
    result = measured([0, 1, 2], [0, 1, 0], 3, similarity=[0.55, 1.0, 0.79])
    assert result["mIoU_sim_0.5_0.6"] == 0.5
    assert result["mIoU_sim_0.9_1"] == 1.0
    assert result["mIoU_sim_0.7_0.8"] == 0.0
    assert math.isnan(result["mIoU_sim_0_0.5"])


def test_wrong_input() -> None:
    table = ConfusionMatrix(2)
    with pytest.raises(InputError, match="class 5, but there are 2"):
        table.add(np.array([[5]]), np.array([[0]]))
    with pytest.raises(InputError, match="pixels"):
        table.add(np.zeros((2, 2), int), np.zeros((2, 3), int))
    with pytest.raises(InputError, match="at least 1 class"):
        ConfusionMatrix(0)


# ---------------------------------------------------------------------------------- panoptic


def slow_pq(
    truth: np.ndarray, ts: list[Segment], found: np.ndarray, fs: list[Segment], category: int
) -> float:
    """PQ of one class, pixel set by pixel set."""
    sets = lambda m, s: {(y, x) for y, x in zip(*np.nonzero(m == s.id), strict=True)}  # noqa: E731
    void = {(y, x) for y, x in zip(*np.nonzero(truth == 0), strict=True)}
    true = [s for s in ts if s.category == category and sets(truth, s)]
    said = [s for s in fs if s.category == category and sets(found, s)]
    crowd = set().union(*[sets(truth, s) for s in true if s.crowd], set())
    total, pairs = 0.0, set()
    for t, f in itertools.product([t for t in true if not t.crowd], said):
        a, b = sets(truth, t), sets(found, f)
        iou = len(a & b) / len((a | b) - (void & b))
        if iou > 0.5:
            total += iou
            pairs.add((t.id, f.id))
    hit_t, hit_f = {t for t, _ in pairs}, {f for _, f in pairs}
    fn = sum(t.id not in hit_t for t in true if not t.crowd)
    fp = 0
    for f in said:
        pixels = sets(found, f)
        if f.id not in hit_f and len(pixels & (void | crowd)) / len(pixels) <= 0.5:
            fp += 1
    weight = len(pairs) + fp / 2 + fn / 2
    return total / weight if weight else math.nan


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_against_slow_code(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 5, (3, 3)), np.ones((2, 2), int))
    found = np.where(rng.random((6, 6)) < 0.75, truth, rng.integers(0, 5, (6, 6)))
    crowd = int(rng.integers(1, 6))
    ts = [Segment(k, int(rng.integers(2)), k == crowd) for k in range(1, 5)]
    fs = [
        Segment(k, ts[k - 1].category if rng.random() < 0.8 else int(rng.integers(2)))
        for k in range(1, 5)
    ]
    quality = PanopticQuality([0, 1], things=[0])
    quality.add(truth, ts, found, fs)
    got = quality.summary()
    for category in (0, 1):
        expected = slow_pq(truth, ts, found, fs, category)
        assert got["per_class"][str(category)] == pytest.approx(expected, nan_ok=True)


def test_perfect_and_empty() -> None:
    ids = np.array([[1, 1, 2], [1, 1, 2]])
    segments = [Segment(1, 7), Segment(2, 9)]
    quality = PanopticQuality([7, 8, 9], things=[7])
    quality.add(ids, segments, ids, segments)
    assert quality.summary()["PQ"] == 1.0
    assert quality.summary()["PQ_things"] == 1.0
    assert math.isnan(quality.summary()["per_class"]["8"])
    quality.add(ids, segments, np.zeros_like(ids), [])
    assert quality.summary()["RQ"] == pytest.approx(1 / 1.5)
    assert quality.summary()["SQ"] == 1.0


def test_broken_maps() -> None:
    quality = PanopticQuality([1], things=[1])
    one = np.ones((2, 2), int)
    with pytest.raises(InputError, match="does not list"):
        quality.add(one, [], one, [])
    with pytest.raises(InputError, match="unknown category 3"):
        quality.add(one, [Segment(1, 3)], one, [])
    with pytest.raises(InputError, match="pixels"):
        quality.add(one, [Segment(1, 1)], one[:1], [])
