"""What the masked-attention decoder starts from.

Shape legend: B pictures, N queries, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anymask.nn.position import sine_features


class GridQueries(nn.Module):
    """A query per cell of a square grid; content = learned + the picture's feature at the point."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.side = round(num_queries**0.5)
        self.content = nn.Embedding(num_queries, dim)
        self.from_picture = nn.Linear(dim, dim)
        self.from_point = nn.Linear(dim, dim)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Finest decoder level (B, D, h, w) -> content (B, N, D) and position (B, N, D)."""
        centres = (torch.arange(self.side, device=level.device) + 0.5) / self.side
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        points = torch.stack([x.flatten(), y.flatten()], -1).to(level)
        return self.at(points.expand(len(level), -1, -1), level)

    def at(self, points: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """The queries of N given points (B, N, 2), x then y in 0..1."""
        sampled = nn.functional.grid_sample(
            level, 2 * points[:, :, None] - 1, padding_mode="border", align_corners=False
        )
        content = self.from_picture(sampled[..., 0].transpose(1, 2)) + self.content.weight
        angle = points * 2 * torch.pi
        half = level.shape[1] // 2
        code = torch.cat([sine_features(angle[..., i], half) for i in (1, 0)], -1)
        return content, self.from_point(code)


class LearnedQueries(nn.Module):
    """Mask2Former's queries: learned content and position, equal for every picture."""

    def __init__(self, num_queries: int, dim: int) -> None:
        super().__init__()
        self.content = nn.Embedding(num_queries, dim)
        self.position = nn.Embedding(num_queries, dim)

    def forward(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Finest decoder level (B, D, h, w) -> content (B, N, D) and position (B, N, D)."""
        shape = (len(level), -1, -1)
        return self.content.weight.expand(shape), self.position.weight.expand(shape)
