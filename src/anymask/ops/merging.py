"""Named masks -> a map in which every pixel belongs to one segment (OSM's demonstration,
specification 4.4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def merged(
    masks: Sequence[NDArray[np.bool_]],
    scores: Sequence[float],
    *,
    min_score: float = 0.2,
    overlap: float = 0.8,
    min_pixels: int = 100,
) -> tuple[NDArray[np.int32], list[int]]:
    """The surest mask first; a mask that lost too much to others is left out.

    Segments of the same name stay apart.

    Args:
        masks: N masks (H, W).
        scores: of each.
        min_score: masks below are left out.
        overlap: share of a mask that must be left.
        min_pixels: that must be left.

    Returns:
        (H, W) int32 map, 0 = nothing, k = the k-th kept mask, and the rows of the kept masks.
    """
    if not len(masks):
        return np.zeros((0, 0), np.int32), []
    found = np.zeros(masks[0].shape, np.int32)
    kept: list[int] = []
    for row in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        if scores[row] < min_score:
            continue
        left = masks[row] & (found == 0)
        pixels = int(left.sum())
        if overlap * int(masks[row].sum()) > pixels or pixels < min_pixels:
            continue
        kept.append(row)
        found[left] = len(kept)
    return found, kept
