"""What OpenWorldSAM trains: 4.5 M parameters between a reader of phrases and SAM 2.

Shape legend: P phrases, K tie-breakers, N = P K queries, C width of SAM 2's maps, L cells of its
coarsest map.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.attention import Attention

Layout = Literal["single", "all_pairs"]


class SoftPromptingLayer(nn.Module):
    """Queries look at each other, then at the picture (paper, section 3.3)."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn_norm = nn.LayerNorm(dim)
        self.cross_attn_norm = nn.LayerNorm(dim)
        self.mlp_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, num_heads)
        self.cross_attn = Attention(dim, num_heads)
        self.fc1 = nn.Linear(dim, mlp_dim)
        self.fc2 = nn.Linear(mlp_dim, dim)
        self.dropout = dropout

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)

    def forward(self, x: Tensor, memory: Tensor, visible: Tensor | None, groups: int) -> Tensor:
        """(B, N, C) queries and (B, L, C) memory, which is not normalised -> (B, N, C).

        Args:
            x: queries.
            memory: the picture's cells, without positions.
            visible: (B, 1, 1, N) bool, which queries are no padding; None = all.
            groups: queries see their own group only: N / groups neighbours each.
        """
        normal = self.self_attn_norm(x)
        # Queries of different phrases in different rows of the batch never meet.
        parts = normal.unflatten(1, (groups, -1)).flatten(0, 1)
        seen = self.self_attn(parts, parts, parts, visible)
        x = x + self._drop(seen.reshape(x.shape))
        x = x + self._drop(self.cross_attn(self.cross_attn_norm(x), memory, memory))
        hidden = self._drop(F.gelu(self.fc1(self.mlp_norm(x))))
        return x + self._drop(self.fc2(hidden))  # type: ignore[no-any-return]


class SoftPrompting(nn.Module):
    """The soft-prompting transformer: no positions, no last norm (paper, section 3.3)."""

    def __init__(
        self, dim: int, num_layers: int, num_heads: int, mlp_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SoftPromptingLayer(dim, num_heads, mlp_dim, dropout) for _ in range(num_layers)
        )

    def forward(
        self, queries: Tensor, memory: Tensor, isolate: bool, valid: Tensor | None = None
    ) -> Tensor:
        """Refine queries.

        Args:
            queries: (B, P, K, C), phrases of each picture padded to the same number.
            memory: (B, L, C).
            isolate: phrases do not see each other.
            valid: (B, P) bool, which phrases are no padding; None = all.

        Returns:
            (B, P, K, C).
        """
        phrases, count = queries.shape[1:3]
        visible = None
        if not isolate and valid is not None and not bool(valid.all()):
            # A picture without phrases sees its padding: attention over nothing is not a number.
            shown = valid | ~valid.any(1, keepdim=True)
            visible = shown.repeat_interleave(count, 1)[:, None, None]
        x = queries.flatten(1, 2)
        for layer in self.layers:
            x = layer(x, memory, visible, phrases if isolate else 1)
        return x.view_as(queries)


class Adapter(nn.Module):
    """Vectors of phrases -> prompt tokens for SAM 2's mask decoder.

    Args:
        input_dim: width of a phrase's vector.
        hidden_dim: of the projector; the released model's is ``input_dim``.
        dim: C.
        num_tie_breakers: K; 0 = one query a phrase, the projected vector itself (E1 of Table 5).
        num_layers: of soft prompting; 0 = without it (E3 of Table 5).
        num_heads, mlp_dim, dropout: of soft prompting.
    """

    def __init__(
        self,
        input_dim: int,
        hidden_dim: int,
        dim: int,
        num_tie_breakers: int = 20,
        num_layers: int = 3,
        num_heads: int = 8,
        mlp_dim: int = 1024,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.projector = nn.Sequential(
            nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, dim)
        )
        self.tie_breakers = (
            nn.Parameter(torch.randn(num_tie_breakers, dim)) if num_tie_breakers else None
        )
        self.soft_prompting = (
            SoftPrompting(dim, num_layers, num_heads, mlp_dim, dropout) if num_layers else None
        )

    @property
    def queries_per_phrase(self) -> int:
        """K."""
        return 1 if self.tie_breakers is None else len(self.tie_breakers)

    def queries(self, vectors: Tensor) -> Tensor:
        """(..., D) -> (..., K, C): the projected vector plus every tie-breaker (section 3.2)."""
        projected = self.projector(vectors)[..., None, :]
        return projected if self.tie_breakers is None else projected + self.tie_breakers  # type: ignore[no-any-return]

    def forward(
        self,
        vectors: Tensor,
        memory: Tensor,
        layout: Layout = "single",
        isolate: bool = True,
        valid: Tensor | None = None,
    ) -> Tensor:
        """Prompt tokens.

        Args:
            vectors: (B, P, D) phrases of each picture, padded to the same number.
            memory: (B, L, C) SAM 2's coarsest map.
            layout: ``"single"``: a query is one token, as the paper says; ``"all_pairs"``: one
                token for every query of the picture, which is what the released code computes
                (there two shapes broadcast) and the released weights were trained with.
            isolate: phrases do not see each other. With ``"all_pairs"`` they still meet in the
                tokens.
            valid: (B, P) bool, which phrases are no padding; None = all. With ``"all_pairs"``
                every picture must have the same number.

        Returns:
            (B, N, 1, C), or (B, N, N, C) for ``"all_pairs"`` with soft prompting.
        """
        queries = self.queries(vectors)
        if self.soft_prompting is None:
            return queries.flatten(1, 2)[:, :, None]  # type: ignore[no-any-return]
        refined = self.soft_prompting(queries, memory, isolate, valid)
        first, second = queries.flatten(1, 2), refined.flatten(1, 2)
        if layout == "single":
            return (first + second)[:, :, None]  # type: ignore[no-any-return]
        return first[:, :, None] + second[:, None]  # type: ignore[no-any-return]
