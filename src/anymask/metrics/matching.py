"""COCO's greedy matching of detections and truth, many pictures at a time.

Pictures are independent, so whole blocks of them are matched together, over all IoU thresholds and
area ranges at once.

Shape legend: A area ranges, T thresholds, U units of a block, D detections, N those of them that
fit any region, G truth regions.
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

    Most detections fit no region at any threshold. What happens to them depends on their size
    alone, so they take no part in the matching.

    Attributes:
        unit: the unit.
        near: (D,) bool: fits a region at the lowest threshold; N of them.
        hit: (A, T, N) bool: matched with a region (ignored ones included).
        ignored: (A, T, N) bool: counts neither as right nor as wrong.
        stray: (A, D) bool: a mistake at every threshold; False where ``near``.
        counted: (A, G) bool: regions that should be found.
    """

    unit: Unit
    near: NDArray[np.bool_]
    hit: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    stray: NDArray[np.bool_]
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
    nears: list[NDArray[np.bool_]] = []
    most_truth = most_found = 1
    per_region = len(thresholds) * len(ranges)
    floor = np.minimum(thresholds, 1 - 1e-10)
    for unit in units:
        near = (unit.iou >= floor[0]).any(1)
        size = int(near.sum()), len(unit.truth_areas)
        found, truth = max(most_found, size[0]), max(most_truth, size[1])
        if block and (len(block) + 1) * max(truth, found) * per_region > BLOCK_VALUES:
            yield from _match_block(block, nears, (most_found, most_truth), floor, ranges)
            block, nears = [], []
            found, truth = max(1, size[0]), max(1, size[1])
        block.append(unit)
        nears.append(near)
        most_found, most_truth = found, truth
    if block:
        yield from _match_block(block, nears, (most_found, most_truth), floor, ranges)


def _match_block(
    block: list[Unit],
    nears: list[NDArray[np.bool_]],
    size: tuple[int, int],
    floor: NDArray[np.float64],
    ranges: Sequence[tuple[float, float]],
) -> Iterator[Matched]:
    """Match units whose near detections and regions number at most ``size``."""
    count, (found, truth) = len(block), size
    low, high = np.array(ranges).T[:, :, None, None]
    iou = np.full((count, found, truth), -1.0)
    areas, truth_areas = np.zeros((count, found)), np.full((count, truth), -1.0)
    crowd = np.zeros((count, truth), bool)
    loose = np.zeros((count, found), bool)
    for row, (unit, near) in enumerate(zip(block, nears, strict=True)):
        fitting = unit.iou[near]
        d, g = fitting.shape
        iou[row, :d, :g] = fitting
        areas[row, :d] = unit.areas[near]
        truth_areas[row, :g] = unit.truth_areas
        crowd[row, :g] = unit.crowd
        loose[row, :d] = unit.loose[near]
    exists = truth_areas >= 0
    outside = (truth_areas < low) | (truth_areas > high)  # A, U, G
    ignore = outside | crowd
    free = np.ones((len(ranges), count, len(floor), truth), bool)
    hit = np.zeros((found, len(ranges), count, len(floor)), bool)
    in_ignored = np.zeros_like(hit)
    # Regions that count come before ignored ones whatever their IoU.
    bonus = np.where(ignore, 0.0, 2.0)
    # A detection fits a few regions only: those are looked at, in their order.
    fitting = iou >= floor[0]
    number = fitting.sum(-1)  # U, D
    regions = np.argsort(~fitting, axis=-1, kind="stable")
    steps = np.arange(len(floor))
    for d in range(found):
        active = np.flatnonzero(number[:, d])
        if len(active) == 0:
            continue
        best = np.full((len(ranges), len(active), len(floor)), -1.0)
        chosen = np.zeros(best.shape, np.int64)
        for place in range(int(number[active, d].max())):
            which = regions[active, d, place]  # U'
            overlap = np.where(number[active, d] > place, iou[active, d, which], -1.0)
            worth = (overlap + bonus[:, active, which])[..., None]  # A, U', 1
            better = free[:, active[:, None], steps, which[:, None]]  # A, U', T
            better &= overlap[:, None] >= floor
            better &= worth >= best  # the later of equals
            best = np.where(better, worth, best)
            chosen = np.where(better, which[:, None], chosen)
        a, u, t = np.nonzero(best >= 0)  # what takes something
        region, unit_of = chosen[a, u, t], active[u]
        hit[d, a, unit_of, t] = True
        in_ignored[d, a, unit_of, t] = ignore[a, unit_of, region]
        single = ~crowd[unit_of, region]
        free[a[single], unit_of[single], t[single], region[single]] = False
    beyond = (areas < low) | (areas > high) | loose  # A, U, D
    ignored = in_ignored | (~hit & beyond.transpose(2, 0, 1)[..., None])
    counted = exists & ~ignore  # A, U, G
    smallest, largest = np.array(ranges).T[:, :, None]
    sizes = np.concatenate([unit.areas for unit in block])
    fine = np.concatenate([near | unit.loose for unit, near in zip(block, nears, strict=True)])
    stray = (sizes >= smallest) & (sizes <= largest) & ~fine
    first = 0
    for row, (unit, near) in enumerate(zip(block, nears, strict=True)):
        d, g = int(near.sum()), len(unit.truth_areas)
        last = first + len(near)
        # N, A, T as it was computed -> A, T, N as it is read.
        yield Matched(
            unit,
            near,
            hit[:d, :, row].transpose(1, 2, 0),
            ignored[:d, :, row].transpose(1, 2, 0),
            stray[:, first:last],
            counted[:, row, :g],
        )
        first = last
