"""What the losses compare with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass
class Targets:
    """The truth of one picture.

    Attributes:
        masks: (G, H, W) uint8 or bool at the size of the padded picture; they may overlap.
        labels: (G,) int64, the class column of every object (0 in a class-agnostic model).
        labelled: (H, W) bool, where anything that is there has been labelled; None = everywhere.
        seed: seeds the sampled points, so that they do not depend on how a batch is split.
        negatives, not_exhaustive: classes that the data set says are absent, or present and not
            outlined completely (LVIS).
        image_labels: classes that are present, known without masks.
    """

    masks: Tensor
    labels: Tensor
    labelled: Tensor | None = None
    seed: int = 0
    negatives: tuple[int, ...] = ()
    not_exhaustive: tuple[int, ...] = ()
    image_labels: tuple[int, ...] = ()

    def to(self, device: torch.device | str) -> Targets:
        """The same on another device."""
        labelled = None if self.labelled is None else self.labelled.to(device)
        masks, labels = self.masks.to(device), self.labels.to(device)
        return replace(self, masks=masks, labels=labels, labelled=labelled)
