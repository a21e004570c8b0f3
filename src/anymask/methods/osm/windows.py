"""A large canvas through a small frozen eye (specification 2.2): windows of the size it was trained
at, class tokens kept apart, overlapping patches averaged."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Eye = Callable[[Tensor], Tensor]  # (n, 3, W, W) -> (n, 1 + g^2, C), the class token first


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along one axis; the last one is shifted back to end with the canvas."""
    count = max(side - window + stride - 1, 0) // stride + 1
    return [max(min(k * stride + window, side) - window, 0) for k in range(count)]


def windowed(
    pixels: Tensor, eye: Eye, window: int, stride: int, patch: int, at_once: int
) -> Tensor:
    """Image tokens of canvases.

    Args:
        pixels: (B, 3, S, S).
        eye: of one size of window.
        window, stride, patch: in pixels; S, window and stride are multiples of the patch.
        at_once: windows the eye sees together.

    Returns:
        (B, n^2 + G^2, C): class tokens of the windows row by row, then the patches of the whole
        canvas row by row.
    """
    side = pixels.shape[-1]
    places = [(y, x) for y in starts(side, window, stride) for x in starts(side, window, stride)]
    crops = torch.stack([pixels[..., y : y + window, x : x + window] for y, x in places], 1)
    seen = torch.cat([eye(part) for part in crops.flatten(0, 1).split(at_once)])
    seen = seen.unflatten(0, (len(pixels), len(places)))  # (B, n^2, 1 + g^2, C)
    cells, grid = window // patch, side // patch
    total = seen.new_zeros(len(pixels), grid, grid, seen.shape[-1])
    counts = seen.new_zeros(grid, grid, 1)
    for k, (y, x) in enumerate(places):
        rows, columns = (slice(v // patch, v // patch + cells) for v in (y, x))
        total[:, rows, columns] += seen[:, k, 1:].unflatten(1, (cells, cells))
        counts[rows, columns] += 1
    return torch.cat([seen[:, :, 0], (total / counts).flatten(1, 2)], 1)
