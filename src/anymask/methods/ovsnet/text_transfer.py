"""MAFT+'s content-dependent transfer: words look at the picture before they are compared with it.

"Collaborative Vision-Text Representation Optimizing for Open-Vocabulary Segmentation" (ECCV 2024),
section 3.3; needed for MAFT+ checkpoints only.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.methods.ovsnet.classification import Words, best_of_synonyms
from anymask.nn.attention import Attention
from anymask.nn.position import sine_position


class ContentDependentTransfer(nn.Module):
    """Cross-attention from words to the projected cells of CLIP's last map.

    Args:
        dim: D.
        after_norm: the released panoptic model adds the normalised change to the words; the
            semantic one normalises the sum.
        num_heads: 8 in the released models.
    """

    def __init__(self, dim: int, after_norm: bool, num_heads: int = 8) -> None:
        super().__init__()
        self.after_norm = after_norm
        self.attention = Attention(dim, num_heads)
        self.mix = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)

    def forward(self, rows: Tensor, clip_map: Tensor) -> Tensor:
        """Words (S, D) and a projected map (B, D, h, w) -> words (B, S, D), of any length."""
        cells = clip_map.flatten(2).transpose(1, 2)
        code = sine_position(clip_map.shape[-2:], clip_map.shape[1], cells.device, cells.dtype)
        place = code.flatten(1).T[None]
        words = rows.expand(len(cells), -1, -1)
        seen = self.mix(self.attention(words, cells + place, cells))
        if self.after_norm:
            return words + self.norm(seen)  # type: ignore[no-any-return]
        return self.norm(words + seen)  # type: ignore[no-any-return]

    def class_logits(
        self,
        embeddings: Tensor,
        words: Words,
        multiplier: Tensor | float,
        void: Tensor,
        clip_map: Tensor,
    ) -> Tensor:
        """As ``classification.class_logits``, after the words have looked at each picture."""
        rows = torch.cat([words.rows, F.normalize(void, dim=-1)[None]])
        logits = multiplier * (F.normalize(embeddings, dim=-1) @ self(rows, clip_map).mT)
        return best_of_synonyms(logits, words.counts)
