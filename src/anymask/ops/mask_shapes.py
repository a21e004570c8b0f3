"""Coarser masks in place of exact ones: how robust is naming to the mask (WOW-Seg, Table 7)?"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Shape = Literal["true", "box", "rotated-box", "ellipse"]


def shaped(mask: NDArray[np.bool_], shape: Shape) -> NDArray[np.bool_]:
    """A mask as its box, its smallest rotated box or its ellipse; empty masks stay empty.

    Args:
        mask: (H, W) bool.
        shape: see the functions below; ``"true"`` = as it is.

    Returns:
        (H, W) bool.
    """
    if shape == "true" or not mask.any():
        return mask
    return {"box": box, "rotated-box": rotated_box, "ellipse": ellipse}[shape](mask)


def box(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The upright rectangle around a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    found = np.zeros_like(mask)
    found[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
    return found


def rotated_box(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rectangle of the smallest area around a mask's pixels (their whole squares), turned as
    it may be; one of its sides lies along the mask's convex hull. Cut off at the picture."""
    from scipy.spatial import ConvexHull

    corners = _outline(mask)
    hull = corners[ConvexHull(corners).vertices]
    edges = np.roll(hull, -1, axis=0) - hull
    along = edges / np.linalg.norm(edges, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    lows, highs = [], []
    for axes in (along, across):
        spread = axes @ hull.T
        lows.append(spread.min(1))
        highs.append(spread.max(1))
    best = int(((highs[0] - lows[0]) * (highs[1] - lows[1])).argmin())
    y, x = np.indices(mask.shape) + 0.5
    inside = np.ones(mask.shape, bool)
    for axes, low, high in zip((along, across), lows, highs, strict=True):
        spread = axes[best, 0] * x + axes[best, 1] * y
        inside &= (spread >= low[best]) & (spread <= high[best])
    return inside


def ellipse(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The filled ellipse with a mask's centre and second moments: of an ellipse, itself.

    Pixels whose Mahalanobis distance is at most 2 (a filled ellipse's half axis is twice the
    deviation along it); a mask one pixel thin counts as half a pixel wide to each side. The paper
    does not say how its ellipses were made.
    """
    rows, columns = np.nonzero(mask)
    places = np.stack([columns, rows], 1).astype(np.float64)
    centre = places.mean(0)
    away = places - centre
    # A pixel is a square with moments of its own (1/12); half a pixel is 1/16 = (1/2)^2 / 4.
    spread = away.T @ away / len(places) + np.eye(2) / 16
    y, x = np.indices(mask.shape)
    from_centre = np.stack([x - centre[0], y - centre[1]], -1)
    distance = np.einsum("hwi,ij,hwj->hw", from_centre, np.linalg.inv(spread), from_centre)
    return np.asarray(distance <= 4)


def _outline(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The corners of the first and last pixel of every row: all that a convex hull needs."""
    rows = np.flatnonzero(mask.any(1))
    first = mask[rows].argmax(1)
    last = mask.shape[1] - mask[rows][:, ::-1].argmax(1)
    return np.array(
        [
            (x, y)
            for row, left, right in zip(rows.tolist(), first.tolist(), last.tolist(), strict=True)
            for x, y in ((left, row), (left, row + 1), (right, row), (right, row + 1))
        ],
        np.float64,
    )
