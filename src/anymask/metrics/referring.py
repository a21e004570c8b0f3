"""Referring segmentation: cIoU, gIoU and precision at IoU thresholds (LISA; OpenWorldSAM, 5.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.errors import InputError

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass
class ReferringMeter:
    """Counts pixels, phrase after phrase.

    Attributes:
        shared: pixels in both masks, a number a phrase.
        union: pixels in either.
    """

    shared: list[int] = field(default_factory=list)
    union: list[int] = field(default_factory=list)

    def add(self, truth: NDArray[Any], found: NDArray[Any]) -> None:
        """Count a phrase.

        Args:
            truth: (H, W) bool, the union of everything it means; empty if it means nothing.
            found: (H, W) bool.

        Raises:
            InputError: masks of different sizes.
        """
        if truth.shape != found.shape:
            raise InputError(f"the truth is {truth.shape}, the prediction {found.shape} pixels")
        first, second = truth.astype(bool), found.astype(bool)
        self.shared.append(int((first & second).sum()))
        self.union.append(int((first | second).sum()))

    def add_counts(self, shared: int, union: int) -> None:
        """Count a phrase whose overlap is known already (masks as run lengths)."""
        self.shared.append(shared)
        self.union.append(union)

    @property
    def iou(self) -> NDArray[np.float64]:
        """(N,) IoU of every phrase; 1 where nothing was meant and nothing found.

        (DEVIATION: the released evaluator divides by zero there.)
        """
        shared, union = np.array(self.shared, float), np.array(self.union, float)
        return np.where(union > 0, shared / np.maximum(union, 1), 1.0)

    def summary(self) -> dict[str, float]:
        """``cIoU`` (pixels of all phrases together), ``gIoU`` (mean over phrases),
        ``precision@t``: all in 0..1; and ``phrases``."""
        iou = self.iou
        if not len(iou):
            return {"cIoU": float("nan"), "gIoU": float("nan"), "phrases": 0.0}
        return {
            "cIoU": float(sum(self.shared) / max(1, sum(self.union))),
            "gIoU": float(iou.mean()),
            **{f"precision@{t:g}": float((iou >= t).mean()) for t in THRESHOLDS},
            "phrases": float(len(iou)),
        }
