"""Embeddings of masks against words: logits, and the ensemble of both branches (FC-CLIP, eq 7).

Shape legend: B pictures, N queries, D embedding width, S words (synonyms of all classes one after
the other), C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Words:
    """The text side of a vocabulary.

    Attributes:
        rows: (S, D) unit vectors, the synonyms of class 0, then of class 1, ...
        counts: synonyms of every class, at least one each.
        seen: (C,) bool: the class shares a word with the training vocabulary.
    """

    rows: Tensor
    counts: tuple[int, ...]
    seen: Tensor

    def __len__(self) -> int:
        return len(self.counts)

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float32) -> Words:
        """The same elsewhere."""
        return Words(self.rows.to(device, dtype), self.counts, self.seen.to(device))


def word_logits(embeddings: Tensor, rows: Tensor, multiplier: Tensor | float) -> Tensor:
    """Scaled cosines with every word: (..., D) and (S, D) or (B, S, D) unit rows -> (..., S)."""
    return multiplier * (F.normalize(embeddings, dim=-1) @ rows.mT)


def class_logits(
    embeddings: Tensor, words: Words, multiplier: Tensor | float, void: Tensor
) -> Tensor:
    """Logit of every class, its best synonym's, and of "no object" last.

    Args:
        embeddings: (B, N, D), of any length.
        words: the vocabulary.
        multiplier: of the cosines.
        void: (D,) embedding of "no object", of any length.

    Returns:
        (B, N, C + 1).
    """
    nothing = F.normalize(void, dim=-1)[None]
    logits = word_logits(embeddings, torch.cat([words.rows, nothing]), multiplier)
    return best_of_synonyms(logits, words.counts)


def best_of_synonyms(logits: Tensor, counts: tuple[int, ...]) -> Tensor:
    """(..., S + 1) -> (..., C + 1): the maximum over each class's words; the last stays."""
    if all(count == 1 for count in counts):
        return logits
    number = owners(counts, logits.device).expand(*logits.shape[:-1], -1)
    best = logits.new_full((*logits.shape[:-1], len(counts)), float("-inf"))
    best = best.scatter_reduce(-1, number, logits[..., :-1], "amax")
    return torch.cat([best, logits[..., -1:]], -1)


def owners(counts: tuple[int, ...], device: torch.device | str) -> Tensor:
    """The class of every word: (S,) int64."""
    numbers = torch.arange(len(counts), device=device)
    return torch.repeat_interleave(numbers, torch.tensor(counts, device=device))


def ensemble(
    query_logits: Tensor,
    clip_logits: Tensor,
    seen: Tensor,
    alpha: float = 0.4,
    beta: float = 0.8,
    only_query: Tensor | None = None,
) -> Tensor:
    """The geometric ensemble of both branches, with the query branch's "no object".

    Args:
        query_logits, clip_logits: (B, N, C + 1), last column "no object".
        seen: (C,) bool.
        alpha, beta: share of CLIP's branch for seen and for other classes.
        only_query: (B, N) bool: queries where CLIP's branch has no say.

    Returns:
        (B, N, C + 1) probabilities; every row sums to 1.
    """
    share = torch.where(seen, alpha, beta).to(query_logits.dtype)
    if only_query is not None:
        share = share * (~only_query)[..., None].to(share.dtype)
    by_query = query_logits[..., :-1].log_softmax(-1)
    by_clip = clip_logits[..., :-1].log_softmax(-1)
    # r = p_q^(1-e) p_c^e, in logarithms; then normalised over the classes.
    classes = ((1 - share) * by_query + share * by_clip).softmax(-1)
    nothing = query_logits.softmax(-1)[..., -1:]
    return torch.cat([classes * (1 - nothing), nothing], -1)
