"""The sine position code of DETR (Carion et al. 2020, appendix A.4), normalised form."""

from __future__ import annotations

import functools
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

    The last few codes are kept, because a pixel decoder and its query decoder ask for the same
    ones: do not write into the answer.

    Args:
        size: (h, w) of the map.
        dim: number of features; half describe y, half x. Must be a multiple of 4.
        device: where the code is wanted.
        dtype: of the answer.
        temperature: ratio of the longest to the shortest wavelength.

    Returns:
        (dim, h, w) in [-1, 1], computed in float32 (float64 when ``dtype`` is float64).

    Raises:
        ValueError: ``dim`` is not a multiple of 4.
    """
    if dim % 4:
        raise ValueError(f"a position code needs a multiple of 4 features, not {dim}")
    height, width = size
    return _sine_position(int(height), int(width), dim, torch.device(device), dtype, temperature)


@functools.lru_cache(maxsize=6)  # three levels of two picture sizes
def _sine_position(
    height: int, width: int, dim: int, device: torch.device, dtype: torch.dtype, temperature: float
) -> Tensor:
    exact = torch.float64 if dtype == torch.float64 else torch.float32
    # A code first asked for in inference mode must still serve a later training step.
    with torch.inference_mode(False), torch.no_grad():
        y = torch.arange(1, height + 1, dtype=exact, device=device) / (height + 1e-6)
        x = torch.arange(1, width + 1, dtype=exact, device=device) / (width + 1e-6)
        code_y = sine_features(y * (2 * math.pi), dim // 2, temperature)
        code_x = sine_features(x * (2 * math.pi), dim // 2, temperature)
        code_y = code_y[:, None, :].expand(height, width, -1)
        code_x = code_x[None, :, :].expand(height, width, -1)
        return torch.cat([code_y, code_x], -1).permute(2, 0, 1).to(dtype)


def sine_features(angle: Tensor, dim: int, temperature: float = 10000.0) -> Tensor:
    """Interleaved sines and cosines: angles (...) in radians -> (..., dim) in [-1, 1]."""
    index = torch.arange(dim, dtype=angle.dtype, device=angle.device)
    frequency = temperature ** (2 * torch.div(index, 2, rounding_mode="floor") / dim)
    phase = angle[..., None] / frequency
    return torch.stack([phase[..., 0::2].sin(), phase[..., 1::2].cos()], -1).flatten(-2)
