"""Which image tokens a query may look at (specification 2.4 and 2.5).

Shape legend: M masks, S side of the canvas, P patch, G = S / P, K = windows + G^2 image tokens.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Lost = Literal["none", "centroid"]


def context_masks(masks: Tensor, ratio: float) -> Tensor:
    """The box around each mask, larger by ``ratio`` times its size on every side.

    Args:
        masks: (M, S, S) bool on the canvas, none of them empty.
        ratio: 0.5 in the final model; below 0 = the whole canvas.

    Returns:
        (M, S, S) bool.
    """
    if ratio < 0:
        return torch.ones_like(masks)
    found = torch.zeros_like(masks)
    for row, mask in zip(found, masks, strict=True):
        bounds = []
        for along in (1, 0):
            places = mask.any(along).nonzero()[:, 0]
            first, last = int(places[0]), int(places[-1])
            more = ratio * (last - first + 1)
            # Cut off towards zero, as the released code does.
            end = min(mask.shape[1 - along] - 1, int(last + more))
            bounds.append((max(0, int(first - more)), end))
        (top, bottom), (left, right) = bounds
        row[top : bottom + 1, left : right + 1] = True
    return found


def visible_tokens(masks: Tensor, patch: int, windows: int, lost: Lost = "none") -> Tensor:
    """Masks as image tokens that may be seen: (M, S, S) bool -> (M, K) bool.

    Every window's class token is always visible. A patch counts when its upper left pixel does.

    Args:
        masks: on the canvas.
        patch: side of a patch in pixels.
        windows: number of class tokens.
        lost: a mask that no patch's pixel hits sees class tokens only, as in the released code, or
            also the patch of its ``"centroid"``.
    """
    grid = masks[:, ::patch, ::patch].clone()
    if lost == "centroid":
        for row in (~grid.flatten(1).any(1) & masks.flatten(1).any(1)).nonzero()[:, 0].tolist():
            place = masks[row].nonzero().float().mean(0) // patch
            grid[row, int(place[0]), int(place[1])] = True
    patches = grid.flatten(1)
    return torch.cat([patches.new_ones(len(patches), windows), patches], 1)
