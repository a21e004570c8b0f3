"""Training samples -> what the model's forward takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from anymask.methods.ovsnet.configuration import OVSNetConfig
from anymask.nn.targets import Targets


class Collate:
    """Normalise pictures of one size into a batch and wrap the truth as :class:`Targets`.

    Args:
        config: of the model.
        keep_empty: keep objects that the crop has removed, as the published mapper does.
    """

    def __init__(self, config: OVSNetConfig, keep_empty: bool = False) -> None:
        self.mean = torch.tensor(config.clip.image_mean)
        self.std = torch.tensor(config.clip.image_std)
        self.keep_empty = keep_empty

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples with ``image``, ``masks``, ``labels`` and ``seed`` -> keyword arguments."""
        pixels = torch.stack([s["image"] for s in samples]).float()
        targets = []
        for sample in samples:
            masks, labels = sample["masks"], sample["labels"]
            if not self.keep_empty:
                there = masks.flatten(1).any(1).bool()
                masks, labels = masks[there], labels[there]
            targets.append(Targets(masks, labels, seed=sample["seed"]))
        return {
            "pixel_values": ((pixels - self.mean) / self.std).permute(0, 3, 1, 2).contiguous(),
            "targets": targets,
        }
