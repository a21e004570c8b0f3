"""Teaching a small BEiT-3 what phrases mean, so that it is worth freezing.

BEiT-3's own pre-training needs millions of pictures. This objective is for the scenes world, where
every phrase's truth is known, and asks of token 0 what OpenWorldSAM will ask of it: what is meant,
and where. Four losses:

- every patch alone against every word alone (picture-only and text-only passes): what is here;
- every patch, having read the phrase: does it belong to what is meant;
- token 0, having read the phrase: the share of every patch that is meant, from this one vector;
- token 0: whether the phrase means anything in the picture.

Shape legend: B pictures, P phrases of all pictures, W words, G = S - 1 patches, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import ModelOutput

from anymask.nn.beit3 import Beit3Config, Beit3Model
from anymask.nn.distributed import mean_over_processes

NOTHING_HERE = 0.2  # patches less than this share of which is nameable have no word
FIRST_SCALE = 2.3  # log of the factor on cosines


@dataclass
class GroundingOutput(ModelOutput):
    """``loss``: scalar; ``loss_parts``: name -> scalar; the rest for measuring.

    Attributes:
        heat: (P, G) logits, what token 0 says of every patch.
        presence: (P,) logits.
    """

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None
    heat: Tensor | None = None
    presence: Tensor | None = None


class Beit3Grounding(Beit3Model):
    """A :class:`Beit3Model` with the heads of the objective below ``grounding.``."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config)
        width = config.hidden_size
        patches = (config.image_size // config.patch_size) ** 2
        self.grounding = nn.ModuleDict(
            {
                "heat": nn.Linear(width, patches),
                "patch": nn.Linear(width, 1),
                "presence": nn.Linear(width, 1),
                "scale": nn.ParameterDict({"log": nn.Parameter(torch.tensor(FIRST_SCALE))}),
            }
        )
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.ParameterDict):  # also when plain BEiT-3 weights are loaded
            module.get_parameter("log").data.fill_(FIRST_SCALE)

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        picture: Tensor,
        cells: Tensor,
        word_ids: Tensor,
        word_mask: Tensor,
        word_cells: Tensor,
        word_weights: Tensor,
    ) -> GroundingOutput:
        """One step.

        Args:
            pixel_values: (B, 3, H, W).
            input_ids, attention_mask: (P, L) of the phrases.
            picture: (P,) which picture each phrase is about.
            cells: (P, G) share of every patch that the phrase means.
            word_ids, word_mask: (W, L) of single words.
            word_cells: (B, W, G) share of every patch that a word is true of.
            word_weights: (W,) how much a word counts.
        """
        words = self._words(pixel_values, word_ids, word_mask, word_cells, word_weights)
        if not len(picture):
            # The heads of phrases still take part, so that every process has every gradient.
            unused = sum(p.sum() for p in self.parameters() if p.requires_grad)
            return GroundingOutput(loss=words + 0 * unused, loss_parts={"words": words.detach()})
        joint = super().forward(pixel_values[picture], input_ids, attention_mask)
        assert joint.last_hidden_state is not None
        assert joint.pooler_output is not None
        heads = self.grounding
        patches = cells.shape[1]
        there = (cells.sum(1) > 0).float()
        heat = heads["heat"](joint.pooler_output)
        presence = heads["presence"](joint.pooler_output)[:, 0]
        read = heads["patch"](joint.last_hidden_state[:, 1 : 1 + patches])[..., 0]
        count = mean_over_processes(there.new_tensor(float(len(cells)))).clamp(min=1.0)
        parts = {
            "heat": _mean_entropy(heat, cells) / count,
            "patch": _mean_entropy(read, cells) / count,
            "presence": F.binary_cross_entropy_with_logits(presence, there, reduction="sum")
            / count,
            "words": words,
        }
        return GroundingOutput(
            loss=torch.stack(list(parts.values())).sum(),
            loss_parts={name: part.detach() for name, part in parts.items()},
            heat=heat,
            presence=presence,
        )

    def _words(
        self, pixel_values: Tensor, ids: Tensor, mask: Tensor, cells: Tensor, weights: Tensor
    ) -> Tensor:
        """Softmax over words for every patch that shows something with a name."""
        seen = super().forward(pixel_values).last_hidden_state
        said = super().forward(input_ids=ids, attention_mask=mask).pooler_output
        assert seen is not None
        assert said is not None
        patches = F.normalize(seen[:, 1:], dim=-1)
        scale = self.grounding["scale"].get_parameter("log")
        logits = patches @ F.normalize(said, dim=-1).T * scale.exp()
        truth = cells.transpose(1, 2)  # (B, G, W)
        total = truth.sum(-1)
        share = truth / total.clamp(min=1e-6)[..., None]
        weight = (share * weights).sum(-1) * (total > NOTHING_HERE)
        entropy = -(share * logits.log_softmax(-1)).sum(-1)
        return (entropy * weight).sum() / mean_over_processes(weight.sum()).clamp(min=1.0)


def _mean_entropy(logits: Tensor, cells: Tensor) -> Tensor:
    """Binary cross-entropy, what is meant and what is not counting half each; summed over phrases.

    A phrase usually means a few patches of hundreds: unweighted, saying nothing would be right.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, cells, reduction="none")
    inside = (entropy * cells).sum(1) / cells.sum(1).clamp(min=1.0)
    outside = (entropy * (1 - cells)).sum(1) / (1 - cells).sum(1).clamp(min=1.0)
    return (inside + outside).sum()


@dataclass(frozen=True)
class GroundingCollate:
    """Samples of ``training.scene_phrases`` -> keyword arguments of :class:`Beit3Grounding`.

    Attributes:
        config: of the model.
        tokenizer: a Hugging Face tokenizer.
        words: every single word, as one text each.
        weights: (W,) how much each counts.
    """

    config: Beit3Config
    tokenizer: Any
    words: tuple[str, ...]
    weights: Tensor

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Pictures are scaled bicubically and normalised to -1..1, as BEiT-3's."""
        side = self.config.image_size
        grid = side // self.config.patch_size
        pictures = torch.stack([s["image"] for s in samples]).permute(0, 3, 1, 2).float() / 255
        pictures = F.interpolate(pictures, (side, side), mode="bicubic", align_corners=False)
        masks = torch.cat([s["masks"] for s in samples]).float()
        counts = torch.tensor([len(s["texts"]) for s in samples])
        texts = [text for s in samples for text in s["texts"]]
        phrases = self._read(texts or ["nothing"])
        words = self._read(list(self.words))
        named = torch.stack([s["word_cells"] for s in samples])
        return {
            "pixel_values": (pictures - 0.5) / 0.5,
            "input_ids": phrases["input_ids"][: len(texts)],
            "attention_mask": phrases["attention_mask"].bool()[: len(texts)],
            "picture": torch.arange(len(samples)).repeat_interleave(counts),
            "cells": (
                F.adaptive_avg_pool2d(masks[:, None], grid).flatten(1)
                if len(masks)
                else masks.new_zeros(0, grid * grid)
            ),
            "word_ids": words["input_ids"],
            "word_mask": words["attention_mask"].bool(),
            "word_cells": named,
            "word_weights": self.weights,
        }

    def _read(self, texts: list[str]) -> Any:
        return self.tokenizer(texts, padding=True, return_tensors="pt")
