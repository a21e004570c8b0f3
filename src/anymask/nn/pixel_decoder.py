"""Mask2Former's pixel decoder: deformable attention over three levels, then one pyramid step.

Source: Mask2Former (Cheng et al. 2022, section 3.2.1), built as the official code builds it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.deformable_attention import DeformableAttention
from anymask.nn.position import sine_position

GROUPS = 32  # of the group normalisations


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention and feed-forward, post-norm."""

    def __init__(self, dim: int, heads: int, levels: int, points: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, heads, levels, points)
        self.norm1 = nn.LayerNorm(dim)
        self.linear1 = nn.Linear(dim, ffn_dim)
        self.linear2 = nn.Linear(ffn_dim, dim)
        self.norm2 = nn.LayerNorm(dim)

    def forward(
        self, state: Tensor, position: Tensor, points: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """(B, S, D) -> (B, S, D); see :class:`DeformableAttention`."""
        state = self.norm1(state + self.self_attn(state, position, points, shapes))
        return self.norm2(  # type: ignore[no-any-return]
            state + self.linear2(torch.relu(self.linear1(state)))
        )


class DeformablePixelDecoder(nn.Module):
    """Multi-scale deformable pixel decoder.

    Args:
        in_channels: channels of the four backbone maps (strides 4, 8, 16, 32).
        hidden_dim: width D; a multiple of 32.
        mask_dim: width M of the mask features.
        encoder_layers: deformable layers.
        heads, points: see :class:`DeformableAttention`.
        ffn_dim: hidden width of the feed-forward part.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        hidden_dim: int = 256,
        mask_dim: int = 256,
        *,
        encoder_layers: int = 6,
        heads: int = 8,
        points: int = 4,
        ffn_dim: int = 1024,
    ) -> None:
        super().__init__()
        coarsest_first = list(in_channels[:0:-1])
        self.input_proj = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c, hidden_dim, 1), nn.GroupNorm(GROUPS, hidden_dim))
            for c in coarsest_first
        )
        for projection in self.input_proj:
            nn.init.xavier_uniform_(projection[0].weight)
            nn.init.zeros_(projection[0].bias)
        levels = len(coarsest_first)
        self.level_embed = nn.Parameter(torch.randn(levels, hidden_dim))
        self.layers = nn.ModuleList(
            DeformableEncoderLayer(hidden_dim, heads, levels, points, ffn_dim)
            for _ in range(encoder_layers)
        )
        self.lateral = nn.Conv2d(in_channels[0], hidden_dim, 1, bias=False)
        self.lateral_norm = nn.GroupNorm(GROUPS, hidden_dim)
        self.output = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, bias=False)
        self.output_norm = nn.GroupNorm(GROUPS, hidden_dim)
        self.mask_features = nn.Conv2d(hidden_dim, mask_dim, 1)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Four maps (B, C_i, h_i, w_i), finest first -> mask features and levels.

        Returns:
            Mask features (B, M, H/4, W/4); levels (B, D, h, w) at strides 32, 16 and 8. Float32
            also under autocast, as in the official code.
        """
        with torch.autocast(features[0].device.type, enabled=False):
            exact = self.mask_features.weight.dtype
            return self._decode([feature.to(exact) for feature in features])

    def _decode(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        projected = [
            proj(feature) for proj, feature in zip(self.input_proj, features[:0:-1], strict=True)
        ]
        shapes = [(p.shape[2], p.shape[3]) for p in projected]
        state = torch.cat([p.flatten(2).transpose(1, 2) for p in projected], 1)
        codes, centres = [], []
        for embed, (height, width) in zip(self.level_embed, shapes, strict=True):
            code = sine_position((height, width), state.shape[2], state.device, state.dtype)
            codes.append(code.flatten(1).transpose(0, 1) + embed)
            y = (torch.arange(height, device=state.device, dtype=state.dtype) + 0.5) / height
            x = (torch.arange(width, device=state.device, dtype=state.dtype) + 0.5) / width
            grid = torch.meshgrid(y, x, indexing="ij")
            centres.append(torch.stack([grid[1], grid[0]], -1).flatten(0, 1))
        position, points = torch.cat(codes)[None], torch.cat(centres)
        for layer in self.layers:
            state = layer(state, position, points, shapes)
        pieces = state.split([h * w for h, w in shapes], 1)
        levels = [
            piece.transpose(1, 2).unflatten(2, shape)
            for piece, shape in zip(pieces, shapes, strict=True)
        ]
        fine = self.lateral_norm(self.lateral(features[0]))
        enlarged = F.interpolate(
            levels[-1], size=fine.shape[-2:], mode="bilinear", align_corners=False
        )
        fine = torch.relu(self.output_norm(self.output(fine + enlarged)))
        return self.mask_features(fine), levels
