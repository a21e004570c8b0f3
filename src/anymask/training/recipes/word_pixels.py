"""A segmenter's backbone and pixel decoder that learn to name what every pixel shows, before any
query looks at their features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from transformers import PreTrainedModel

from anymask.data.scenes import make_scene
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.nn.balanced_accuracy import balanced_accuracy
from anymask.nn.distributed import mean_over_processes
from anymask.training.scene_phrases import NAMES
from anymask.training.scene_windows import UNNAMED, words_of_patches, words_of_pixels
from anymask.training.word_patches import WordsOutput

LEVELS = 3  # of the pixel decoder, at strides 8, 16 and 32
STRIDE = 4  # of the mask features


@dataclass
class SceneWords(Dataset[dict[str, Tensor]]):
    """Whole scenes with a word for every cell of the mask features.

    Attributes:
        count: length of the run in scenes.
        size: side in pixels, a multiple of 32.
        seed: of the world; everything is named, unseen things too.
    """

    count: int
    size: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``pictures`` (1, 3, S, S) uint8 and ``words`` (1, S/4, S/4) int64: a place in ``NAMES``,
        or ``UNNAMED``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, "val")
        picture = torch.from_numpy(np.ascontiguousarray(scene.image)).permute(2, 0, 1)
        words = words_of_patches(torch.from_numpy(words_of_pixels(scene)), self.size // STRIDE)
        return {"pictures": picture[None], "words": words[None]}


class WordPixels(PreTrainedModel):
    """SegPrompt's segmenter with one linear layer over each of the maps that its decoder sees."""

    config_class = SegPromptConfig
    base_model_prefix = "segmenter"

    def __init__(self, config: SegPromptConfig) -> None:
        super().__init__(config)
        self.segmenter = SegPromptModel(config)
        # Queries, decoder and heads have no part in it; they stay as they are drawn.
        self.segmenter.requires_grad_(False)
        for part in (self.segmenter.backbone, self.segmenter.pixel_decoder):
            part.requires_grad_(True)
        self.words = nn.ModuleList(
            nn.Conv2d(width, len(NAMES), 1)
            for width in (config.mask_dim, *(config.hidden_dim,) * LEVELS)
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        pass  # every part keeps its own initialiser

    def forward(self, pixel_values: Tensor, words: Tensor, weights: Tensor) -> WordsOutput:
        """One step.

        Args:
            pixel_values: (B, 3, S, S) normalised, S a multiple of 32.
            words: (B, S/4, S/4) int64, a place in ``NAMES`` or ``UNNAMED``.
            weights: (W,) how much each of ``NAMES`` counts.

        Returns:
            ``loss``: sum over the maps of the weighted mean cross-entropy over all named cells of
            all processes; ``loss_parts``: also the balanced accuracy of the finest map.
        """
        finest, levels = self.segmenter.encode(pixel_values)
        named = words != UNNAMED
        counts = weights[words.clamp(min=0)] * named
        total = mean_over_processes(counts.sum()).clamp(min=1.0)
        answers = [
            F.interpolate(head(found).float(), words.shape[1:], mode="bilinear")
            for head, found in zip(self.words, (finest, *levels), strict=True)
        ]
        losses = [
            (F.cross_entropy(a, words, ignore_index=UNNAMED, reduction="none") * counts).sum()
            for a in answers
        ]
        loss = sum(losses, losses[0].new_zeros(())) / total
        right = balanced_accuracy(answers[0].argmax(1)[named], words[named])
        return WordsOutput(loss=loss, loss_parts={"words": loss.detach(), "right": right})
