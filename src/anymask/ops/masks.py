"""Sets of masks: suppression of duplicates, containment, and measures in run-length space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymask.errors import SegmentsError
from anymask.ops import boxes as box_ops
from anymask.ops import rle as rle_ops
from anymask.ops.rle import RLE
from anymask.segments import Segments

# Pairs of masks whose overlap is computed at a time: bounds the memory of many masks.
_BLOCK = 256


def greedy_nms(iou: ArrayLike, iou_threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression on a matrix of overlaps.

    Going down the rows, a row is kept unless its IoU with a row kept before exceeds the threshold.

    Args:
        iou: (N, N) in 0..1, rows and columns in falling order of merit.
        iou_threshold: in 0..1; an IoU equal to it is kept.

    Returns:
        (K,) the kept rows, ascending.

    Raises:
        SegmentsError: the matrix is not square.
    """
    matrix = np.asarray(iou)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise SegmentsError(f"overlaps are a square matrix, not {matrix.shape}.")
    suppressed = np.zeros(len(matrix), bool)
    for row in range(len(matrix)):
        if not suppressed[row]:
            suppressed[row + 1 :] |= matrix[row, row + 1 :] > iou_threshold
    return np.flatnonzero(~suppressed)


def nms(
    masks: Segments | Sequence[RLE],
    scores: ArrayLike | None = None,
    iou_threshold: float = 0.5,
) -> NDArray[np.intp]:
    """Non-maximum suppression by mask IoU, without decoding.

    Args:
        masks: N masks of one picture.
        scores: (N,); by default those of the `Segments`. Equal scores keep their order, NaN
            comes last.
        iou_threshold: in 0..1; of two masks that overlap more, the one with the lower score goes.

    Returns:
        (K,) the rows that stay, by falling score.

    Raises:
        SegmentsError: masks of different sizes, scores that do not fit, or no scores.
    """
    if isinstance(masks, Segments):
        rles: Sequence[RLE] = masks.rles
        scores = masks.scores if scores is None else scores
    else:
        rles = masks
    if scores is None:
        raise SegmentsError("run-length masks have no scores of their own: give them.")
    merit = np.asarray(scores, np.float64)
    if merit.shape != (len(rles),):
        raise SegmentsError(f"scores have the shape {merit.shape}, expected ({len(rles)},).")
    order = np.argsort(-merit, kind="stable")
    if len(order) == 0:
        return order
    ordered = [rles[row] for row in order]
    return order[greedy_nms(iou_matrix(ordered), iou_threshold)]


def iou_matrix(rles: Sequence[RLE]) -> NDArray[np.float32]:
    """IoU of every pair of masks: (N, N) float32, computed only where their boxes meet.

    Raises:
        SegmentsError: masks of different picture sizes.
    """
    rle_ops.same_size(rles)
    count = len(rles)
    result = np.zeros((count, count), np.float32)
    tight = rle_ops.boxes(rles)
    for start in range(0, count, _BLOCK):
        rows = slice(start, min(start + _BLOCK, count))
        meets = box_ops.intersection(tight[rows], tight[start:]) > 0
        columns = [start + int(column) for column in np.flatnonzero(meets.any(axis=0))]
        if not columns:
            continue
        block = rle_ops.iou(rles[rows], [rles[column] for column in columns])
        result[rows, columns] = block
        result[columns, rows] = block.T
    return result


def containment(first: Sequence[RLE], second: Sequence[RLE]) -> NDArray[np.float64]:
    """How much of each first mask lies inside each second one.

    Returns:
        (N, M) float64 in 0..1: |first and second| / |first|; 0 for an empty first mask.

    Raises:
        SegmentsError: masks of different picture sizes.
    """
    # COCO's crowd rule is exactly this quotient.
    return rle_ops.iou(first, second, crowd=np.ones(len(second), bool))


def binarised(values: NDArray[Any]) -> NDArray[np.bool_]:
    """A mask from a picture of one: above one half where the largest value is 1, and above 127
    where it is more (WOW-Seg's rule). Any shape; bool stays as it is."""
    if values.dtype == bool:
        return values
    return np.asarray(values > (0.5 if values.size and values.max() <= 1 else 127))
