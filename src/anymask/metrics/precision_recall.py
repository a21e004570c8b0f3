"""Average recall and average precision from matched units.

Definitions are COCO's (Lin et al. 2014; its evaluation code) and, per class over all detections,
LVIS-OW's (SegPrompt, section 5.1).

Shape legend: A area ranges, T thresholds, C classes (groups of units).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
        classes: C; ``unit.group`` is below it.
        caps: numbers of detections a unit may keep, ascending; units hold at most the last.
        with_precision: also compute precision, which needs all scores in memory.
    """
    found: dict[int, NDArray[np.int64]] = {}
    positives: NDArray[np.int64] | None = None
    kept: list[Matched] = []
    for one in matched:
        if positives is None:
            shape = (*one.hit.shape[:2], classes)
            positives = np.zeros((shape[0], classes), np.int64)
            found = {cap: np.zeros(shape, np.int64) for cap in caps}
        positives[:, one.unit.group] += one.positives
        right = one.hit & ~one.ignored
        for cap in caps:
            found[cap][:, :, one.unit.group] += right[:, :, :cap].sum(-1)
        if with_precision and len(one.unit.scores):
            kept.append(one)
    if positives is None:
        nothing = np.full((1, 1, classes), np.nan)
        return Curves(dict.fromkeys(caps, nothing), nothing, np.zeros((1, classes), np.int64))
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = {cap: found[cap] / positives[:, None] for cap in caps}
    precision = _precision(kept, positives, len(found[caps[0]][0])) if with_precision else None
    return Curves(recall, precision, positives)


def _precision(
    kept: list[Matched], positives: NDArray[np.int64], thresholds: int
) -> NDArray[np.float64]:
    ranges, classes = positives.shape
    out = np.full((ranges, thresholds, classes), np.nan)
    members: dict[int, list[Matched]] = {}
    for one in kept:
        members.setdefault(one.unit.group, []).append(one)
    for group in np.flatnonzero(positives.any(0)):
        mine = members.get(int(group), [])
        total = positives[:, group]
        if not mine:
            out[total > 0, :, group] = 0.0
            continue
        scores = np.concatenate([one.unit.scores for one in mine])
        order = np.argsort(-scores, kind="stable")
        hit = np.concatenate([one.hit for one in mine], -1)[..., order]
        ignored = np.concatenate([one.ignored for one in mine], -1)[..., order]
        right = np.cumsum(hit & ~ignored, -1, dtype=np.float64)
        wrong = np.cumsum(~hit & ~ignored, -1, dtype=np.float64)
        exact = right / (right + wrong + np.spacing(1))
        # Precision at a recall is the best precision at that recall or beyond.
        best = np.maximum.accumulate(exact[..., ::-1], -1)[..., ::-1]
        for a in np.flatnonzero(total):
            reached = right[a] / total[a]
            for t in range(thresholds):
                place = np.searchsorted(reached[t], RECALL_LEVELS, side="left")
                values = np.append(best[a, t], 0.0)[np.minimum(place, len(scores))]
                out[a, t, group] = values.mean()
    return out


def mean(values: NDArray[np.float64]) -> float:
    """Mean over everything that is defined; NaN when nothing is."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if defined.size else float("nan")
