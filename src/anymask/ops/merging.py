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


def mask_wise(
    masks: Sequence[NDArray[np.bool_]],
    scores: Sequence[float],
    classes: Sequence[int],
    is_thing: Sequence[bool],
    *,
    overlap: float = 0.8,
) -> tuple[NDArray[np.int32], list[int]]:
    """kMaX-DeepLab's merging (specification 4.5): the surest first, stuff of a class joined.

    Args:
        masks: N masks (H, W).
        scores: of each, class score times mask score.
        classes: of each.
        is_thing: of each mask's class.
        overlap: more than this share of a mask must be left.

    Returns:
        (H, W) int32 map, 0 = nothing, and for each number 1, 2, ... the surest row of it.
    """
    if not len(masks):
        return np.zeros((0, 0), np.int32), []
    found = np.zeros(masks[0].shape, np.int32)
    kept: list[int] = []
    stuff: dict[int, int] = {}
    for row in np.argsort(-np.asarray(scores, np.float64), kind="stable").tolist():
        left = masks[row] & (found == 0)
        if int(left.sum()) <= overlap * int(masks[row].sum()):
            continue
        number = None if is_thing[row] else stuff.get(classes[row])
        if number is None:
            kept.append(row)
            number = len(kept)
            if not is_thing[row]:
                stuff[classes[row]] = number
        found[left] = number
    return found, kept
