"""The masked-attention transformer decoder of Mask2Former (Cheng et al. 2022, section 3.2).

Shape legend: B pictures, Q queries, D width, M mask-embedding width, L layers,
(h, w) one level of the feature pyramid, (H, W) the mask features (stride 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.attention import Attention, FeedForward
from anymask.nn.position import sine_position


class MaskedAttentionLayer(nn.Module):
    """Masked cross-attention, self-attention, feed-forward; post-norm, in this order."""

    def __init__(self, dim: int, num_heads: int, ffn_dim: int) -> None:
        super().__init__()
        self.cross_attn = Attention(dim, num_heads)
        self.cross_attn_norm = nn.LayerNorm(dim)
        self.self_attn = Attention(dim, num_heads)
        self.self_attn_norm = nn.LayerNorm(dim)
        self.ffn = FeedForward(dim, ffn_dim)
        self.ffn_norm = nn.LayerNorm(dim)

    def forward(
        self,
        state: Tensor,
        position: Tensor,
        memory: Tensor,
        memory_position: Tensor,
        cross_visible: Tensor,
        self_visible: Tensor | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            state, position: (B, Q, D) content and positional vectors of the queries.
            memory, memory_position: (B, h*w, D) and (1, h*w, D).
            cross_visible: (B, 1, Q, h*w) bool, True = may attend.
            self_visible: (1 or B, 1, Q, Q) bool, True = may attend; None = everything.

        Returns:
            (B, Q, D).
        """
        # Mask2Former eq. 2: attention over the foreground of the previous mask only.
        attended = self.cross_attn(
            state + position, memory + memory_position, memory, cross_visible
        )
        state = self.cross_attn_norm(state + attended)
        located = state + position
        state = self.self_attn_norm(state + self.self_attn(located, located, state, self_visible))
        return self.ffn_norm(state + self.ffn(state))  # type: ignore[no-any-return]


@dataclass
class DecoderOutput:
    """What the decoder leaves behind.

    Attributes:
        states: L + 1 tensors (B, Q, D): the normed query states before layer 0 and after every
            layer. Heads (class, quality) read these.
        masks: mask logits; the last is (B, Q, H, W) at stride 4. When ``inner_features`` were
            given there is one entry per state, the inner ones at the size of those features.
        hidden: (B, Q, D) the un-normed state after the last layer.
    """

    states: list[Tensor]
    masks: list[Tensor]
    hidden: Tensor


class MaskedAttentionDecoder(nn.Module):
    """Query decoder in which every query attends only to its own previous mask.

    Args:
        dim: width D of queries and memory.
        num_heads: attention heads.
        ffn_dim: hidden width of the feed-forward part.
        num_layers: L; layer i reads pyramid level ``i % num_levels``, coarsest first.
        mask_dim: width M of mask features and mask embeddings.
        num_levels: number of pyramid levels given to ``forward``.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        ffn_dim: int,
        num_layers: int,
        mask_dim: int,
        num_levels: int = 3,
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            MaskedAttentionLayer(dim, num_heads, ffn_dim) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.level_embed = nn.Embedding(num_levels, dim)
        self.mask_embed = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, mask_dim)
        )

    def forward(
        self,
        content: Tensor,
        position: Tensor,
        levels: Sequence[Tensor],
        mask_features: Tensor,
        *,
        self_visible: Tensor | None = None,
        given_masks: Tensor | None = None,
        inner_features: Tensor | None = None,
    ) -> DecoderOutput:
        """Run all layers.

        Args:
            content, position: (B, Q, D) initial content and positional vectors.
            levels: pyramid, coarsest first, each (B, D, h, w).
            mask_features: (B, M, H, W) at stride 4.
            self_visible: (1 or B, 1, Q, Q) bool, True = may attend; None = everything.
            given_masks: (B, E, H0, W0) float in [0, 1]: the last E queries attend to these masks
                in every layer instead of to their own predictions (SegPrompt, section 3.3).
            inner_features: (B, M, H', W'), the mask features (or a smaller copy) on which the
                masks of the inner predictions are computed, which training needs. None skips
                them.
        """
        memories, positions, small_features, given = [], [], [], []
        for index, level in enumerate(levels):
            embed = self.level_embed.weight[index]
            memories.append(level.flatten(2).transpose(1, 2) + embed)
            code = sine_position(level.shape[-2:], level.shape[1], level.device, level.dtype)
            positions.append(code.flatten(1).transpose(0, 1)[None])
            # Resizing is linear, so resized masks equal the masks of resized features.
            small_features.append(resize(mask_features, level.shape[-2:]))
            if given_masks is not None:
                given.append(resize(given_masks, level.shape[-2:]).flatten(2) > 0)

        state = content
        states: list[Tensor] = []
        masks: list[Tensor] = []
        for index, layer in enumerate(self.layers):
            normed = self.norm(state)
            states.append(normed)
            which = index % len(levels)
            if inner_features is not None:
                masks.append(self.masks(normed, inner_features))
            with torch.no_grad():
                inside = self.masks(normed, small_features[which]) >= 0
            visible = inside.flatten(2)  # sigmoid >= 0.5 is logit >= 0
            if given_masks is not None:
                examples = given[which].shape[1]
                visible = torch.cat([visible[:, :-examples], given[which]], 1)
            # A query that would see nothing sees everything.
            visible = visible | ~visible.any(-1, keepdim=True)
            state = layer(
                state,
                position,
                memories[which],
                positions[which],
                visible[:, None],
                self_visible,
            )
        normed = self.norm(state)
        states.append(normed)
        masks.append(self.masks(normed, mask_features))
        return DecoderOutput(states, masks, state)

    def masks(self, normed: Tensor, mask_features: Tensor) -> Tensor:
        """Mask logits (B, Q, H, W) of normed states (B, Q, D) over features (B, M, H, W)."""
        embed = self.mask_embed(normed)
        return (embed @ mask_features.flatten(2)).unflatten(-1, mask_features.shape[-2:])


def resize(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of (B, C, H, W) to (B, C, *size), corners not aligned."""
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
