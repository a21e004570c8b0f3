"""Mean features inside masks (FC-CLIP, section 3.3; specification of OVSNet, 2.6)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def mask_pool(features: Tensor, mask_logits: Tensor) -> Tensor:
    """Average features where a mask's logit is above 0.

    Args:
        features: (B, C, h, w).
        mask_logits: (B, N, h', w'); resized bilinearly to (h, w) when they have another size. No
            gradient flows into them.

    Returns:
        (B, N, C); zeros for a mask without any cell.
    """
    return pool(features, inside(mask_logits, features))


def inside(mask_logits: Tensor, features: Tensor) -> Tensor:
    """Which cells of features (B, C, h, w) each mask (B, N, h', w') covers: (B, N, h, w) bool."""
    size = features.shape[-2:]
    logits = mask_logits.detach()
    if logits.shape[-2:] != size:
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits > 0  # strictly: a logit of exactly 0 lies outside


def pool(features: Tensor, cells: Tensor) -> Tensor:
    """Average features (B, C, h, w) over cells (B, N, h, w) bool: (B, N, C)."""
    weights = cells.to(features.dtype).flatten(2)
    summed = weights @ features.flatten(2).transpose(1, 2)
    return summed / (weights.sum(-1, keepdim=True) + 1e-8)
