"""A vision transformer that learns to name what every patch shows, before a language model listens
to it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import InternVLVisionConfig, InternVLVisionModel, PreTrainedModel
from transformers.utils import ModelOutput

from anymask.nn.balanced_accuracy import balanced_accuracy
from anymask.nn.distributed import mean_over_processes
from anymask.training.scene_phrases import NAMES
from anymask.training.scene_windows import UNNAMED


@dataclass
class WordsOutput(ModelOutput):
    """``loss``: scalar; ``loss_parts``: name -> scalar, for the log."""

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None


class WordPatches(PreTrainedModel):
    """InternVL's vision transformer under one linear layer."""

    config_class = InternVLVisionConfig
    base_model_prefix = "vision"
    _supports_sdpa = True
    _supports_attention_backend = True

    def __init__(self, config: InternVLVisionConfig) -> None:
        super().__init__(config)
        self.vision = InternVLVisionModel(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.words = nn.Linear(config.hidden_size, len(NAMES))
        self.post_init()

    def forward(self, pixel_values: Tensor, words: Tensor, weights: Tensor) -> WordsOutput:
        """One step.

        Args:
            pixel_values: (B, 3, S, S) normalised.
            words: (B, g, g) int64, a place in ``NAMES`` or ``UNNAMED``.
            weights: (W,) how much each of ``NAMES`` counts.

        Returns:
            ``loss``: weighted mean cross-entropy over all named patches of all processes;
            ``loss_parts``: also the balanced accuracy.
        """
        hidden = self.vision(pixel_values).last_hidden_state[:, 1:]
        logits = self.words(self.norm(hidden)).flatten(0, 1).float()
        wanted = words.flatten()
        named = wanted != UNNAMED
        counts = torch.where(named, weights[wanted.clamp(min=0)], 0.0)
        entropy = F.cross_entropy(logits, wanted, ignore_index=UNNAMED, reduction="none")
        loss = (entropy * counts).sum() / mean_over_processes(counts.sum()).clamp(min=1.0)
        right = balanced_accuracy(logits.argmax(1)[named], wanted[named])
        return WordsOutput(loss=loss, loss_parts={"words": loss.detach(), "right": right})
