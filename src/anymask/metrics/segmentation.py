"""Measuring proposals and labelled masks against the truth of a data set.

Three readings of the same masks:

- *class-agnostic*: every region is of one class, all compete (specification "merged class");
- *class-wise recall*: each class alone against all detections (LVIS-OW; SegPrompt, section 5.1);
- *class-aware*: a detection counts for its own class only (COCO's AP).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.metrics.matching import AREA_RANGES, THRESHOLDS, Unit, match
from anymask.metrics.precision_recall import Curves, curves, mean
from anymask.ops import rle as rle_ops
from anymask.ops.rle import RLE

RANGES = list(AREA_RANGES)


@dataclass(frozen=True)
class Regions:
    """The regions of one picture, found or true.

    Attributes:
        rles: N masks.
        scores: (N,) float; ones for the truth.
        classes: (N,) int64 category ids; zeros where there are none.
        areas: (N,) pixels; for the truth its ``area`` field where it has one.
        crowd: (N,) bool.
    """

    rles: list[RLE]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        rles: list[RLE],
        scores: Any = None,
        classes: Any = None,
        areas: Any = None,
        crowd: Any = None,
    ) -> Regions:
        """Fill in what is not given: score 1, class 0, the mask's own area, no crowd."""
        count = len(rles)
        return cls(
            rles,
            np.ones(count) if scores is None else np.asarray(scores, np.float64),
            np.zeros(count, np.int64) if classes is None else np.asarray(classes, np.int64),
            rle_ops.area(rles).astype(np.float64) if areas is None else np.asarray(areas, float),
            np.zeros(count, bool) if crowd is None else np.asarray(crowd, bool),
        )

    def best(self, cap: int) -> Regions:
        """The ``cap`` regions of highest score, best first; equal scores keep their order."""
        order = np.argsort(-self.scores, kind="stable")[:cap]
        return self.rows(order)

    def rows(self, rows: NDArray[Any]) -> Regions:
        """A choice of rows."""
        rows = np.asarray(rows)
        if rows.dtype == np.bool_ and rows.all():
            return self
        numbers = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Regions(
            [self.rles[n] for n in numbers.tolist()],
            self.scores[rows],
            self.classes[rows],
            self.areas[rows],
            self.crowd[rows],
        )


Pictures = Mapping[Any, tuple[Regions, Regions]]
"""Image id -> (truth, found)."""


class Pairs(Mapping[Any, tuple[Regions, Regions]]):
    """Truth beside what was found, looked up only when asked for.

    Args:
        truth: image id -> regions; its keys are the pictures.
        found: image id -> regions; a picture without any may be missing.
    """

    def __init__(self, truth: Mapping[Any, Regions], found: Mapping[Any, Regions]) -> None:
        self.truth = truth
        self.found = found
        self._nothing = Regions.of([])

    def __len__(self) -> int:
        return len(self.truth)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.truth)

    def __getitem__(self, image_id: Any) -> tuple[Regions, Regions]:
        found = self.found.get(image_id, self._nothing)
        return self.truth[image_id], found

    def subset(self, image_ids: Collection[Any]) -> Pairs:
        """Some of the pictures."""
        return Pairs({i: self.truth[i] for i in image_ids}, self.found)


def _truths(pictures: Pictures) -> Iterable[Regions]:
    """The truth alone, without parsing what was found."""
    if isinstance(pictures, Pairs):
        return pictures.truth.values()
    return (truth for truth, _ in pictures.values())


def class_agnostic(pictures: Pictures, max_dets: int = 100) -> dict[str, Any]:
    """AR and AP of masks without regard to class.

    Args:
        pictures: truth and detections of every picture, also of those without detections.
        max_dets: detections a picture may keep.

    Returns:
        ``AR@1``, ``AR@10``, ``AR@<max_dets>``, ``AR_small``... (at ``max_dets``), ``AP``,
        ``AP50``, ``AP75``, ``AP_small``...; NaN where no region is in the range.
    """
    caps = sorted({min(1, max_dets), min(10, max_dets), max_dets})

    def units() -> Iterator[Unit]:
        for truth, found in pictures.values():
            yield _unit(truth, found.best(max_dets))

    result = curves(match(units()), 1, caps)
    return _summary(result, caps)


def class_wise_recall(
    pictures: Pictures, groups: Mapping[str, set[int]] | None = None, max_dets: int = 100
) -> dict[str, Any]:
    """LVIS-OW's recall: of each class against all detections of the picture, then the mean.

    Args:
        pictures: truth (with category ids) and detections; the classes of detections are not
            looked at. Crowds and regions without area are left out of the truth.
        groups: name -> category ids (known, seen, unseen).
        max_dets: detections a picture may keep. The released tool keeps 300 and prints "100".

    Returns:
        ``AR`` over all classes with truth, ``AR_small``, ``AR_medium``, ``AR_large``,
        ``AR_<group>``, ``AR_small_<group>``... and ``per_class``: category id -> recall averaged
        over thresholds. NaN where there is no truth.
    """
    ids = sorted({int(c) for truth in _truths(pictures) for c in truth.classes})
    number = {category: k for k, category in enumerate(ids)}

    def units() -> Iterator[Unit]:
        for truth, found in pictures.values():
            kept = truth.rows(~truth.crowd & (truth.areas > 0))
            best = found.rows(found.areas > 0).best(max_dets)
            iou = rle_ops.iou(best.rles, kept.rles)
            for category in np.unique(kept.classes):
                mine = kept.classes == category
                # Detections that fit no region of the class cannot change its recall.
                near = (iou[:, mine] >= THRESHOLDS[0] - 1e-9).any(1)
                group = number[int(category)]
                count = int(near.sum())
                yield Unit(
                    iou[near][:, mine],
                    best.scores[near],
                    best.areas[near],
                    kept.areas[mine],
                    np.zeros(int(mine.sum()), bool),
                    np.full(count, group),
                    np.full(int(mine.sum()), group),
                    np.zeros(count, np.int64),
                    np.zeros(count, bool),
                )

    result = curves(match(units()), len(ids), [max_dets], with_precision=False)
    recall = result.recall[max_dets].mean(1) if ids else np.full((4, 0), np.nan)  # A, C
    out: dict[str, Any] = {}
    for suffix, columns in [("", np.ones(len(ids), bool))] + [
        (f"_{name}", np.isin(ids, list(members))) for name, members in (groups or {}).items()
    ]:
        for row, area in enumerate(RANGES):
            out["AR" + ("" if area == "all" else f"_{area}") + suffix] = mean(recall[row, columns])
    out["per_class"] = {str(c): float(recall[0, k]) for k, c in enumerate(ids)}
    return out


def class_aware(pictures: Pictures, max_dets: int = 100) -> dict[str, Any]:
    """COCO's AP and AR: a detection counts for its own class only; means over classes, and
    ``per_class``: category id -> AP."""
    ids = sorted({int(c) for truth in _truths(pictures) for c in truth.classes})
    known, every = set(ids), np.array(ids, np.int64)
    caps = sorted({min(1, max_dets), min(10, max_dets), max_dets})

    def units() -> Iterator[Unit]:
        for truth, found in pictures.values():
            kept = found.rows(_member(found.classes, known))
            yield _unit(truth, _best_of_each(kept, max_dets), every)

    result = curves(match(units()), len(ids), caps)
    return {**_summary(result, caps), "per_class": _by_class(result, ids)}


@dataclass(frozen=True)
class Federation:
    """What a federated data set (LVIS) says about its pictures besides masks.

    Attributes:
        negatives: image id -> categories that are certainly not there.
        loose: image id -> categories that are not outlined completely.
        frequency: category id -> "r", "c" or "f".
    """

    negatives: Mapping[Any, set[int]]
    loose: Mapping[Any, set[int]]
    frequency: Mapping[int, str]


def federated(pictures: Pictures, federation: Federation, max_dets: int = 300) -> dict[str, Any]:
    """LVIS's AP and AR (Gupta et al. 2019, section 3).

    In a picture only categories with truth or a negative label are judged; an unmatched detection
    of a category that is not outlined completely is no mistake.

    Args:
        pictures: truth and detections; crowds do not exist in LVIS.
        federation: what is known of each picture.
        max_dets: detections a picture may keep, over all categories.

    Returns:
        ``AP``, ``AP50``, ``AP75``, ``AP_small``..., ``APr``, ``APc``, ``APf``, ``AR@<max_dets>``,
        ``AR_small``... and ``per_class``: category id -> AP. NaN where there is no truth.
    """
    ids = sorted(federation.frequency)
    known, every = set(ids), np.array(ids, np.int64)

    def units() -> Iterator[Unit]:
        for image, (truth, found) in pictures.items():
            judged = set(truth.classes.tolist()) | federation.negatives.get(image, set())
            best = found.best(max_dets)
            judged &= known
            best = best.rows(_member(best.classes, judged))
            loose = _member(best.classes, federation.loose.get(image, set()))
            plain = truth.rows(_member(truth.classes, judged))
            # No more are left than may be kept of any category: their ranks decide nothing.
            yield _unit(plain, best, every, loose, crowds=False, ranked=False)

    result = curves(match(units()), len(ids), [max_dets])
    out = _summary(result, [max_dets])
    assert result.precision is not None
    precision = _row(result.precision, 0)  # T, C
    for letter in "rcf":
        columns = [k for k, c in enumerate(ids) if federation.frequency[c] == letter]
        out[f"AP{letter}"] = mean(precision[:, columns])
    return {**out, "per_class": _by_class(result, ids)}


def _unit(
    truth: Regions,
    found: Regions,
    ids: NDArray[np.int64] | None = None,
    loose: NDArray[np.bool_] | None = None,
    crowds: bool = True,
    ranked: bool = True,
) -> Unit:
    """A picture as a unit; with ``ids``, all categories in rising order, only equal classes may
    match, and a category's place among them is its group."""
    crowd = truth.crowd if crowds else np.zeros(len(truth.rles), bool)
    iou = rle_ops.iou(found.rles, truth.rles, crowd)
    count = len(found.rles)
    if ids is None:
        groups, truth_groups = np.zeros(count, np.int64), np.zeros(len(truth.rles), np.int64)
        ranks = np.arange(count)
    else:
        groups, truth_groups = ids.searchsorted(found.classes), ids.searchsorted(truth.classes)
        iou = np.where(groups[:, None] == truth_groups[None], iou, -1.0)
        ranks = _ranks(groups) if ranked else np.zeros(count, np.int64)
    nothing = np.zeros(count, bool)
    return Unit(
        iou,
        found.scores,
        found.areas,
        truth.areas,
        crowd,
        groups,
        truth_groups,
        ranks,
        nothing if loose is None else loose,
    )


def _member(classes: NDArray[np.int64], among: Collection[int]) -> NDArray[np.bool_]:
    """Which classes are among some."""
    if not among:
        return np.zeros(len(classes), bool)
    return np.array([c in among for c in classes.tolist()], bool)


def _ranks(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of the same group come before each."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - starts
    return ranks


def _best_of_each(found: Regions, cap: int) -> Regions:
    """By falling score, at most ``cap`` regions of each class."""
    ordered = found.best(len(found.rles))
    return ordered.rows(_ranks(ordered.classes) < cap)


def _summary(result: Curves, caps: list[int]) -> dict[str, float]:
    most = caps[-1]
    out = {f"AR@{cap}": mean(_row(result.recall[cap], 0)) for cap in caps}
    for row, area in enumerate(RANGES[1:], 1):
        out[f"AR_{area}"] = mean(_row(result.recall[most], row))
    assert result.precision is not None
    for name, threshold in (("AP", None), ("AP50", 0.5), ("AP75", 0.75)):
        values = _row(result.precision, 0)
        if threshold is not None and len(values) == len(THRESHOLDS):
            values = values[np.isclose(THRESHOLDS, threshold)]
        out[name] = mean(values)
    for row, area in enumerate(RANGES[1:], 1):
        out[f"AP_{area}"] = mean(_row(result.precision, row))
    return out


def _by_class(result: Curves, ids: list[int]) -> dict[str, float]:
    """AP of every class."""
    assert result.precision is not None
    precision = _row(result.precision, 0)  # T, C
    return {str(category): mean(precision[:, k]) for k, category in enumerate(ids)}


def _row(values: NDArray[np.float64], row: int) -> NDArray[np.float64]:
    return values[min(row, len(values) - 1)]
