"""MaskQ-Former (paper, section 3.2): InstructBLIP's Q-Former in which every query looks at its own
part of the picture.

Many masks of one picture share its keys and values: queries do not meet in cross-attention, so
those of all masks stand in one row there, and the picture's 6,425 tokens are projected once instead
of once a mask.

Shape legend: R masks, Q queries a mask, L tokens of the question, B pictures (R or 1), K image
tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def mask_qformer(
    qformer: Any, queries: Tensor, ids: Tensor, keep: Tensor, features: Tensor, visible: Tensor
) -> Tensor:
    """Queries that looked at their parts of the picture and read the question.

    Args:
        qformer: a transformers ``InstructBlipQFormerModel``.
        queries: (R, Q, C).
        ids, keep: (R, L) int64 and bool: the question; False where padded.
        features: (B, K, D).
        visible: (R, Q, K) bool.

    Returns:
        (R, Q, C).
    """
    rows, count = queries.shape[:2]
    hidden = qformer.embeddings(input_ids=ids, query_embeds=queries)
    all_keep = torch.cat([keep.new_ones(rows, count), keep], 1)
    read = _added(all_keep[:, None, None], hidden.dtype)
    shared = len(features) == 1 and rows > 1
    look = _added(visible.flatten(0, 1)[None, None] if shared else visible[:, None], hidden.dtype)
    for layer in qformer.encoder.layer:
        attended = layer.attention(hidden, attention_mask=read)
        asked, text = attended[:, :count], attended[:, count:]
        if layer.has_cross_attention:
            asked = layer.crossattention(
                asked.flatten(0, 1)[None] if shared else asked,
                encoder_hidden_states=features,
                encoder_attention_mask=look,
            ).reshape(rows, count, -1)
        hidden = torch.cat(
            [layer.feed_forward_chunk_query(asked), layer.feed_forward_chunk(text)], 1
        )
    return hidden[:, :count]


def _added(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Who may look where, as every attention takes it: added to the scores."""
    lowest = torch.finfo(dtype).min
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill(
        ~allowed, lowest
    )
