"""Mask logits of a decoder -> the picture's size, without a dense stack of masks.

Masks are enlarged bilinearly from stride 4 to the padded input, cropped to the scaled picture and
resized bilinearly to the original (detectron2's ``sem_seg_postprocess``). Both steps are linear and
separable, so each axis is one sparse matrix.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit

from anymask.ops.rle import RLE, encode, place

CELLS_AT_ONCE = 1 << 20  # pixels of a mask that are resized at a time


def resize_matrix(cells: int, scaled: int, original: int) -> csr_array:
    """One axis of the resizing as a sparse matrix (original, cells).

    Masks are enlarged bilinearly from stride 4 to the padded input, cropped to the scaled picture
    and resized bilinearly to the original; both steps are linear and separable.
    """
    to_input = bilinear_matrix(cells, 4 * cells)[:scaled]
    return bilinear_matrix(scaled, original) @ to_input


def bilinear_matrix(before: int, after: int) -> csr_array:
    """Sparse (after, before) matrix of bilinear resizing, corners not aligned."""
    centre = ((np.arange(after) + 0.5) * (before / after) - 0.5).clip(0, before - 1)
    low = centre.astype(np.intp)
    high = np.minimum(low + 1, before - 1)
    share = (centre - low).astype(np.float32)
    index = np.arange(after)
    weights = np.concatenate([1 - share, share])
    where = (np.concatenate([index, index]), np.concatenate([low, high]))
    return csr_array((weights, where), shape=(after, before))


def resized_rle(
    logits: NDArray[np.float32], rows: csr_array, columns: csr_array
) -> tuple[RLE, float]:
    """Resize one mask and threshold it at logit 0.

    Args:
        logits: (h, w) at stride 4.
        rows, columns: (H, h) and (W, w), see :func:`resize_matrix`.

    Returns:
        The mask (H, W) and the mean probability inside it; 0 for an empty mask.
    """
    size = (rows.shape[0], columns.shape[0])
    positive = logits > 0
    # An average is positive only where one of its terms is.
    tall = np.flatnonzero(rows @ positive.any(1).astype(np.float32))
    wide = np.flatnonzero(columns @ positive.any(0).astype(np.float32))
    if len(tall) == 0 or len(wide) == 0:
        return encode(np.zeros(size, bool)), 0.0
    top, bottom, left, right = tall[0], tall[-1] + 1, wide[0], wide[-1] + 1
    half = np.ascontiguousarray((rows[top:bottom] @ logits).T)
    inside = np.zeros((right - left, bottom - top), bool)
    # The mean probability of a huge mask is taken over every k-th pixel of every k-th column:
    # it is smooth between cells of stride 4, and the sigmoid is the dearest step.
    every = max(1, math.isqrt(inside.size // CELLS_AT_ONCE))
    total, counted = 0.0, 0
    step = max(every, CELLS_AT_ONCE // (bottom - top) // every * every)
    for start in range(left, right, step):
        stripe = columns[start : min(start + step, right)] @ half
        found = stripe > 0
        inside[start - left : start - left + len(found)] = found
        sampled = stripe[::every, ::every]
        sampled = sampled[sampled > 0]
        total += float(expit(sampled).sum())
        counted += len(sampled)
    probability = total / (counted + 1e-6)
    return place(encode(inside.T), size, int(top), int(left)), probability


def long_side_size(width: int, height: int, side: int) -> tuple[int, int]:
    """(width, height) of a picture whose long side shall be ``side``, by OSM's released rule, which
    is torchvision's "shorter side to S - 1, longer side at most S", cut off twice."""
    if width == height:
        return side, side
    short, long = min(width, height), max(width, height)
    wanted = side - 1
    new_short, new_long = wanted, int(wanted * long / short)
    if new_long > side:
        new_short, new_long = int(side * new_short / new_long), side
    new_short = max(1, new_short)  # the released code fails on so thin a picture
    return (new_short, new_long) if width <= height else (new_long, new_short)
