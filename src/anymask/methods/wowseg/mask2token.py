"""Mask2Token: which of a crop's visual tokens speak for a mask (paper, section 3.2;
specification 2.4).

A mask is laid on the tile canvas (the picture, stretched to whole tiles), a window of ``scale``
times its size is cut out around it, and of the window's 16 x 16 tokens those are kept whose cell
lies in the mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

GRID = 16  # tokens a side of a crop
Box = tuple[int, int, int, int]  # x1, y1, x2, y2, the latter two exclusive
Thin = Literal["nearest_cell", "none"]


def on_canvas(mask: NDArray[np.bool_], canvas: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask (H, W) on the canvas of (width, height) pixels: nearest neighbour, (CH, CW) bool."""
    width, height = canvas
    small = torch.from_numpy(np.ascontiguousarray(mask))[None, None].float()
    return F.interpolate(small, (height, width), mode="nearest")[0, 0].numpy() > 0


def crop_box(mask: NDArray[np.bool_], scale: float) -> Box | None:
    """The window around a mask, inside of the canvas.

    The window is ``scale`` times the mask's longer side, square where the canvas allows it, and is
    shifted at the canvas's edges. All roundings are the released code's: towards zero, the last
    row and column included.

    Args:
        mask: (CH, CW) on the canvas.
        scale: 2 in the paper.

    Returns:
        The box, or None for an empty mask.
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    height, width = mask.shape
    side = scale * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
    x1, x2 = _span(columns[0], columns[-1], side, width)
    y1, y2 = _span(rows[0], rows[-1], side, height)
    return x1, y1, x2 + 1, y2 + 1


def _span(first: int, last: int, side: float, length: int) -> tuple[int, int]:
    """One axis of the window, the last pixel included."""
    middle = (int(first) + int(last)) / 2
    wanted = min(side, length)
    low = max(0, int(middle - wanted / 2))
    high = min(length - 1, int(middle + wanted / 2))
    if high - low + 1 < wanted:
        if low == 0:
            high = min(length - 1, int(low + wanted))
        else:
            low = max(0, int(high - wanted))
    return low, high


def shared_windows(
    masks: Sequence[NDArray[np.bool_]], windows: Sequence[Box | None], share: float
) -> list[Box | None]:
    """Fewer windows for the same masks: looking at crops is most of what naming costs.

    From the largest window on, a mask takes the smallest window there is that holds it whole and is
    at most ``share`` times as large (in area's root) as its own. At a scale of 2 and a share of
    1.75 a mask is then seen at a scale of 3.5 at most, over which the paper's accuracy is flat
    (Table 5).

    Args:
        masks: M on the canvas.
        windows: their own, None for empty masks.
        share: 1 or more.

    Returns:
        M windows.
    """
    found, chosen = list(windows), list[Box]()
    order = [k for k, window in enumerate(windows) if window is not None]
    order.sort(key=lambda k: _area(windows[k]), reverse=True)
    for k in order:
        rows, columns = np.flatnonzero(masks[k].any(1)), np.flatnonzero(masks[k].any(0))
        fits = [
            box
            for box in chosen
            if _area(box) <= share**2 * _area(windows[k])
            and box[0] <= columns[0] <= columns[-1] < box[2]
            and box[1] <= rows[0] <= rows[-1] < box[3]
        ]
        if fits:
            found[k] = min(fits, key=_area)
        else:
            chosen.append(windows[k])  # type: ignore[arg-type]
    return found


def _area(box: Box | None) -> int:
    return 0 if box is None else (box[2] - box[0]) * (box[3] - box[1])


def selector(
    mask: NDArray[np.bool_], box: Box, grid: int = GRID, thin: Thin = "nearest_cell"
) -> NDArray[np.bool_]:
    """Which cells of a crop lie in its mask: (grid, grid) bool.

    Args:
        mask: (CH, CW) on the canvas.
        box: of :func:`crop_box`.
        grid: cells a side.
        thin: a mask that no cell's sample hits keeps the cell it covers most
            (``"nearest_cell"``), or nothing, as in the released code.
    """
    part = mask[box[1] : box[3], box[0] : box[2]]
    small = torch.from_numpy(np.ascontiguousarray(part))[None, None].float()
    chosen = F.interpolate(small, (grid, grid), mode="nearest")[0, 0].numpy() > 0
    if thin == "nearest_cell" and not chosen.any():
        covered = F.adaptive_avg_pool2d(small, grid)[0, 0].numpy()
        chosen.flat[int(covered.argmax())] = True
    return np.asarray(chosen)
