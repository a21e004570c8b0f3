"""Removing specks from masks, and filling holes (SAM's rules)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


def without_small_regions(
    mask: NDArray[np.bool_], area: float, what: Literal["holes", "islands"]
) -> tuple[NDArray[np.bool_], bool]:
    """Fill holes, or remove islands, of fewer than ``area`` pixels.

    Regions touch at corners too. A mask whose islands are all small keeps its largest.

    Args:
        mask: (H, W) bool.
        area: in pixels.
        what: which of the two.

    Returns:
        The mask, and whether anything changed.
    """
    wanted = ~mask if what == "holes" else mask
    regions, count = ndimage.label(wanted, np.ones((3, 3), int))
    sizes = np.bincount(regions.ravel(), minlength=count + 1)[1:]
    small = np.flatnonzero(sizes < area) + 1
    if not len(small):
        return mask, False
    if what == "holes":
        return mask | np.isin(regions, small), True
    large = np.setdiff1d(np.arange(1, count + 1), small)
    kept = large if len(large) else np.array([sizes.argmax() + 1])
    return np.isin(regions, kept), True
