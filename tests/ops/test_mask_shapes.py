"""Boxes, rotated boxes and ellipses of masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymask.ops.mask_shapes import box, ellipse, rotated_box, shaped


def drawn_ellipse(size: tuple[int, int], centre: tuple[float, float], axes: tuple[float, float],
                  turn: float) -> np.ndarray:  # fmt: skip
    y, x = np.indices(size)
    u = (x - centre[0]) * np.cos(turn) + (y - centre[1]) * np.sin(turn)
    v = -(x - centre[0]) * np.sin(turn) + (y - centre[1]) * np.cos(turn)
    return (u / axes[0]) ** 2 + (v / axes[1]) ** 2 <= 1


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@given(st.floats(0, np.pi), st.floats(8, 20), st.floats(8, 20))
def test_an_ellipse_is_its_own(turn: float, long: float, short: float) -> None:
    mask = drawn_ellipse((64, 64), (31.3, 32.6), (long, short), turn)
    assert iou(ellipse(mask), mask) > 0.93


@given(st.floats(0, np.pi / 2))
def test_a_turned_rectangle_is_its_own(turn: float) -> None:
    y, x = np.indices((80, 80)) - 40
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    mask = (abs(u) <= 25) & (abs(v) <= 10)
    found = rotated_box(mask)
    assert (found | ~mask).all()
    assert iou(found, mask) > 0.85
    if 0.3 < turn < np.pi / 2 - 0.3:
        assert found.sum() < 0.8 * box(mask).sum()


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 29)), min_size=1, max_size=12))
def test_any_mask_lies_in_its_boxes(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((20, 30), bool)
    for y, x in pixels:
        mask[y, x] = True
    assert (box(mask) | ~mask).all()
    assert (rotated_box(mask) | ~mask).all()
    assert rotated_box(mask).sum() <= box(mask).sum() + 4 * (20 + 30)
    assert ellipse(mask).any()


def test_thin_and_empty_masks() -> None:
    line = np.zeros((9, 20), bool)
    line[4, 3:15] = True
    np.testing.assert_array_equal(rotated_box(line), line)
    np.testing.assert_array_equal(box(line), line)
    assert 0.8 < iou(ellipse(line), line) <= 1
    empty = np.zeros((4, 4), bool)
    for shape in ("true", "box", "rotated-box", "ellipse"):
        assert not shaped(empty, shape).any()  # type: ignore[arg-type]
    assert shaped(line, "true") is line
    with pytest.raises(KeyError):
        shaped(line, "circle")  # type: ignore[arg-type]
