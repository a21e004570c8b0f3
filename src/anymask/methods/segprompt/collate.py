"""Training samples -> what the model's forward takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.nn.targets import Targets


class Collate:
    """Normalise pictures of one size into a batch and wrap the truth as :class:`Targets`."""

    def __init__(self, config: SegPromptConfig) -> None:
        self.mean = torch.tensor(config.image_mean)
        self.std = torch.tensor(config.image_std)

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples of a :class:`~anymask.training.mixture.Mixture` -> keyword arguments."""
        pixels = torch.stack([s["image"] for s in samples]).float()
        return {
            "pixel_values": ((pixels - self.mean) / self.std).permute(0, 3, 1, 2).contiguous(),
            "targets": [
                Targets(
                    s["masks"],
                    s["labels"],
                    s["labelled"],
                    s["seed"],
                    s.get("negatives", ()),
                    s.get("not_exhaustive", ()),
                    s.get("image_labels", ()),
                )
                for s in samples
            ],
        }
