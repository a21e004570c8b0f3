"""Boxes: conversions and overlaps against numbers computed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anymask.errors import SegmentsError
from anymask.ops import boxes

TWO = [[0, 0, 4, 2], [1, 1, 3, 5]]


def test_areas_and_overlaps() -> None:
    assert boxes.area(TWO).tolist() == [8, 8]
    assert boxes.intersection(TWO, TWO).tolist() == [[8, 2], [2, 8]]
    assert np.allclose(boxes.iou(TWO, TWO), [[1, 2 / 14], [2 / 14, 1]])
    assert boxes.iou([[1, 1, 1, 1]], [[1, 1, 1, 1]]).tolist() == [[0]]
    assert boxes.iou(np.zeros((0, 4)), TWO).shape == (0, 2)
    assert boxes.intersection([[0, 0, 1, 1]], [[2, 2, 3, 3]]).tolist() == [[0]]


def test_conversions() -> None:
    assert boxes.to_xywh(TWO).tolist() == [[0, 0, 4, 2], [1, 1, 2, 4]]
    assert boxes.from_xywh(boxes.to_xywh(TWO)).tolist() == TWO
    assert boxes.from_xywh([]).shape == (0, 4)
    assert boxes.clip([[-3, -2, 9, 4]], (3, 5)).tolist() == [[0, 0, 5, 3]]


def test_inputs_are_not_changed() -> None:
    array = np.array(TWO, np.float32)
    boxes.to_xywh(array)
    boxes.clip(array, (1, 1))
    assert array.tolist() == TWO


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[0, 0, 1]], r"\(N, 4\)"),
        ([0, 0, 1, 1], r"\(N, 4\)"),
        ([[0, 0, np.nan, 1]], "NaN"),
        ([[0, 0, np.inf, 1]], "infinite"),
        ([[0, 0, 1, 1], [5, 5, 2, 2]], "box 1"),
        ([["a", 0, 1, 1]], "numbers"),
        ([[0, 0, 1, 1], [0]], "numbers"),
    ],
)
def test_malformed_boxes(value: Any, message: str) -> None:
    with pytest.raises(SegmentsError, match=message):
        boxes.checked(value)
