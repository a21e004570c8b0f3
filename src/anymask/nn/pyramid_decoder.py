"""A feature-pyramid pixel decoder: the cheap alternative to deformable attention.

Same interface as :class:`anymask.nn.pixel_decoder.DeformablePixelDecoder`, after the FPN baseline
of MaskFormer (Cheng et al. 2021, section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.pocket_backbone import normalise


class PyramidPixelDecoder(nn.Module):
    """Top-down feature pyramid.

    Args:
        in_channels: channels of the four backbone maps (strides 4, 8, 16, 32).
        dim: width D of the multi-scale maps.
        mask_dim: width M of the mask features.
    """

    def __init__(self, in_channels: Sequence[int], dim: int, mask_dim: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(c, dim, 1) for c in in_channels[1:])
        self.refine = nn.ModuleList(Refine(dim) for _ in in_channels[1:3])
        self.lateral_fine = nn.Conv2d(in_channels[0], mask_dim, 1)
        self.reduce = nn.Conv2d(dim, mask_dim, 1)
        self.fine = Refine(mask_dim)
        self.norm = normalise(mask_dim)
        self.mask_projection = nn.Conv2d(mask_dim, mask_dim, 1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Four maps (B, C_i, h_i, w_i) -> mask features (B, M, H/4, W/4), levels coarsest first.

        The levels are (B, D, h, w) at strides 32, 16 and 8.
        """
        c8, c16, c32 = (conv(f) for conv, f in zip(self.lateral, features[1:], strict=True))
        p32 = c32
        p16 = self.refine[1](c16 + enlarge(p32))
        p8 = self.refine[0](c8 + enlarge(p16))
        p4 = self.fine(self.lateral_fine(features[0]) + enlarge(self.reduce(p8)))
        return self.mask_projection(torch.relu(self.norm(p4))), [p32, p16, p8]


class Refine(nn.Module):
    """A 3x3 convolution around a residual, after a sum of two scales: (B, C, h, w), same out."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = normalise(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(torch.relu(self.norm(x)))  # type: ignore[no-any-return]


def enlarge(x: Tensor) -> Tensor:
    """Double both sides, bilinear."""
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
