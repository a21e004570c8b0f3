"""Mean IoU of semantic segmentation, with every convention said aloud (OVSNet specification, 7.1).

Two denominators are in use and differ by points: classes that occur in the truth (``present``,
detectron2 today), or in truth or predictions (``present_or_predicted``, older detectron2 and
MAFT+'s evaluator). Both are always reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.errors import InputError


class ConfusionMatrix:
    """Pixels by predicted and true class, picture after picture, in one small table.

    Args:
        classes: K, at least 1.

    Attributes:
        counts: (K + 1, K + 1) int64 [predicted, true]; the last row is "no prediction", the last
            column is "ignored".
    """

    def __init__(self, classes: int) -> None:
        if classes < 1:
            raise InputError(f"a confusion matrix has at least 1 class, not {classes}")
        self.classes = classes
        self.counts = np.zeros((classes + 1, classes + 1), np.int64)

    def add(self, truth: NDArray[Any], found: NDArray[Any]) -> None:
        """Count a picture.

        Args:
            truth: (H, W) whole numbers, 0..K-1; negative numbers are ignored pixels.
            found: (H, W) of the same; negative numbers are pixels without a prediction.

        Raises:
            InputError: another shape, or a class from K on.
        """
        if truth.shape != found.shape:
            raise InputError(f"the truth is {truth.shape}, the prediction {found.shape} pixels")
        for name, values in (("truth", truth), ("prediction", found)):
            if values.size and int(values.max()) >= self.classes:
                raise InputError(
                    f"the {name} has the class {int(values.max())}, but there are {self.classes}: "
                    "give the vocabulary that the pictures were made with"
                )
        side = self.classes + 1
        rows = np.where(found < 0, self.classes, found).astype(np.int64)
        columns = np.where(truth < 0, self.classes, truth).astype(np.int64)
        self.counts += np.bincount((rows * side + columns).ravel(), minlength=side * side).reshape(
            side, side
        )

    def __iadd__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        self.counts += other.counts
        return self

    @property
    def iou(self) -> NDArray[np.float64]:
        """(K,) IoU of every class; NaN where it is neither in the truth nor predicted."""
        right, true, said = self._sums()
        union = true + said - right
        with np.errstate(invalid="ignore"):
            return np.where(union > 0, right / np.maximum(union, 1), np.nan)

    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Right, true and predicted pixels of every class; ignored pixels count nowhere."""
        table = self.counts[:, :-1].astype(np.float64)
        return np.diagonal(table).copy(), table.sum(0), table[:-1].sum(1)

    def summary(
        self,
        *,
        groups: Mapping[str, Collection[int]] | None = None,
        similarity: Sequence[float] | None = None,
        bins: Sequence[float] = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        left_out: Collection[int] = (),
    ) -> dict[str, float]:
        """All numbers.

        Args:
            groups: name -> classes, for ``mIoU_<name>`` (seen, unseen, ...).
            similarity: (K,) of every class to the training vocabulary, for ``mIoU_sim_a_b``.
            bins: borders of the similarity bins, ascending; the last bin includes its border.
            left_out: classes that count as rivals but not in the means ("others").

        Returns:
            ``mIoU`` (classes in the truth), ``mIoU_present_or_predicted``, ``fwIoU``, ``mACC``,
            ``pACC`` in 0..1, the numbers of classes they are means over, and the groups.
        """
        right, true, said = self._sums()
        counted = np.ones(self.classes, bool)
        counted[list(left_out)] = False
        present = (true > 0) & counted
        spoken = ((true > 0) | (said > 0)) & counted
        iou = np.nan_to_num(self.iou)
        share = true / max(1.0, true.sum())
        accuracy = right / np.maximum(true, 1)
        out = {
            "mIoU": _mean(iou[present]),
            "mIoU_present_or_predicted": (
                float(iou[present].sum() / spoken.sum()) if spoken.any() else float("nan")
            ),
            "fwIoU": float((share * iou)[present].sum()),
            "mACC": _mean(accuracy[present]),
            "pACC": float(right.sum() / max(1.0, true.sum())),
            "classes_present": float(present.sum()),
            "classes_present_or_predicted": float(spoken.sum()),
        }
        for name, members in (groups or {}).items():
            mine = np.zeros(self.classes, bool)
            mine[list(members)] = True
            out[f"mIoU_{name}"] = _mean(iou[present & mine])
        if similarity is not None:
            near = np.asarray(similarity, float)
            for low, high in itertools.pairwise(bins):
                inside = (near >= low) & ((near < high) | ((high == bins[-1]) & (near <= high)))
                out[f"mIoU_sim_{low:g}_{high:g}"] = _mean(iou[present & inside])
        return out


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
