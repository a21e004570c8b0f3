"""Multi-scale deformable attention (Zhu et al. 2021, "Deformable DETR", section 4.1, eq. 3).

Two forms of the same sum, both differentiable:

* :func:`sample_by_grid` interpolates with ``grid_sample``, one call a level: right for a GPU.
* :func:`sample_by_gather` looks the four neighbours of every point up with ``embedding_bag``:
  several times faster on a CPU, where ``grid_sample`` and the sums behind it dominate.

Shape legend: B pictures, Q queries, S cells of all levels together, D width, H heads, d = D / H,
L levels, P points per head and level. Points are measured in cells: (0, 0) is the centre of the
first cell of a level, x grows to the right, y down. Outside a level everything is zero.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DeformableAttention(nn.Module):
    """Every query reads P points per head and level around its own place.

    Args:
        dim: width D.
        num_heads: H; must divide ``dim``.
        num_levels: L.
        num_points: P.
    """

    def __init__(
        self, dim: int, num_heads: int = 8, num_levels: int = 3, num_points: int = 4
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(dim, 2 * samples)  # rows: head, level, point, (x, y)
        self.attention_weights = nn.Linear(dim, samples)  # rows: head, level, point
        self.value_proj = nn.Linear(dim, dim)
        self.output_proj = nn.Linear(dim, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start from even weights on a star of points: one direction a head, growing distance."""
        angle = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        star = torch.stack([angle.cos(), angle.sin()], -1)
        star = star / star.abs().amax(-1, keepdim=True)
        distance = torch.arange(1, self.num_points + 1)
        points = star[:, None, None] * distance[:, None]
        with torch.no_grad():
            nn.init.zeros_(self.sampling_offsets.weight)
            self.sampling_offsets.bias.copy_(points.expand(-1, self.num_levels, -1, -1).flatten())
            nn.init.zeros_(self.attention_weights.weight)
            nn.init.zeros_(self.attention_weights.bias)
            for layer in (self.value_proj, self.output_proj):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(
        self, query: Tensor, memory: Tensor, places: Tensor, shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, D), content plus position.
            memory: (B, S, D), the flattened levels one after the other.
            places: (Q, 2 * H * L * P) float32 or float64, where each query stands on every level;
                see :func:`own_places`.
            shapes: (h, w) of each level.

        Returns:
            (B, Q, D) in the dtype of ``query``.
        """
        batch, queries, _ = query.shape
        shape = (batch, queries, self.num_heads, self.num_levels, self.num_points)
        samples = self.num_heads * self.num_levels * self.num_points
        # All x first, then all y: long contiguous rows are what a CPU wants.
        offsets = self.sampling_offsets
        weight = offsets.weight.view(samples, 2, -1).transpose(0, 1).flatten(0, 1)
        bias = offsets.bias.view(samples, 2).t().flatten()
        # Where to look needs more digits than half precision has.
        points = F.linear(query, weight, bias).to(places.dtype) + places
        x, y = points[..., :samples].view(shape), points[..., samples:].view(shape)
        logits = self.attention_weights(query).to(places.dtype)
        # softmax over few neighbouring numbers is slow on a CPU; over columns it is not.
        columns = logits.reshape(-1, self.num_levels * self.num_points).t().contiguous()
        weights = columns.softmax(0).t().contiguous().view(shape)
        value = self.value_proj(memory).to(places.dtype)
        value = value.view(batch, memory.shape[1], self.num_heads, -1)
        sample = sample_by_gather if query.device.type == "cpu" else sample_by_grid
        attended: Tensor = self.output_proj(sample(value, shapes, x, y, weights).to(query.dtype))
        return attended


def own_places(
    shapes: Sequence[tuple[int, int]],
    num_heads: int,
    num_points: int,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Where every cell of every level stands on every level, repeated for heads and points.

    The last few answers are kept: do not write into them.

    Args:
        shapes: (h, w) of each level.
        num_heads, num_points: how often each place is repeated.
        device, dtype: of the answer.

    Returns:
        (S, 2 * H * L * P), all x first, then all y, in cells of the level looked at.
    """
    sizes = tuple((int(h), int(w)) for h, w in shapes)
    return _own_places(sizes, num_heads, num_points, torch.device(device), dtype)


@functools.lru_cache(maxsize=2)
def _own_places(
    shapes: tuple[tuple[int, int], ...],
    num_heads: int,
    num_points: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    # What is first asked for in inference mode must still serve a later training step.
    with torch.inference_mode(False), torch.no_grad():
        relative = []
        for height, width in shapes:
            y = (torch.arange(height, device=device, dtype=dtype) + 0.5) / height
            x = (torch.arange(width, device=device, dtype=dtype) + 0.5) / width
            grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
            relative.append(torch.stack([grid_x.flatten(), grid_y.flatten()], -1))
        sides = torch.tensor([[w, h] for h, w in shapes], device=device, dtype=dtype)
        cells = torch.cat(relative)[:, :, None] * sides.T - 0.5  # (S, 2, L)
        return cells[:, :, None, :, None].expand(-1, -1, num_heads, -1, num_points).flatten(1)


def sample_by_grid(
    value: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples, through ``grid_sample``.

    Args:
        value: (B, S, H, d) float.
        shapes: (h, w) of each level; their cells sum to S.
        x, y: (B, Q, H, L, P), the points in cells, same dtype as ``value``.
        weights: (B, Q, H, L, P), same dtype.

    Returns:
        (B, Q, H * d).
    """
    batch, _, heads, width_of_head = value.shape
    queries = x.shape[1]
    total = value.new_zeros(batch * heads, width_of_head, queries)
    cells = torch.split(value, [h * w for h, w in shapes], 1)
    for level, (height, width) in enumerate(shapes):
        plane = cells[level].permute(0, 2, 3, 1)
        plane = plane.reshape(batch * heads, width_of_head, height, width)
        grid = torch.stack(
            [(2 * x[..., level, :] + 1) / width - 1, (2 * y[..., level, :] + 1) / height - 1], -1
        )
        grid = grid.transpose(1, 2).flatten(0, 1)  # (B * H, Q, P, 2)
        found = F.grid_sample(plane, grid, padding_mode="zeros", align_corners=False)
        weight = weights[..., level, :].transpose(1, 2).flatten(0, 1)
        total = total + (found * weight[:, None]).sum(-1)
    return total.view(batch, heads * width_of_head, queries).transpose(1, 2)


def sample_by_gather(
    value: Tensor, shapes: Sequence[tuple[int, int]], x: Tensor, y: Tensor, weights: Tensor
) -> Tensor:
    """Weighted sum of bilinear samples, through ``embedding_bag``; see :func:`sample_by_grid`.

    All levels lie one below the other in one table with a border of zeros, so no point needs a
    test whether it is inside. All have the same row length, so the right, lower and lower right
    neighbours of every point are the same places in a table that begins a little later.
    """
    batch, _, heads, width_of_head = value.shape
    queries, levels, points = x.shape[1], x.shape[3], x.shape[4]
    # One column and row of zeros before each level, two behind: points are pulled to -1 .. size,
    # and the neighbours of `size` are one further.
    row = max(w for _, w in shapes) + 3
    starts = [0]
    for height, _ in shapes:
        starts.append(starts[-1] + height + 3)
    table = value.new_zeros(batch, starts[-1], row, heads, width_of_head)
    cells = torch.split(value, [h * w for h, w in shapes], 1)
    for start, level, (height, width) in zip(starts, cells, shapes, strict=False):
        inner = table[:, start + 1 : start + 1 + height, 1 : 1 + width]
        inner.copy_(level.reshape(inner.shape))
    table = table.flatten(0, 3)

    def per_sample(numbers: Sequence[float]) -> Tensor:
        return x.new_tensor(numbers)[:, None].expand(heads, -1, points).flatten()

    lowest = x.new_full((1,), -1.0)
    x = x.flatten(2).clamp(lowest, per_sample([w for _, w in shapes]))
    y = y.flatten(2).clamp(lowest, per_sample([h for h, _ in shapes]))
    left, top = x.detach().floor(), y.detach().floor()
    right_share, lower_share = x - left, y - top

    integer = torch.int32 if len(table) < 2**31 else torch.int64
    index = torch.add(left.to(integer), top.to(integer), alpha=row).mul_(heads)
    level_start = torch.tensor(starts[:-1], dtype=integer, device=x.device) * row + row + 1
    head = torch.arange(heads, dtype=integer, device=x.device)
    index += (level_start * heads + head[:, None])[..., None].expand(-1, -1, points).flatten()
    if batch > 1:
        picture = torch.arange(batch, dtype=integer, device=x.device)
        index += (picture * (len(table) // batch))[:, None, None]
    # Only a NaN, whose cell is meaningless, can lie outside; the shares carry it to the answer.
    index = index.clamp_(0, len(table) - 1 - (row + 1) * heads).view(-1, levels * points)

    weights = weights.flatten(2)
    right = weights * right_share
    here = weights - right
    lower_right = right * lower_share
    lower_left = here * lower_share
    total: Tensor | None = None
    for shift, share in (
        (0, here - lower_left),
        (heads, right - lower_right),
        (row * heads, lower_left),
        ((row + 1) * heads, lower_right),
    ):
        bags = F.embedding_bag(
            index,
            table[shift:],
            per_sample_weights=share.reshape(-1, levels * points),
            mode="sum",
        )
        total = bags if total is None else total.add_(bags)
    assert total is not None
    return total.view(batch, queries, heads * width_of_head)
