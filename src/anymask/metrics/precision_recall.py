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
        for a in range(ranges):
            positives[a] += np.bincount(chunk.truth_groups[chunk.counted[a]], minlength=classes)
            for t in range(thresholds):
                right = chunk.right[a, t]
                groups, ranks = chunk.groups[right], chunk.ranks[right]
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
    """Many units in one piece; n detections, m regions."""

    right: NDArray[np.bool_]  # A, T, n: matched with a region that counts
    wrong: NDArray[np.bool_]  # A, T, n
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
        np.concatenate([one.unit.scores for one in block]),
        np.concatenate([one.unit.groups for one in block]),
        np.concatenate([one.unit.ranks for one in block]),
        np.concatenate([one.counted for one in block], -1),
        np.concatenate([one.unit.truth_groups for one in block]),
    )


def _precision(kept: list[_Chunk], positives: NDArray[np.int64], cap: int) -> NDArray[np.float64]:
    ranges, classes = positives.shape
    thresholds = kept[0].right.shape[1]
    out = np.full((ranges, thresholds, classes), np.nan)
    groups = np.concatenate([chunk.groups for chunk in kept])
    ranks = np.concatenate([chunk.ranks for chunk in kept])
    scores = np.concatenate([chunk.scores for chunk in kept])
    # Falling scores within each class; equal scores keep the order of the pictures.
    order = np.lexsort((-scores, groups))
    order = order[ranks[order] < cap]
    edges = np.searchsorted(groups[order], np.arange(classes + 1))
    for a in range(ranges):  # one at a time: these are the largest arrays there are
        right = np.concatenate([chunk.right[a] for chunk in kept], -1)[:, order]
        wrong = np.concatenate([chunk.wrong[a] for chunk in kept], -1)[:, order]
        for group in np.flatnonzero(positives[a]):
            mine = slice(edges[group], edges[group + 1])
            total = int(positives[a, group])
            out[a, :, group] = _average_precision(right[:, mine], wrong[:, mine], total)
    return out


def _average_precision(
    right: NDArray[np.bool_], wrong: NDArray[np.bool_], total: int
) -> NDArray[np.float64]:
    """101-point interpolated precision of (T, n) detections in falling order: (T,)."""
    out = np.empty(len(right))
    for t in range(len(right)):
        rises = np.flatnonzero(right[t])
        # Precision changes for the better only where a detection is right.
        found = np.arange(1, len(rises) + 1, dtype=np.float64)
        mistakes = np.cumsum(wrong[t], dtype=np.int64)[rises]
        exact = found / (found + mistakes + np.spacing(1))
        # Precision at a recall is the best precision at that recall or beyond.
        best = np.maximum.accumulate(exact[::-1])[::-1]
        place = np.searchsorted(found / total, RECALL_LEVELS, side="left")
        out[t] = np.append(best, 0.0)[np.minimum(place, len(rises))].mean()
    return out


def mean(values: NDArray[np.float64]) -> float:
    """Mean over everything that is defined; NaN when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
