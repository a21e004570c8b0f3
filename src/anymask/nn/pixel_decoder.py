"""The multi-scale deformable pixel decoder of Mask2Former (Cheng et al. 2022, section 3.2.2).

Shape legend: B pictures, D width, M mask width, S cells of the three coarse levels together,
(H, W) the padded picture.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.attention import FeedForward
from anymask.nn.deformable_attention import DeformableAttention, own_places
from anymask.nn.position import sine_position

GROUPS = 32  # of every group normalisation


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention over all cells of all levels, then feed-forward; post-norm."""

    def __init__(self, dim: int, num_heads: int, num_points: int, ffn_dim: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(dim, num_heads, num_levels=3, num_points=num_points)
        self.self_attn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim)
        self.ffn_norm = nn.LayerNorm(dim)

    def forward(
        self, cells: Tensor, position: Tensor, places: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """(B, S, D) and (1, S, D) -> (B, S, D); ``places`` as of ``own_places``."""
        attended = self.self_attn(cells + position, cells, places, shapes)
        cells = self.self_attn_norm(cells + attended)
        out: Tensor = self.ffn_norm(cells + self.ffn(cells))
        return out


class DeformablePixelDecoder(nn.Module):
    """Lets the three coarse backbone levels exchange information and adds one fine level.

    Args:
        in_channels: channels of the four backbone maps, strides 4, 8, 16, 32.
        hidden_dim: width D of the multi-scale maps; a multiple of 32.
        mask_dim: width M of the mask features.
        encoder_layers: number of deformable layers.
        heads: attention heads.
        points: points per head and level.
        ffn_dim: hidden width of the feed-forward parts.

    Raises:
        ValueError: there are not four maps, or ``hidden_dim`` is no multiple of 32.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        hidden_dim: int,
        mask_dim: int,
        encoder_layers: int = 6,
        heads: int = 8,
        points: int = 4,
        ffn_dim: int = 1024,
    ) -> None:
        super().__init__()
        if len(in_channels) != 4:
            raise ValueError(f"the pixel decoder reads four maps, not {len(in_channels)}")
        if hidden_dim % GROUPS:
            raise ValueError(f"hidden_dim {hidden_dim} is not a multiple of {GROUPS}")
        self.heads = heads
        self.points = points
        self.input_projections = nn.ModuleList(  # coarsest first
            nn.Sequential(nn.Conv2d(channels, hidden_dim, 1), nn.GroupNorm(GROUPS, hidden_dim))
            for channels in reversed(in_channels[1:])
        )
        self.level_embed = nn.Embedding(3, hidden_dim)
        self.encoder = nn.ModuleList(
            DeformableEncoderLayer(hidden_dim, heads, points, ffn_dim)
            for _ in range(encoder_layers)
        )
        self.lateral = nn.Sequential(
            nn.Conv2d(in_channels[0], hidden_dim, 1, bias=False), nn.GroupNorm(GROUPS, hidden_dim)
        )
        self.fine = nn.Sequential(
            nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, hidden_dim),
            nn.ReLU(inplace=True),
        )
        self.mask_projection = nn.Conv2d(hidden_dim, mask_dim, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The start of Mask2Former's training: Xavier for convolutions and matrices, zero bias."""
        for name, parameter in self.named_parameters():
            if name.startswith("input_projections") and parameter.dim() == 4:
                nn.init.xavier_uniform_(parameter)
            elif parameter.dim() == 4:
                nn.init.kaiming_uniform_(parameter, a=1)
            elif name.endswith((".fc1.weight", ".fc2.weight")):
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("0.bias") or name == "mask_projection.bias":
                nn.init.zeros_(parameter)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Decode.

        Runs in the dtype of its own parameters even under autocast, as the published model does:
        half precision there costs accuracy.

        Args:
            features: four maps (B, C_i, h_i, w_i) at strides 4, 8, 16 and 32.

        Returns:
            Mask features (B, M, H/4, W/4), and the levels (B, D, h, w) at strides 32, 16 and 8.
        """
        with torch.autocast(features[0].device.type, enabled=False):
            return self._forward([f.to(self.mask_projection.weight.dtype) for f in features])

    def _forward(self, features: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        maps = [
            project(feature)
            for project, feature in zip(self.input_projections, reversed(features[1:]), strict=True)
        ]
        shapes = [(m.shape[-2], m.shape[-1]) for m in maps]
        cells = torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)
        device, dtype, dim = cells.device, cells.dtype, cells.shape[-1]
        position = torch.cat(
            [
                sine_position(shape, dim, device, dtype).flatten(1).T + self.level_embed.weight[i]
                for i, shape in enumerate(shapes)
            ]
        )[None]
        exact = torch.float64 if dtype == torch.float64 else torch.float32
        places = own_places(shapes, self.heads, self.points, device, exact)
        for layer in self.encoder:
            cells = layer(cells, position, places, shapes)
        # Each level is a view of the cells, channels last in memory.
        pieces = torch.split(cells, [h * w for h, w in shapes], 1)
        levels = [
            piece.transpose(1, 2).view(-1, dim, *shape)
            for piece, shape in zip(pieces, shapes, strict=True)
        ]
        fine = self.lateral(features[0])
        # Channels last, resizing is five times slower on a CPU.
        enlarged = F.interpolate(levels[-1].contiguous(), fine.shape[-2:], mode="bilinear")
        fine = fine + enlarged
        return self.mask_projection(self.fine(fine)), levels
