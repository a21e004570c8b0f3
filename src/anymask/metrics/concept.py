"""How well phrases find all their things, and only where there are any: cgF1 (SAM 3, 2025).

cgF1 = pmF1 x MCC. pmF1 ("positive micro F1") asks how well things are found where the phrase means
something; MCC (Matthews' correlation) how well "there is none" is told. docs/find.md works an
example by hand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment

from anymask.errors import InputError

THRESHOLDS = tuple(np.round(np.arange(0.5, 1.0, 0.05), 2).tolist())


@dataclass
class ConceptMeter:
    """Counts (picture, phrase) pairs.

    Attributes:
        right, wrong, missed: (10,) matched, unmatched found and unmatched true things at the IoU
            thresholds 0.5, 0.55, ... 0.95, over the phrases that mean something.
        table: (2, 2) int64 [found something, means something] over all phrases.
    """

    right: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    wrong: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    missed: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(THRESHOLDS), np.int64))
    table: NDArray[np.int64] = field(default_factory=lambda: np.zeros((2, 2), np.int64))

    def add(self, iou: ArrayLike) -> None:
        """Count a phrase in a picture.

        Args:
            iou: (M, G) IoU of every found thing with every true one; either may be 0.

        Raises:
            InputError: it is no table.
        """
        matrix: NDArray[Any] = np.asarray(iou, float)
        if matrix.ndim != 2:
            raise InputError(f"overlaps are a table (found, true), not of shape {matrix.shape}")
        found, true = matrix.shape
        self.table[int(found > 0), int(true > 0)] += 1
        if not true:
            return
        for k, threshold in enumerate(THRESHOLDS):
            good = matrix >= threshold - 1e-9
            rows, columns = linear_sum_assignment(-(good * (1 + matrix)))
            matched = int(good[rows, columns].sum())
            self.right[k] += matched
            self.wrong[k] += found - matched
            self.missed[k] += true - matched

    @property
    def mcc(self) -> float:
        """Matthews' correlation of "found something" with "means something", in -1..1; 0 where it
        is undefined (always or never found, or all phrases alike)."""
        (tn, fn), (fp, tp) = self.table.tolist()
        below = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return (tp * tn - fp * fn) / below if below else 0.0

    def summary(self) -> dict[str, float]:
        """``cgF1`` and ``presence_MCC`` in -1..1; ``pmF1``, ``F1@50``, ``presence_accuracy`` in
        0..1; the numbers of phrases."""
        below = 2 * self.right + self.wrong + self.missed
        f1 = np.where(below > 0, 2 * self.right / np.maximum(below, 1), 0.0)
        total, true = int(self.table.sum()), int(self.table[:, 1].sum())
        positive = float(f1.mean()) if true else float("nan")
        return {
            "cgF1": positive * self.mcc,
            "pmF1": positive,
            "F1@50": float(f1[0]) if true else float("nan"),
            "presence_MCC": self.mcc,
            "presence_accuracy": float(np.trace(self.table) / max(1, total)),
            "phrases": float(total),
            "phrases_with_things": float(true),
        }
