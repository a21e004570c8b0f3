"""Multi-head attention with separate projections and boolean visibility masks."""

from __future__ import annotations

import math

from torch import Tensor, nn


def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None) -> Tensor:
    """Scaled dot-product attention (Vaswani et al. 2017, eq. 1).

    Args:
        query: (B, heads, Q, d) float.
        key: (B, heads, K, d) float.
        value: (B, heads, K, d) float.
        visible: bool, broadcastable to (B, heads, Q, K); True = may attend. Every row must see
            at least one key.

    Returns:
        (B, heads, Q, d) float.
    """
    if query.is_cuda:
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
    # On a CPU the fused kernel is slower than three plain steps when a mask is given.
    scores = (query * (1 / math.sqrt(query.shape[-1]))) @ key.transpose(-2, -1)
    if visible is not None:
        scores.masked_fill_(~visible, float("-inf"))
    return scores.softmax(-1) @ value


class Attention(nn.Module):
    """Multi-head attention; ``q_proj``, ``k_proj``, ``v_proj``, ``out_proj`` are (D, D) with bias.

    Args:
        dim: width D of queries, keys, values and output.
        num_heads: number of heads; must divide ``dim``.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim {dim} is not a multiple of num_heads {num_heads}")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.k_proj = nn.Linear(dim, dim)
        self.v_proj = nn.Linear(dim, dim)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        """(B, Q, D), two (B, K, D), bool (B or 1, 1, Q, K), True = may attend -> (B, Q, D)."""

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        out = attend(
            split(self.q_proj(query)), split(self.k_proj(key)), split(self.v_proj(value)), visible
        )
        return self.out_proj(out.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between: (..., D) -> (..., D)."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        # In place: the hidden map is the largest one of a layer, and nothing else reads it.
        return self.fc2(self.fc1(x).relu_())  # type: ignore[no-any-return]
