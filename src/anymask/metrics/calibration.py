"""Whether probabilities mean what they say: expected calibration error (Guo et al. 2017, eq. 3)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymask.errors import InputError


@dataclass(frozen=True)
class Calibration:
    """A reliability diagram.

    Attributes:
        borders: (B + 1,) of the bins, in 0..1.
        counts: (B,) predictions.
        confidence: (B,) mean probability, NaN in empty bins.
        accuracy: (B,) share that was right, NaN in empty bins.
        brier: mean squared difference of probability and truth.
    """

    borders: NDArray[np.float64]
    counts: NDArray[np.int64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    brier: float

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence|, weighted by counts."""
        total = self.counts.sum()
        if not total:
            return float("nan")
        apart = np.abs(np.nan_to_num(self.accuracy) - np.nan_to_num(self.confidence))
        return float((apart * self.counts).sum() / total)


def calibration(probabilities: ArrayLike, right: ArrayLike, bins: int = 10) -> Calibration:
    """Measure probabilities against what was right.

    Args:
        probabilities: (N,) in 0..1; NaN is left out.
        right: (N,) bool.
        bins: of equal width.

    Raises:
        InputError: other numbers of values, or a probability outside of 0..1.
    """
    p, truth = np.asarray(probabilities, float), np.asarray(right, bool)
    if p.shape != truth.shape or p.ndim != 1:
        raise InputError(f"{p.shape} probabilities and {truth.shape} truths do not fit")
    p, truth = p[~np.isnan(p)], truth[~np.isnan(p)]
    if len(p) and (p.min() < 0 or p.max() > 1):
        raise InputError("probabilities lie between 0 and 1")
    which = np.minimum((p * bins).astype(int), bins - 1)
    counts = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        confidence = np.bincount(which, p, bins) / counts
        accuracy = np.bincount(which, truth, bins) / counts
    brier = float(((p - truth) ** 2).mean()) if len(p) else float("nan")
    return Calibration(np.linspace(0, 1, bins + 1), counts, confidence, accuracy, brier)
