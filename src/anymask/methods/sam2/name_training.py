"""Teaching a small SAM 2 to tell what it sees, besides where it ends.

SAM 2 comes from a backbone that was pre-trained on millions of pictures (its section 4), and what
it sees of a zebra differs from what it sees of a horse. One that only ever learnt from clicks on
scenes sees edges: nothing in its map tells a phrase where to look. So its coarsest map, the one
that OpenWorldSAM's queries read, also learns to name what is in every cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Sam2Config

from anymask.methods.sam2 import prompt_training
from anymask.methods.sam2.prompt_training import PromptTrainingOutput, Sam2PromptTraining
from anymask.nn.balanced_accuracy import balanced_accuracy
from anymask.nn.distributed import mean_over_processes
from anymask.nn.picture_input import normalised
from anymask.nn.sam2 import Sam2


class Sam2NameTraining(Sam2PromptTraining):
    """A ``Sam2PromptTraining`` with one linear layer for each kind of fact, below ``facts.``.

    A plain ``Sam2Model`` loads what it saves and leaves these layers.

    Args:
        config: of the model.
        kinds: how many answers each kind of fact has.
    """

    def __init__(self, config: Sam2Config, kinds: Sequence[int] = ()) -> None:
        super().__init__(config)
        kinds = kinds or config.fact_kinds
        config.fact_kinds = list(kinds)
        width = config.mask_decoder_config.hidden_size
        self.facts = nn.ModuleList(nn.Conv2d(width, count, 1) for count in kinds)

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        facts: Tensor,
        weights: Tensor,
        **prompts: Tensor,
    ) -> PromptTrainingOutput:
        """One step.

        Args:
            pixel_values: (B, 3, S, S) float, 0..255.
            facts: (B, F, g, g) int64, the answer of every kind in every cell of the coarsest map;
                negative = none.
            weights: (A,) how much each answer of the first kind counts.
            prompts: as of ``Sam2PromptTraining``; without them only facts are learned.
        """
        features = Sam2(self).encode(normalised(pixel_values / 255))
        parts = self.prompt_losses(features, **prompts) if prompts else {}
        right = {}
        for number, (head, wanted) in enumerate(zip(self.facts, facts.unbind(1), strict=True)):
            logits = head(features.coarse).float()
            told = wanted >= 0
            counts = told.float() if number else weights[wanted.clamp(min=0)] * told
            entropy = F.cross_entropy(logits, wanted.clamp(min=0), reduction="none")
            total = mean_over_processes(counts.sum()).clamp(min=1.0)
            parts[f"fact{number}"] = (entropy * counts).sum() / total
            right[f"right{number}"] = balanced_accuracy(logits.argmax(1)[told], wanted[told])
        return PromptTrainingOutput(
            loss=torch.stack(list(parts.values())).sum(),
            loss_parts={name: part.detach() for name, part in parts.items()} | right,
        )


class NameCollate:
    """Samples with facts -> a batch.

    Args:
        weights: (A,) how much each answer of the first kind counts.
        prompts: with the prompts of every sample.
    """

    def __init__(self, weights: Tensor, prompts: bool) -> None:
        self.weights, self.prompts = weights, prompts

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As ``prompt_training.collate``, and facts."""
        batch = prompt_training.collate(samples)
        if not self.prompts:
            batch = {"pixel_values": batch["pixel_values"]}
        return batch | {
            "facts": torch.stack([sample["facts"] for sample in samples]),
            "weights": self.weights,
        }
