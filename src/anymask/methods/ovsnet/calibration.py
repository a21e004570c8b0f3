"""Proxy Calibration (OVSNet, section 4.3, eqs 5-7): training on mixtures of words.

A proxy is a mixture of two matched queries, of their CLIP embeddings and of their words, with the
same weight. Aligning proxies fills the space between the training words.

Shape legend: m matched queries of the whole batch, D embedding width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.methods.ovsnet.classification import owners


def proxies(rows: Tensor, partner: Tensor, alpha: Tensor) -> Tensor:
    """eq 5: a F_m + (1 - a) F_n: rows (m, D), partner (m,) int64, alpha (m,) -> (m, D)."""
    return alpha[:, None] * rows + (1 - alpha[:, None]) * rows[partner]


def draw(
    count: int, gamma: float, generator: torch.Generator, device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Partners, a random permutation, and weights alpha ~ Beta(gamma, gamma), (count,) each."""
    partner = torch.randperm(count, generator=generator)
    # A quotient of gamma variables is a beta variable; torch draws those with a generator.
    shape = torch.full((2, count), gamma)
    drawn = torch._standard_gamma(shape, generator=generator)
    alpha = drawn[0] / drawn.sum(0).clamp(min=1e-12)
    return partner.to(device), alpha.to(device)


def proxy_loss(embedded: Tensor, words: Tensor, count: Tensor | float | None = None) -> Tensor:
    """eqs 6 and 7: mean of 1 - cosine of proxies (m, D) and their words' proxies: scalar, 0..2.

    Args:
        embedded: of queries or of CLIP.
        words: mixed the same way.
        count: what the sum is divided by: the matched queries of the global batch per process;
            None = m.
    """
    apart = 1 - F.cosine_similarity(embedded, words, dim=-1, eps=1e-8)
    return apart.sum() / (len(apart) if count is None else count)


def words_of(matched: Tensor, rows: Tensor, counts: tuple[int, ...], labels: Tensor) -> Tensor:
    """The word that each matched query is nearest to among its class's synonyms.

    Args:
        matched: (m, D) query embeddings.
        rows: (S, D) unit vectors of all words.
        counts: words of every class.
        labels: (m,) class of every matched query.

    Returns:
        (m, D) unit vectors, without a gradient.
    """
    with torch.no_grad():
        number = owners(counts, labels.device)
        cosines = F.normalize(matched, dim=-1) @ rows.T
        cosines = cosines.masked_fill(number[None] != labels[:, None], float("-inf"))
        return rows[cosines.argmax(-1)]
