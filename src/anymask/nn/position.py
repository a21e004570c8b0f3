"""The sine position code of DETR (Carion et al. 2020, appendix A.4), normalised form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def sine_position(
    size: Sequence[int],
    dim: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    temperature: float = 10000.0,
) -> Tensor:
    """Position code of every cell of a map.

    Args:
        size: (h, w) of the map.
        dim: number of features; half describe y, half x. Must be a multiple of 4.

    Returns:
        (dim, h, w) in [-1, 1], computed in float32 (float64 when ``dtype`` is float64).
    """
    height, width = size
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    y = torch.arange(1, height + 1, dtype=exact, device=device) / (height + 1e-6) * 2 * math.pi
    x = torch.arange(1, width + 1, dtype=exact, device=device) / (width + 1e-6) * 2 * math.pi
    code_y = sine_features(y, dim // 2, temperature)[:, None, :].expand(height, width, -1)
    code_x = sine_features(x, dim // 2, temperature)[None, :, :].expand(height, width, -1)
    return torch.cat([code_y, code_x], -1).permute(2, 0, 1).to(dtype)


def sine_features(angle: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """Interleaved sines and cosines: angles (...) in radians -> (..., dim) in [-1, 1]."""
    index = torch.arange(dim, dtype=angle.dtype, device=angle.device)
    frequency = temperature ** (2 * torch.div(index, 2, rounding_mode="floor") / dim)
    phase = angle[..., None] / frequency
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], -1).flatten(-2)
