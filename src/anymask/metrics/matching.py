"""COCO's greedy matching of detections and truth, many pictures at a time.

Pictures are independent, so whole blocks of them are matched together, over all IoU thresholds and
area ranges at once.

Shape legend: A area ranges, T thresholds, U units of a block, D detections, G truth regions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_RANGES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
BLOCK_VALUES = 4_000_000  # size of the largest array of a block


@dataclass(frozen=True)
class Unit:
    """Detections and truth of one picture that are matched with each other.

    Several classes may share a unit: pairs that must not match have an IoU below every threshold.

    Attributes:
        iou: (D, G) float64; towards a crowd it is intersection over the detection's area.
        scores: (D,) falling within each group.
        areas: (D,) pixels.
        truth_areas: (G,) pixels.
        crowd: (G,) bool: regions that may take any number of detections and count for nothing.
        groups, truth_groups: (D,) and (G,) int64: the class (or 0) that each counts for.
        ranks: (D,) int64: how many detections of its group come before.
        loose: (D,) bool: of a class that is not outlined completely, so that a detection without a
            match is no mistake (LVIS's not-exhaustive categories).
    """

    iou: NDArray[np.float64]
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]
    truth_areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    groups: NDArray[np.int64]
    truth_groups: NDArray[np.int64]
    ranks: NDArray[np.int64]
    loose: NDArray[np.bool_]


@dataclass(frozen=True)
class Matched:
    """What happened to one unit's detections.

    Attributes:
        unit: the unit.
        hit: (A, T, D) bool: matched with a region (ignored ones included).
        ignored: (A, T, D) bool: counts neither as right nor as wrong.
        counted: (A, G) bool: regions that should be found.
    """

    unit: Unit
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    counted: NDArray[np.bool_]


def match(
    units: Iterable[Unit],
    thresholds: NDArray[np.float64] = THRESHOLDS,
    ranges: Sequence[tuple[float, float]] = tuple(AREA_RANGES.values()),
) -> Iterator[Matched]:
    """Match every unit, in bounded memory; the order of units is kept.

    The rules are COCO's: in falling order of score each detection takes the free region with the
    highest IoU at or above the threshold (the later one of equals); regions outside the area range
    and crowds are ignored and taken only when no other fits; an unmatched detection outside the
    range is ignored.
    """
    block: list[Unit] = []
    most_truth = most_found = 0
    per_region = len(thresholds) * len(ranges)
    for unit in units:
        found, truth = max(most_found, len(unit.scores)), max(most_truth, len(unit.truth_areas))
        if block and (len(block) + 1) * max(truth * per_region, found * per_region) > BLOCK_VALUES:
            yield from _match_block(block, thresholds, ranges)
            block, found, truth = [], len(unit.scores), len(unit.truth_areas)
        block.append(unit)
        most_found, most_truth = found, truth
    if block:
        yield from _match_block(block, thresholds, ranges)


def _match_block(
    block: list[Unit], thresholds: NDArray[np.float64], ranges: Sequence[tuple[float, float]]
) -> Iterator[Matched]:
    count = len(block)
    found = max(len(u.scores) for u in block)
    truth = (
        max(1, *(len(u.truth_areas) for u in block))
        if count > 1
        else max(1, len(block[0].truth_areas))
    )
    low, high = np.array(ranges).T[:, :, None, None]
    iou = np.full((count, found, truth), -1.0)
    areas, truth_areas = np.zeros((count, found)), np.full((count, truth), -1.0)
    crowd = np.zeros((count, truth), bool)
    loose = np.zeros((count, found), bool)
    for row, unit in enumerate(block):
        d, g = unit.iou.shape
        iou[row, :d, :g] = unit.iou
        areas[row, :d] = unit.areas
        truth_areas[row, :g] = unit.truth_areas
        crowd[row, :g] = unit.crowd
        loose[row, :d] = unit.loose
    exists = truth_areas >= 0
    outside = (truth_areas < low) | (truth_areas > high)  # A, U, G
    ignore = outside | crowd
    free = np.ones((len(ranges), count, len(thresholds), truth), bool)
    hit = np.zeros((found, len(ranges), count, len(thresholds)), bool)
    in_ignored = np.zeros_like(hit)
    # Regions that count come before ignored ones whatever their IoU.
    bonus = np.where(ignore, 0.0, 2.0)[:, :, None, :]
    floor = np.minimum(thresholds, 1 - 1e-10)
    for d in range(found):
        active = np.flatnonzero((iou[:, d] >= floor[0]).any(-1))
        if len(active) == 0:
            continue
        overlap = iou[active, d]  # U', G
        fits = overlap[:, None, :] >= floor[:, None]  # U', T, G
        merit = np.where(fits & free[:, active], overlap[:, None, :] + bonus[:, active], -1.0)
        best = truth - 1 - merit[..., ::-1].argmax(-1)  # A, U', T; the later of equals
        taken = np.take_along_axis(merit, best[..., None], -1)[..., 0] >= 0
        hit[d][:, active] = taken
        was_ignored = np.take_along_axis(ignore[:, active, None, :], best[..., None], -1)[..., 0]
        in_ignored[d][:, active] = taken & was_ignored
        a, u, t = np.nonzero(taken)
        region = best[a, u, t]
        single = ~crowd[active[u], region]
        free[a[single], active[u[single]], t[single], region[single]] = False
    beyond = (areas < low) | (areas > high) | loose  # A, U, D
    ignored = in_ignored | (~hit & beyond.transpose(2, 0, 1)[..., None])
    counted = exists & ~ignore  # A, U, G
    for row, unit in enumerate(block):
        d, g = unit.iou.shape
        # D, A, T as it was computed -> A, T, D as it is read.
        yield Matched(
            unit,
            hit[:d, :, row].transpose(1, 2, 0),
            ignored[:d, :, row].transpose(1, 2, 0),
            counted[:, row, :g],
        )
