"""Panoptic quality (Kirillov et al. 2019, section 4), with COCO's rules for void and crowds."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.errors import InputError


@dataclass(frozen=True)
class Segment:
    """A segment of a panoptic map.

    Attributes:
        id: its number in the map; 0 is void.
        category: class.
        crowd: many objects in one outline: never to be found, never a mistake.
    """

    id: int
    category: int
    crowd: bool = False


class PanopticQuality:
    """PQ, SQ and RQ, picture after picture.

    Args:
        categories: all classes.
        things: those of them that are countable.
    """

    def __init__(self, categories: Sequence[int], things: Collection[int]) -> None:
        self.categories = list(categories)
        self.things = set(things)
        self._row = {category: k for k, category in enumerate(self.categories)}
        self.iou = np.zeros(len(self.categories))
        self.counts = np.zeros((len(self.categories), 3), np.int64)  # right, wrong, missed

    def add(
        self,
        truth: NDArray[Any],
        truth_segments: Sequence[Segment],
        found: NDArray[Any],
        found_segments: Sequence[Segment],
    ) -> None:
        """Count a picture.

        Args:
            truth, found: (H, W) maps of segment ids, 0 where nothing is.
            truth_segments, found_segments: what the ids mean; every id of a map must be listed.

        Raises:
            InputError: other shapes, an id that nobody lists, or an unknown category.
        """
        if truth.shape != found.shape:
            raise InputError(f"the truth is {truth.shape}, the prediction {found.shape} pixels")
        true = self._listed("truth", truth, truth_segments)
        said = self._listed("prediction", found, found_segments)
        # Both maps as one number per pixel, counted once.
        truth_ids, truth_places = np.unique(truth, return_inverse=True)
        found_ids, found_places = np.unique(found, return_inverse=True)
        both = np.bincount(
            truth_places.ravel() * len(found_ids) + found_places.ravel(),
            minlength=len(truth_ids) * len(found_ids),
        ).reshape(len(truth_ids), len(found_ids))
        true_area = dict(zip(truth_ids.tolist(), both.sum(1).tolist(), strict=True))
        said_area = dict(zip(found_ids.tolist(), both.sum(0).tolist(), strict=True))
        shared = {
            (int(truth_ids[t]), int(found_ids[f])): int(both[t, f])
            for t, f in zip(*np.nonzero(both), strict=True)
        }
        matched_true: set[int] = set()
        matched_said: set[int] = set()
        for (t, f), common in shared.items():
            if t not in true or f not in said or true[t].crowd:
                continue
            if true[t].category != said[f].category:
                continue
            # Predicted pixels on void are nobody's: they do not make the union larger.
            union = true_area[t] + said_area[f] - common - shared.get((0, f), 0)
            if common / union > 0.5:
                row = self._row[true[t].category]
                self.iou[row] += common / union
                self.counts[row, 0] += 1
                matched_true.add(t)
                matched_said.add(f)
        crowds = {s.category: s.id for s in true.values() if s.crowd}
        for t, segment in true.items():
            if t not in matched_true and not segment.crowd:
                self.counts[self._row[segment.category], 2] += 1
        for f, segment in said.items():
            if f in matched_said:
                continue
            nobody = shared.get((0, f), 0)
            if segment.category in crowds:
                nobody += shared.get((crowds[segment.category], f), 0)
            if nobody / said_area[f] <= 0.5:
                self.counts[self._row[segment.category], 1] += 1

    def _listed(
        self, name: str, ids: NDArray[Any], segments: Sequence[Segment]
    ) -> dict[int, Segment]:
        listed = {segment.id: segment for segment in segments}
        for segment in segments:
            if segment.category not in self._row:
                raise InputError(f"the {name} has the unknown category {segment.category}")
        present = set(np.unique(ids).tolist()) - {0}
        if unknown := present - listed.keys():
            raise InputError(f"the {name}'s map has the id {min(unknown)}, which it does not list")
        return {number: listed[number] for number in present}

    def summary(self) -> dict[str, Any]:
        """``PQ``, ``SQ``, ``RQ`` (0..1), the same for ``_things`` and ``_stuff``, and by class.

        Classes that occur neither in truth nor in predictions are in no mean.
        """
        right, wrong, missed = self.counts.T.astype(float)
        weight = right + 0.5 * wrong + 0.5 * missed
        there = weight > 0
        safe = np.maximum(weight, 1e-12)
        quality = {
            "PQ": self.iou / safe,
            "SQ": np.where(right > 0, self.iou / np.maximum(right, 1), 0.0),
            "RQ": right / safe,
        }
        thing = np.array([c in self.things for c in self.categories], bool)
        out: dict[str, Any] = {}
        for suffix, chosen in (("", there), ("_things", there & thing), ("_stuff", there & ~thing)):
            for name, values in quality.items():
                out[name + suffix] = float(values[chosen].mean()) if chosen.any() else float("nan")
        per_class: Mapping[str, float] = {
            str(c): float(quality["PQ"][k]) if there[k] else float("nan")
            for k, c in enumerate(self.categories)
        }
        return {**out, "per_class": dict(per_class)}
