"""Filling polygons by OpenCV's rule (``fillPoly`` with whole coordinates): the inside and every
pixel that the outline's lines touch.

pycocotools leaves half of the outline out; files that were rasterised the other way are read with
this, so that masks are the same to the pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

ONE = 1 << 16  # OpenCV's fixed point


def fill_polygons(rings: Sequence[ArrayLike], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Everything inside of at least one ring.

    Args:
        rings: (P, 2) corners each, x and y in pixels, cut off towards zero.
        size: (height, width).

    Returns:
        (H, W) bool.
    """
    mask = np.zeros(size, bool)
    for ring in rings:
        corners = np.trunc(np.asarray(ring, np.float64)).astype(np.int64)
        if len(corners):
            mask |= _filled(corners, size)
    return mask


def _filled(corners: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    before = np.roll(corners, 1, axis=0)
    for (x0, y0), (x1, y1) in zip(before.tolist(), corners.tolist(), strict=True):
        _line(mask, x0, y0, x1, y1)
    edges = []  # first row, last row (not included), x at the first row, step of x a row
    for (x0, y0), (x1, y1) in zip(before.tolist(), corners.tolist(), strict=True):
        if y0 == y1:
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        # An edge that leaves the picture has the slope of what is seen of it.
        shown = _clipped([x0, y0], [x1, y1], size[1] - 1, size[0] - 1)
        (u0, v0), (u1, v1) = shown if shown and shown[0][1] != shown[1][1] else ((x0, y0), (x1, y1))
        step = _toward_zero((u1 - u0) * ONE, v1 - v0)
        edges.append((y0, y1, u0 * ONE + (y0 - v0) * step, step))
    for y in range(max(0, int(corners[:, 1].min())), min(size[0], int(corners[:, 1].max()))):
        crossings = sorted(x + (y - top) * step for top, end, x, step in edges if top <= y < end)
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            first, last = -(-left // ONE), right // ONE
            if first <= last and last >= 0:
                mask[y, max(first, 0) : last + 1] = True
    return mask


def _line(mask: NDArray[np.bool_], x0: int, y0: int, x1: int, y1: int) -> None:
    """The pixels of a line: along its longer side one pixel each, the other rounded."""
    ends = _clipped([x0, y0], [x1, y1], mask.shape[1] - 1, mask.shape[0] - 1)
    if ends is None:
        return
    (x0, y0), (x1, y1) = ends
    if x1 < x0:  # from left to right, always
        x0, y0, x1, y1 = x1, y1, x0, y0
    steps = max(abs(x1 - x0), abs(y1 - y0))
    k = np.arange(steps + 1)
    # Bresenham's error term starts in the middle, and ties stay.
    sides = [_steps(end - start, steps, k) + start for start, end in ((x0, x1), (y0, y1))]
    mask[sides[1], sides[0]] = True


def _clipped(
    first: list[int], second: list[int], right: int, bottom: int
) -> tuple[list[int], list[int]] | None:
    """The part of a line inside of the picture, its ends cut to whole pixels towards themselves."""
    for axis, last in ((1, bottom), (0, right)):
        low, high = (min(first[axis], second[axis]), max(first[axis], second[axis]))
        if high < 0 or low > last:
            return None
        for one, other in ((first, second), (second, first)):
            edge = min(max(one[axis], 0), last)
            if edge != one[axis]:
                way = (edge - one[axis]) * (other[1 - axis] - one[1 - axis])
                one[1 - axis] += _toward_zero(way, other[axis] - one[axis])
                one[axis] = edge
    return first, second


def _steps(way: int, steps: int, k: NDArray[np.int64]) -> NDArray[np.int64]:
    if steps == 0:
        return np.zeros_like(k)
    # ceil(k |way| / steps - 1/2): half a pixel is not yet the next one.
    return np.asarray(np.sign(way) * ((2 * k * abs(way) + steps - 1) // (2 * steps)))


def _toward_zero(number: int, by: int) -> int:
    return abs(number) // abs(by) * (1 if (number >= 0) == (by > 0) else -1)
