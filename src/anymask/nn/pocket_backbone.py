"""The pocket backbone: plain residual convolutions that learn fast on a CPU.

Dense 3x3 convolutions are the fastest thing a CPU runs; a few attention blocks at stride 32,
where the map has only some dozens of cells, give every cell a view of the whole picture.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anymask.nn.attention import Attention, FeedForward


def normalise(channels: int) -> nn.GroupNorm:
    """Group normalisation: independent of the batch, so data-parallel training stays exact."""
    return nn.GroupNorm(max(1, min(8, channels // 8)), channels)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a residual: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = normalise(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = normalise(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(torch.relu(self.norm1(x)))
        return x + self.conv2(torch.relu(self.norm2(y)))  # type: ignore[no-any-return]


class GlobalBlock(nn.Module):
    """A pre-norm transformer block over all cells: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = Attention(channels, num_heads)
        self.norm2 = nn.LayerNorm(channels)
        self.ffn = FeedForward(channels, 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        normed = self.norm1(tokens)
        tokens = tokens + self.attn(normed, normed, normed)
        tokens = tokens + self.ffn(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, x.shape[-2:])


class PocketBackbone(nn.Module):
    """Feature maps at strides 4, 8, 16 and 32.

    Args:
        widths: channels of the four maps.
        depths: blocks per map; the first three maps have residual blocks, the last one global
            blocks.
        num_heads: heads of the global blocks.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        depths: tuple[int, ...] = (2, 3, 4, 2),
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        self.channels = widths
        stem = widths[0] // 2
        self.stem = nn.Conv2d(3, stem, 3, stride=2, padding=1)
        inputs = (stem, *widths[:3])
        self.downs = nn.ModuleList(
            nn.Sequential(normalise(a), nn.ReLU(), nn.Conv2d(a, b, 3, stride=2, padding=1))
            for a, b in zip(inputs, widths, strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(depth)))
            for width, depth in zip(widths[:3], depths[:3], strict=True)
        )
        self.stages.append(
            nn.Sequential(*(GlobalBlock(widths[3], num_heads) for _ in range(depths[3])))
        )
        self.norms = nn.ModuleList(normalise(width) for width in widths)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(B, 3, H, W), sides multiples of 32 -> four maps (B, widths[i], H/2^(i+2), W/2^(i+2))."""
        x = self.stem(pixels.contiguous(memory_format=torch.channels_last))
        maps = []
        for down, stage, norm in zip(self.downs, self.stages, self.norms, strict=True):
            x = stage(down(x))
            maps.append(torch.relu(norm(x)))
        return maps
