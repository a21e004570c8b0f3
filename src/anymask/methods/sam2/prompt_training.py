"""Training a SAM 2 to answer clicks, boxes and corrections on still pictures.

What SAM 2's authors describe for pictures (their section 4 and appendix D.2): a first prompt, then
a click where the answer is wrong with the earlier mask fed back; mask, IoU and object losses; of
the three alternatives only the best is taught.

DEVIATION: instead of the focal loss (20 x the mean over pixels) the cross-entropy is divided by the
object's size. From random weights, on things that cover a hundredth of the picture, the focal loss
stays at empty masks: 260 steps did not leave them.

Shape legend: B pictures, Q prompts a picture, S side of the input, h = S / 4 side of a mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2Config, Sam2Model
from transformers.utils import ModelOutput

from anymask.nn.distributed import mean_over_processes
from anymask.nn.picture_input import normalised
from anymask.nn.sam2 import LARGEST_LOGIT, Sam2
from anymask.nn.sam2_decoder import Masks, Sam2Features

ENTROPY, DICE, IOU, OBJECT = 0.5, 1.0, 1.0, 1.0  # weights of the losses
LEAST = 16.0  # cells that even the smallest object counts for


def small_config() -> Sam2Config:
    """A SAM 2 for drawn scenes: 3 M parameters, 256 pixels."""
    backbone = {
        "hidden_size": 32,
        "image_size": [256, 256],
        "blocks_per_stage": [1, 2, 5, 1],
        "embed_dim_per_stage": [32, 64, 128, 256],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 8, 4],
        "global_attention_blocks": [4, 6],
        "model_type": "sam2_hiera_det_model",
    }
    width = 128
    return Sam2Config(
        vision_config={
            "backbone_config": backbone,
            "backbone_channel_list": [256, 128, 64, 32],
            "backbone_feature_sizes": [[64, 64], [32, 32], [16, 16]],
            "fpn_hidden_size": width,
            "model_type": "sam2_vision_model",
        },
        prompt_encoder_config={"hidden_size": width, "image_size": 256},
        mask_decoder_config={"hidden_size": width, "mlp_dim": 512, "iou_head_hidden_dim": width},
    )


def fresh_model(config: Sam2Config) -> Sam2PromptTraining:
    """An untrained model, its decoder with PyTorch's own initial weights as in Meta's code.

    Hugging Face's smaller ones (0.02) keep attention uniform: from them 250 steps did not learn
    where a click is, from these 70 did.
    """
    model = Sam2PromptTraining(config)
    parts = (model.mask_decoder, model.vision_encoder.neck, model.prompt_encoder)
    for module in (m for part in parts for m in part.modules()):
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    # Clicks and cells are placed by the same waves in every published model, but Hugging Face draws
    # two sets.
    waves = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(waves)
    return model


@dataclass
class PromptTrainingOutput(ModelOutput):
    """``loss``: scalar; ``loss_parts``: name -> scalar for the log."""

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None


class Sam2PromptTraining(Sam2Model):  # type: ignore[misc]
    """A ``Sam2Model`` whose call is a training step; saved, it is an ordinary ``Sam2Model``."""

    def forward(
        self,
        pixel_values: Tensor,
        points: Tensor,
        labels: Tensor,
        masks: Tensor,
        there: Tensor,
        clicked: Tensor,
    ) -> PromptTrainingOutput:
        """Two rounds of prompts.

        Args:
            pixel_values: (B, 3, S, S) float, 0..255.
            points: (B, Q, 2, 2) x, y in pixels: a click, or two corners of a box.
            labels: (B, Q, 2): see ``Sam2.point_tokens``.
            masks: (B, Q, h, h) float in 0..1: share of a cell that belongs to the object.
            there: (B, Q) float: 0 where a box holds no object.
            clicked: (B, Q) bool: the prompt is a single click, which may mean several things.
        """
        features = Sam2(self).encode(normalised(pixel_values / 255))
        parts = self.prompt_losses(features, points, labels, masks, there, clicked)
        return PromptTrainingOutput(
            loss=torch.stack(list(parts.values())).sum(),
            loss_parts={name: part.detach() for name, part in parts.items()},
        )

    def prompt_losses(
        self,
        features: Sam2Features,
        points: Tensor,
        labels: Tensor,
        masks: Tensor,
        there: Tensor,
        clicked: Tensor,
    ) -> dict[str, Tensor]:
        """Losses by name, weighted; arguments as of :meth:`forward`."""
        sam = Sam2(self)
        decoder = sam.decoder
        batch, count = there.shape
        truth, there, clicked = masks.flatten(0, 1), there.flatten(), clicked.flatten()
        size = mean_over_processes(there.sum()).clamp(min=1.0)
        tokens = sam.point_tokens(points, labels)
        first = decoder(features, tokens, sam.dense(), "all")
        parts = self._losses(first, truth, there, clicked, size)
        with torch.no_grad():
            previous = first.logits[:, 0]
            place, inside = correction(previous.sigmoid(), truth)
            place = (place + 0.5) * (sam.side / truth.shape[-1]) - 0.5
        more = torch.cat([points, place.view(batch, count, 1, 2)], 2)
        said = torch.cat([labels, inside.view(batch, count, 1).to(labels)], 2)
        corrected = sam.point_tokens(more, said)
        feedback = sam.dense(previous[:, None].clamp(-LARGEST_LOGIT, LARGEST_LOGIT))
        # A mask prompt changes the picture's map: every prompt gets a picture of its own.
        pictures = torch.arange(batch, device=truth.device).repeat_interleave(count)
        own = Sam2Features(*(x[pictures] for x in vars(features).values()))
        second = decoder(own, corrected.flatten(0, 1)[:, None], feedback, "all")
        again = self._losses(second, truth, there, torch.zeros_like(clicked), size)
        return parts | {f"{name}_corrected": value for name, value in again.items()}

    @staticmethod
    def _losses(
        found: Masks, truth: Tensor, there: Tensor, clicked: Tensor, size: Tensor
    ) -> dict[str, Tensor]:
        truth = truth[:, None].expand_as(found.logits)
        entropy = F.binary_cross_entropy_with_logits(found.logits, truth, reduction="none")
        entropy = entropy.sum((-2, -1)) / (truth.sum((-2, -1)) + LEAST)  # (N, 4)
        probability = found.logits.sigmoid()
        both = (probability * truth).sum((-2, -1))
        sums = probability.sum((-2, -1)) + truth.sum((-2, -1))
        each = ENTROPY * entropy + DICE * (1 - (2 * both + 1) / (sums + 1))
        # The single mask always; of the alternatives the best, where a click leaves open what.
        mask = each[:, 0] + each[:, 1:].amin(1) * clicked
        inside, solid = found.logits.detach() > 0, truth > 0.5
        shared = (inside & solid).sum((-2, -1))
        iou = shared / (inside | solid).sum((-2, -1)).clamp(min=1)
        wrong = (found.iou - iou).abs().mean(1)
        seen = F.binary_cross_entropy_with_logits(found.object_logits, there, reduction="none")
        return {
            "mask": (mask * there).sum() / size,
            "iou": IOU * (wrong * there).sum() / size,
            "object": OBJECT * seen.mean(),
        }


def correction(probability: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """A cell that is wrong, at random, and whether it belongs to the object.

    Args:
        probability: (N, h, h) that a cell is inside.
        truth: (N, h, h) in 0..1.

    Returns:
        (N, 2) float x, y in cells, and (N,) bool.
    """
    inside = truth > 0.5
    wrong = ((probability > 0.5) != inside).flatten(1).float()
    # Without a mistake any cell will do.
    index = torch.multinomial(wrong + 1e-6, 1)[:, 0]
    side = truth.shape[-1]
    place = torch.stack([index % side, index // side], 1).float()
    return place, inside.flatten(1).gather(1, index[:, None])[:, 0]


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Samples with the same number of prompts -> a batch."""
    return {
        "pixel_values": torch.stack([s["image"] for s in samples]).permute(0, 3, 1, 2).float(),
        **{
            name: torch.stack([s[name] for s in samples])
            for name in ("points", "labels", "masks", "there", "clicked")
        },
    }
