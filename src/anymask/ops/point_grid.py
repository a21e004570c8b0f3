"""Grids of points and overlapping crops, for models that are asked point by point (SAM's rules)."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

OVERLAP = 512 / 1500  # of neighbouring crops, as a share of the picture's short side
EDGE = 20.0  # pixels: a box that ends this near to a crop's edge was probably cut there


def point_grid(per_side: int) -> NDArray[np.float64]:
    """Evenly spaced points: (n * n, 2) x, y in 0..1, row by row."""
    place = (np.arange(per_side) + 0.5) / per_side
    return np.stack([np.tile(place, per_side), np.repeat(place, per_side)], axis=1)


def layer_grids(per_side: int, layers: int, shrink: int = 1) -> list[NDArray[np.float64]]:
    """A grid for the whole picture and one for every layer of crops, each ``shrink`` times coarser
    than the one before."""
    return [point_grid(int(per_side / shrink**k)) for k in range(layers + 1)]


def crop_boxes(
    size: tuple[int, int], layers: int, overlap: float = OVERLAP
) -> list[tuple[tuple[int, int, int, int], int]]:
    """The picture, then 4 crops, 16, 64, ...

    Args:
        size: (H, W) in pixels.
        layers: 0 = the picture alone.
        overlap: of neighbours in the first layer, as a share of the short side; half in the next.

    Returns:
        (x1, y1, x2, y2), x2 and y2 exclusive, and the layer of each.
    """
    height, width = size
    found = [((0, 0, width, height), 0)]
    for layer in range(1, layers + 1):
        count = 2**layer
        shared = int(overlap * min(size) * (2 / count))
        wide, tall = (math.ceil((shared * (count - 1) + s) / count) for s in (width, height))
        lefts = [(wide - shared) * k for k in range(count)]
        tops = [(tall - shared) * k for k in range(count)]
        found += [
            ((x, y, min(x + wide, width), min(y + tall, height)), layer)
            for x, y in itertools.product(lefts, tops)
        ]
    return found


def cut_off(
    boxes: ArrayLike,
    crop: tuple[int, int, int, int],
    size: tuple[int, int],
    tolerance: float = EDGE,
) -> NDArray[np.bool_]:
    """Whether boxes end at an edge of their crop that is no edge of the picture.

    Args:
        boxes: (N, 4) x1, y1, x2, y2 in the crop's pixels.
        crop: x1, y1, x2, y2 in the picture's.
        size: (H, W) of the picture.
        tolerance: in pixels.

    Returns:
        (N,) bool.
    """
    placed = np.asarray(boxes, np.float64).reshape(-1, 4) + np.tile(crop[:2], 2)
    at_crop = np.abs(placed - np.asarray(crop)) <= tolerance
    at_picture = np.abs(placed - np.array([0, 0, size[1], size[0]])) <= tolerance
    return np.asarray((at_crop & ~at_picture).any(1))
