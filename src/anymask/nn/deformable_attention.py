"""Multi-scale deformable attention (Zhu et al. 2021, "Deformable DETR", eq. 3), two forms.

Both compute the same sum of bilinearly sampled values. On a GPU ``grid_sample`` is fast; on a CPU
one weighted gather of rows (``embedding_bag``) avoids the large intermediate copies.

Shape legend: B pictures, S cells of all levels, Q queries, H heads, d width of a head, L levels,
P points a level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def deformable_attention(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """Sum of sampled values.

    Args:
        value: (B, S, H, d) float, all levels one after the other, each row by row.
        shapes: (h, w) of the L levels.
        locations: (B, Q, H, L, P, 2) x then y in 0..1 of the level's extent; outside counts as 0.
        weights: (B, Q, H, L, P), summing to 1 over L and P.

    Returns:
        (B, Q, H * d).
    """
    form = sample_by_grid if value.is_cuda else sample_by_rows
    return form(value, shapes, locations, weights)


def sample_by_grid(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """:func:`deformable_attention` with one ``grid_sample`` a level."""
    batch, _, heads, width = value.shape
    grid = (2 * locations - 1).transpose(1, 2).flatten(0, 1)  # B*H, Q, L, P, 2
    share = weights.transpose(1, 2).flatten(0, 1)  # B*H, Q, L, P
    out: Tensor | None = None
    levels = value.split([h * w for h, w in shapes], 1)
    for index, ((height, length), level) in enumerate(zip(shapes, levels, strict=True)):
        image = level.permute(0, 2, 3, 1).reshape(batch * heads, width, height, length)
        sampled = F.grid_sample(image, grid[:, :, index].to(image), align_corners=False)
        part = torch.einsum("bdqp,bqp->bqd", sampled, share[:, :, index])
        out = part if out is None else out + part
    assert out is not None
    return out.unflatten(0, (batch, heads)).transpose(1, 2).flatten(2)


def sample_by_rows(
    value: Tensor, shapes: Sequence[tuple[int, int]], locations: Tensor, weights: Tensor
) -> Tensor:
    """:func:`deformable_attention` as a weighted sum of 4 L P rows of ``value`` per query."""
    batch, cells, heads, width = value.shape
    queries = locations.shape[1]
    table = value.transpose(1, 2).reshape(batch * heads * cells, width)
    first_row = torch.arange(batch * heads, device=value.device).view(batch, 1, heads, 1) * cells
    rows, shares = [], []
    begin = 0
    for index, (height, length) in enumerate(shapes):
        x = locations[:, :, :, index, :, 0] * length - 0.5
        y = locations[:, :, :, index, :, 1] * height - 0.5
        left, top = x.floor(), y.floor()
        right_share, bottom_share = x - left, y - top
        weight = weights[:, :, :, index]
        column, row = left.long(), top.long()
        for dy, share_y in ((0, 1 - bottom_share), (1, bottom_share)):
            inside_y = (row + dy >= 0) & (row + dy < height)
            offset = (row + dy).clamp(0, height - 1) * length + begin + first_row
            weight_y = weight * share_y * inside_y
            for dx, share_x in ((0, 1 - right_share), (1, right_share)):
                inside = (column + dx >= 0) & (column + dx < length)
                rows.append(offset + (column + dx).clamp(0, length - 1))
                shares.append(weight_y * share_x * inside)
        begin += height * length
    index_rows = torch.cat(rows, -1).flatten(0, 2)
    index_shares = torch.cat(shares, -1).flatten(0, 2).to(table)
    out = F.embedding_bag(index_rows, table, per_sample_weights=index_shares, mode="sum")
    return out.view(batch, queries, heads * width)


class DeformableAttention(nn.Module):
    """Deformable self-attention over the cells of all levels.

    Args:
        dim: width D.
        heads: attention heads H.
        levels: L.
        points: sampled points P per head and level.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self._start()

    def _start(self) -> None:
        """Deformable DETR's start: heads look in different directions, points further and further."""
        angle = torch.arange(self.heads) * (2 * torch.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], -1)
        direction = direction / direction.abs().amax(-1, keepdim=True)
        offsets = direction.view(self.heads, 1, 1, 2).repeat(1, self.levels, self.points, 1)
        offsets = offsets * torch.arange(1, self.points + 1).view(1, 1, -1, 1)
        nn.init.zeros_(self.sampling_offsets.weight)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(offsets.flatten())
        for layer in (self.attention_weights, self.value_proj, self.output_proj):
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.xavier_uniform_(self.value_proj.weight)
        nn.init.xavier_uniform_(self.output_proj.weight)

    def forward(
        self, state: Tensor, position: Tensor, points: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """(B, S, D) cells, (B or 1, S, D) position code, (S, 2) cell centres -> (B, S, D)."""
        query = state + position
        per_point = (self.heads, self.levels, self.points)
        value = self.value_proj(state).unflatten(-1, (self.heads, -1))
        offsets = self.sampling_offsets(query).unflatten(-1, (*per_point, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.heads, -1)).softmax(-1)
        scale = torch.tensor([(w, h) for h, w in shapes], device=state.device, dtype=points.dtype)
        # Locations stay in full precision: rounded ones would leave the map.
        locations = points[:, None, None, None] + offsets.to(points.dtype) / scale[:, None]
        weights = weights.unflatten(-1, per_point[1:])
        return self.output_proj(  # type: ignore[no-any-return]
            deformable_attention(value, shapes, locations, weights)
        )
