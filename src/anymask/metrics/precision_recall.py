"""Average recall and average precision from matched units.

Definitions are COCO's (Lin et al. 2014; its evaluation code) and, per class over all detections,
LVIS-OW's (SegPrompt, section 5.1).

Shape legend: A area ranges, T thresholds, C classes (groups of units).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anymask.metrics.matching import Matched

RECALL_LEVELS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class Curves:
    """Recall and precision of every class.

    Attributes:
        recall: caps -> (A, T, C), NaN where a class has no region in the range.
        precision: (A, T, C) 101-point interpolated, at the largest cap; NaN likewise. None when
            it was not asked for.
        positives: (A, C) regions that should be found.
    """

    recall: dict[int, NDArray[np.float64]]
    precision: NDArray[np.float64] | None
    positives: NDArray[np.int64]


def curves(
    matched: Iterable[Matched],
    classes: int,
    caps: Sequence[int] = (1, 10, 100),
    with_precision: bool = True,
) -> Curves:
    """Accumulate matched units.

    Args:
        matched: from :func:`anymask.metrics.matching.match`.
        classes: C; the groups of units are below it.
        caps: numbers of detections that each group of a picture may keep, ascending.
        with_precision: also compute precision, which needs all scores in memory.
    """
    found: dict[int, NDArray[np.int64]] = {}
    positives: NDArray[np.int64] | None = None
    kept: list[_Chunk] = []
    for chunk in _chunks(matched):
        ranges, thresholds = chunk.right.shape[:2]
        if positives is None:
            positives = np.zeros((ranges, classes), np.int64)
            found = {cap: np.zeros((ranges, thresholds, classes), np.int64) for cap in caps}
        near_groups, near_ranks = chunk.groups[chunk.near], chunk.ranks[chunk.near]
        for a in range(ranges):
            positives[a] += np.bincount(chunk.truth_groups[chunk.counted[a]], minlength=classes)
            for t in range(thresholds):
                right = chunk.right[a, t]
                groups, ranks = near_groups[right], near_ranks[right]
                for cap in caps:
                    inside = groups[ranks < cap]
                    found[cap][a, t] += np.bincount(inside, minlength=classes)
        if with_precision:
            kept.append(chunk)
    if positives is None:
        nothing = np.full((1, 1, classes), np.nan)
        return Curves(dict.fromkeys(caps, nothing), nothing, np.zeros((1, classes), np.int64))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = {cap: found[cap] / positives[:, None] for cap in caps}
    precision = _precision(kept, positives, caps[-1]) if with_precision else None
    return Curves(recall, precision, positives)


@dataclass(frozen=True)
class _Chunk:
    """Many units in one piece; n detections, k of them near a region, m regions."""

    right: NDArray[np.bool_]  # A, T, k: matched with a region that counts
    wrong: NDArray[np.bool_]  # A, T, k
    near: NDArray[np.int64]  # k: places among the detections
    stray: NDArray[np.bool_]  # A, n: near none, and wrong
    scores: NDArray[np.float64]
    groups: NDArray[np.int64]
    ranks: NDArray[np.int64]
    counted: NDArray[np.bool_]  # A, m
    truth_groups: NDArray[np.int64]


def _chunks(matched: Iterable[Matched], size: int = 100_000) -> Iterator[_Chunk]:
    block: list[Matched] = []
    total = 0
    for one in matched:
        block.append(one)
        total += len(one.unit.scores)
        if total >= size:
            yield _chunk(block)
            block, total = [], 0
    if block:
        yield _chunk(block)


def _chunk(block: list[Matched]) -> _Chunk:
    hit = np.concatenate([one.hit for one in block], -1)
    ignored = np.concatenate([one.ignored for one in block], -1)
    return _Chunk(
        hit & ~ignored,
        ~hit & ~ignored,
        np.flatnonzero(np.concatenate([one.near for one in block])),
        np.concatenate([one.stray for one in block], -1),
        np.concatenate([one.unit.scores for one in block]),
        np.concatenate([one.unit.groups for one in block]),
        np.concatenate([one.unit.ranks for one in block]),
        np.concatenate([one.counted for one in block], -1),
        np.concatenate([one.unit.truth_groups for one in block]),
    )


def _precision(kept: list[_Chunk], positives: NDArray[np.int64], cap: int) -> NDArray[np.float64]:
    """(A, T, C), NaN where there are no positives."""
    ranges, classes = positives.shape
    thresholds = kept[0].right.shape[1]
    out = np.full((ranges, thresholds, classes), np.nan)
    groups = np.concatenate([chunk.groups for chunk in kept])
    ranks = np.concatenate([chunk.ranks for chunk in kept])
    scores = np.concatenate([chunk.scores for chunk in kept])
    starts = np.cumsum([0, *(len(chunk.scores) for chunk in kept)])
    near = np.concatenate([c.near + start for c, start in zip(kept, starts, strict=False)])
    # Falling scores within each class; equal scores keep the order of the pictures.
    order = np.lexsort((-scores, groups))
    order = order[ranks[order] < cap]
    place = np.full(len(scores), -1)
    place[order] = np.arange(len(order))
    inside = np.flatnonzero(place[near] >= 0)
    inside = inside[np.argsort(place[near[inside]])]  # columns of right and wrong, in order
    place = place[near[inside]]
    group = groups[near[inside]]
    edges = np.searchsorted(groups[order], np.arange(classes))
    for a in range(ranges):  # one at a time: these are the largest arrays there are
        right = np.concatenate([chunk.right[a] for chunk in kept], -1)[:, inside]
        wrong = np.concatenate([chunk.wrong[a] for chunk in kept], -1)[:, inside]
        stray = np.concatenate([chunk.stray[a] for chunk in kept], -1)[order]
        before = np.concatenate([[0], np.cumsum(stray)])  # mistakes in front of each detection
        astray = before[place] - before[edges[group]]
        levels = _levels(positives[a])
        for t in range(thresholds):
            out[a, t] = _average_precision(right[t], wrong[t], astray, group, levels)
        out[a, :, positives[a] == 0] = np.nan
    return out


def _levels(positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """(C, 101): how many regions of a class must be found for each recall, minus one."""
    out = np.zeros((len(positives), len(RECALL_LEVELS)), np.int64)
    for total in np.unique(positives[positives > 0]):
        recalls = np.arange(1, total + 1, dtype=np.float64) / total
        out[positives == total] = np.searchsorted(recalls, RECALL_LEVELS, side="left")
    return out


def _average_precision(
    right: NDArray[np.bool_],
    wrong: NDArray[np.bool_],
    astray: NDArray[np.int64],
    groups: NDArray[np.int64],
    levels: NDArray[np.int64],
) -> NDArray[np.float64]:
    """101-point interpolated precision of every class: (C,).

    Args:
        right, wrong: (k,) of the detections near a region, by class and falling score.
        astray: (k,) mistakes of the same class in front of each that are near none.
        groups: (k,) classes, rising.
        levels: see :func:`_levels`.
    """
    # Precision changes for the better only where a detection is right.
    rises = np.flatnonzero(right)
    classes = groups[rises]
    counts = np.bincount(classes, minlength=len(levels))
    first = np.cumsum(counts) - counts  # of each class among the rises
    found = np.arange(1.0, len(rises) + 1) - first[classes]
    mistakes = np.cumsum(wrong, dtype=np.int64)
    start = np.searchsorted(groups, np.arange(len(levels)))
    ahead = np.append(0, mistakes)[start]  # of other classes
    exact = found / (found + mistakes[rises] - ahead[classes] + astray[rises] + np.spacing(1))
    # Precision at a recall is the best precision at that recall or beyond, in its own class.
    for begin, count in zip(first.tolist(), counts.tolist(), strict=True):
        if count > 1:
            backwards = exact[begin : begin + count][::-1]
            np.maximum.accumulate(backwards, out=backwards)
    reached = levels < counts[:, None]
    at = np.where(reached, first[:, None] + levels, 0)
    return np.where(reached, np.append(exact, 0.0)[at], 0.0).mean(1)


def mean(values: NDArray[np.float64]) -> float:
    """Mean over everything that is defined; NaN when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
