"""Boxes: x1, y1, x2, y2 in pixels from the left and upper edge, x2 and y2 exclusive."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymask.errors import SegmentsError


def checked(boxes: ArrayLike) -> NDArray[np.float32]:
    """Boxes as (N, 4) float32.

    Raises:
        SegmentsError: the shape is another one, a number is not finite, or x2 < x1 or y2 < y1.
    """
    try:
        array = np.array(boxes, np.float32)
    except (TypeError, ValueError) as error:
        raise SegmentsError("boxes are an array (N, 4) of numbers x1, y1, x2, y2.") from error
    if array.size == 0:
        return np.zeros((0, 4), np.float32)
    if array.ndim != 2 or array.shape[1] != 4:
        raise SegmentsError(f"boxes are an array (N, 4), not one of shape {array.shape}.")
    if not np.isfinite(array).all():
        raise SegmentsError("boxes contain NaN or infinite numbers.")
    wrong = np.flatnonzero((array[:, 2:] < array[:, :2]).any(axis=1))
    if len(wrong):
        row = int(wrong[0])
        raise SegmentsError(
            f"box {row} is {array[row].tolist()}, but x2 >= x1 and y2 >= y1 are expected; "
            "boxes given as x, y, width, height are converted by boxes.from_xywh."
        )
    return array


def from_xywh(boxes: ArrayLike) -> NDArray[np.float32]:
    """COCO's x, y, width, height -> x1, y1, x2, y2: (N, 4) float32."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    array[:, 2:] += array[:, :2]
    return array


def to_xywh(boxes: ArrayLike) -> NDArray[np.float32]:
    """x1, y1, x2, y2 -> COCO's x, y, width, height: (N, 4) float32."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    array[:, 2:] -= array[:, :2]
    return array


def area(boxes: ArrayLike) -> NDArray[np.float64]:
    """Areas in square pixels: (N,) float64, zero for boxes without extent."""
    array = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = np.maximum(array[:, 2:] - array[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1], np.float64)


def intersection(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection areas of every pair in square pixels: (N, 4), (M, 4) -> (N, M) float64."""
    a = np.asarray(first, np.float64).reshape(-1, 1, 4)
    b = np.asarray(second, np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    sides = np.maximum(sides, 0)
    return np.asarray(sides[..., 0] * sides[..., 1], np.float64)


def iou(first: ArrayLike, second: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union of every pair: (N, 4), (M, 4) -> (N, M) float64 in 0..1.

    Boxes without extent have 0 with everything.
    """
    inner = intersection(first, second)
    union = area(first)[:, None] + area(second)[None, :] - inner
    return np.divide(inner, union, out=np.zeros_like(inner), where=union > 0)


def clip(boxes: ArrayLike, size: tuple[int, int]) -> NDArray[np.float32]:
    """Cut boxes at the edges of a picture.

    Args:
        boxes: (N, 4).
        size: (H, W) of the picture in pixels.
    """
    array = np.array(boxes, np.float32).reshape(-1, 4)
    height, width = size
    array[:, 0::2] = array[:, 0::2].clip(0, width)
    array[:, 1::2] = array[:, 1::2].clip(0, height)
    return array


def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> NDArray[np.intp]:
    """Non-maximum suppression by box IoU.

    Args:
        boxes: (N, 4).
        scores: (N,); equal ones keep their order.
        iou_threshold: in 0..1; of two boxes that overlap more, the one with the lower score goes.

    Returns:
        (K,) the rows that stay, by falling score.
    """
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    ordered = np.asarray(boxes, np.float64).reshape(-1, 4)[order]
    suppressed = np.zeros(len(order), bool)
    for row in range(len(order)):  # one row of overlaps at a time: thousands of boxes fit
        if not suppressed[row]:
            later = np.flatnonzero(~suppressed[row + 1 :]) + row + 1
            over = iou(ordered[row : row + 1], ordered[later])[0] > iou_threshold
            suppressed[later[over]] = True
    return order[~suppressed]
