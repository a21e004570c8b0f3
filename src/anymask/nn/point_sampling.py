"""Reading masks at points, and choosing the points (PointRend, Kirillov et al. 2020).

Points are (x, y) in 0..1 of the map: (0, 0) is the outer corner of the first cell, so the same
point means the same place in a prediction at stride 4 and in a truth mask at full size.

Shape legend: M masks, P points, (h, w) any map size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Bilinear values of maps at points; zero outside, corners not aligned.

    Args:
        maps: (M, h, w) float, bool or integer; read in float32, or float64 where they are float64.
        points: (P, 2), the same for all maps, or (M, P, 2), float, (x, y) in 0..1.

    Returns:
        (M, P) float32 or float64.
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    grid = (2 * points - 1).to(maps.dtype)
    if points.dim() == 2:
        # One call with the maps as channels: the corners are looked up once for all of them.
        if len(maps) == 0:
            return maps.new_zeros(0, len(points))
        return F.grid_sample(maps[None], grid[None, :, None], align_corners=False)[0, :, :, 0]
    sampled = F.grid_sample(maps[:, None], grid[:, :, None], align_corners=False)
    return sampled[:, 0, :, 0]


def generators(seeds: Sequence[int], device: torch.device | str = "cpu") -> list[torch.Generator]:
    """One random source per picture.

    A picture's points then depend on its own seed and its own objects alone, so a batch split over
    processes draws what one process with the whole batch would draw.
    """
    return [torch.Generator(device).manual_seed(seed) for seed in seeds]


def random_points(
    num_masks: int,
    num_points: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Uniform points (num_masks, num_points, 2) float32 in 0..1.

    Args:
        num_masks, num_points: how many.
        generator: source of chance on ``device``; None = the global one.
        device: where the points are wanted.
    """
    return torch.rand(num_masks, num_points, 2, generator=generator, device=device)


@torch.no_grad()
def most_uncertain(mask_logits: Tensor, candidates: Tensor, num_kept: int) -> Tensor:
    """Of the candidate points of every mask, those where the mask is least decided.

    Args:
        mask_logits: (M, h, w).
        candidates: (M, C, 2).
        num_kept: how many points to keep per mask, at most C.

    Returns:
        (M, num_kept, 2), smallest absolute logit first.
    """
    doubt = -sample_points(mask_logits, candidates).abs()
    chosen = doubt.topk(num_kept, dim=1).indices
    return candidates.gather(1, chosen[:, :, None].expand(-1, -1, 2))


@torch.no_grad()
def uncertain_points(
    mask_logits: Tensor,
    num_points: int,
    oversample_ratio: float = 3.0,
    importance_sample_ratio: float = 0.75,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Training points, mostly where the prediction hesitates (Mask2Former, section 3.3).

    ``oversample_ratio * num_points`` points are drawn per mask, the most uncertain are kept to
    fill ``importance_sample_ratio`` of the answer, and fresh uniform points fill the rest.

    Args:
        mask_logits: (M, h, w), the predictions of one picture that have an object.
        num_points: P.
        oversample_ratio: at least 1.
        importance_sample_ratio: in 0..1.
        generator: the picture's source of chance, on the device of ``mask_logits``.

    Returns:
        (M, P, 2) float32 in 0..1.

    Raises:
        ValueError: a ratio is out of its range.
    """
    if oversample_ratio < 1 or not 0 <= importance_sample_ratio <= 1:
        raise ValueError(
            f"oversample_ratio {oversample_ratio} must be at least 1 and "
            f"importance_sample_ratio {importance_sample_ratio} within 0..1"
        )
    masks, device = len(mask_logits), mask_logits.device
    num_kept = int(importance_sample_ratio * num_points)
    candidates = random_points(masks, int(num_points * oversample_ratio), generator, device)
    kept = most_uncertain(mask_logits, candidates, num_kept)
    fresh = random_points(masks, num_points - num_kept, generator, device)
    return torch.cat([kept, fresh], 1)
