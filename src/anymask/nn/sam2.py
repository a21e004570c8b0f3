"""SAM 2 on pictures: encode once, ask many times (Ravi et al., SAM 2, 2024).

Weights and encoder are Hugging Face's ``Sam2Model``; the mask decoder is run by
:mod:`anymask.nn.sam2_decoder`. Nothing here needs torchvision.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Sam2Model

from anymask.errors import InputError
from anymask.image import Image
from anymask.nn.picture_input import normalised
from anymask.nn.quiet import no_bars
from anymask.nn.sam2_decoder import Choice, Masks, Sam2Decoder, Sam2Features

LARGEST_LOGIT = 32.0  # a mask that is fed back is cut there, as SAM 2's predictor does
FOREGROUND, BACKGROUND, UPPER_LEFT, LOWER_RIGHT = 1, 0, 2, 3  # labels of points


class Sam2(torch.nn.Module):
    """A SAM 2 that answers prompts about pictures.

    Args:
        model: a transformers ``Sam2Model``. The answers follow its ``training`` flag only where
            its encoder has dropout; masks are chosen by the ``choice`` of a call.
    """

    def __init__(self, model: Sam2Model) -> None:
        super().__init__()
        self.model = model

    @property
    def side(self) -> int:
        """Side of the square input in pixels."""
        return int(self.model.prompt_encoder.input_image_size)

    @property
    def grid(self) -> int:
        """Side of the coarsest map in cells."""
        return int(self.model.prompt_encoder.image_embedding_size[0])

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.model.device

    @property
    def decoder(self) -> Sam2Decoder:
        """Its mask decoder."""
        position = self.model.get_image_wide_positional_embeddings()
        return Sam2Decoder(self.model.mask_decoder, position)

    # ------------------------------------------------------------------------------------ pictures

    def pixels(self, image: Image, antialias: bool = True) -> Tensor:
        """A picture as input: (3, S, S) float32, stretched to a square and normalised.

        Args:
            image: any size.
            antialias: as SAM 2's predictor does; OpenWorldSAM does without, on whole grey levels.
        """
        return square_pixels(image, self.side, antialias)

    def encode(self, pixel_values: Tensor) -> Sam2Features:
        """(B, 3, S, S) -> features; gradients flow where the weights ask for them."""
        model = self.model
        raw = model.vision_encoder(pixel_values.to(model.dtype)).fpn_hidden_states
        coarse = raw[2] + model.no_memory_embedding.view(1, -1, 1, 1)
        decoder = model.mask_decoder
        return Sam2Features(decoder.conv_s0(raw[0]), decoder.conv_s1(raw[1]), coarse)

    # ------------------------------------------------------------------------------------- prompts

    def point_tokens(self, points: Tensor, labels: Tensor) -> Tensor:
        """Points as prompt tokens, with the closing "not a point".

        Args:
            points: (..., Q, n, 2) x, y in pixels of the square input.
            labels: (..., Q, n) int: 1 inside, 0 outside, 2 and 3 the corners of a box, -1 no point.

        Returns:
            (..., Q, n + 1, C).
        """
        lead = points.shape[:-3]
        tokens = self.model.prompt_encoder(
            input_points=points.reshape(-1, *points.shape[-3:]),
            input_labels=labels.reshape(-1, *labels.shape[-2:]),
            input_boxes=None,
            input_masks=None,
        )[0]
        return tokens.reshape(*lead, *tokens.shape[-3:])  # type: ignore[no-any-return]

    def no_points(self, batch: int, count: int) -> Tensor:
        """(B, Q, 0, C): no sparse prompt."""
        weight = self.model.prompt_encoder.no_mask_embed.weight
        return weight.new_zeros(batch, count, 0, weight.shape[1])

    def dense(self, masks: Tensor | None = None) -> Tensor:
        """Mask prompts: (N, 1, 4 h, 4 w) logits, or None -> (N or 1, C, h, w)."""
        encoder = self.model.prompt_encoder
        if masks is not None:
            return encoder.mask_embed(masks.to(self.model.dtype))  # type: ignore[no-any-return]
        return encoder.no_mask_embed.weight.view(1, -1, 1, 1).expand(-1, -1, self.grid, self.grid)  # type: ignore[no-any-return]

    def ask(
        self,
        features: Sam2Features,
        tokens: Tensor,
        masks: Tensor | None = None,
        choice: Choice = "best",
        min_iou: float | None = None,
    ) -> Masks:
        """Masks for prompts about one picture.

        Args:
            features: of one picture.
            tokens: (Q, T, C) sparse prompts, of :meth:`point_tokens` or anybody's own.
            masks: (Q, 1, 4 h, 4 w) logits of earlier masks, to be refined; None = none.
            choice: see :class:`Sam2Decoder`.
            min_iou: see :class:`Sam2Decoder`; not with masks.

        Raises:
            InputError: features of several pictures.
        """
        if len(features.coarse) != 1:
            raise InputError("prompts are asked about one picture at a time: use features.of(k)")
        decoder = self.decoder
        if masks is None or not len(tokens):
            return decoder(features, tokens[None], self.dense(), choice, min_iou)
        # A mask prompt changes the picture's map, so every prompt has a picture of its own.
        found = []
        for part, given in zip(tokens.split(8), masks.split(8), strict=True):
            own = features.expanded(len(part))
            found.append(decoder(own, part[:, None], self.dense(given), choice))
        return Masks(
            torch.cat([f.logits for f in found]),
            torch.cat([f.iou for f in found]),
            torch.cat([f.object_logits for f in found]),
            torch.arange(len(tokens), device=tokens.device),
        )


def square_pixels(image: Image, side: int, antialias: bool = True) -> Tensor:
    """A picture stretched to a square and normalised: (3, side, side) float32; see ``pixels``."""
    if antialias:
        square = PIL.Image.fromarray(image.pixels).resize(
            (side, side), PIL.Image.Resampling.BILINEAR, reducing_gap=3.0
        )
        return normalised(torch.from_numpy(np.array(square)).permute(2, 0, 1) / 255)
    # On whole grey levels, in whole numbers: a fifth of the pixels are one level off otherwise.
    planes = torch.from_numpy(np.ascontiguousarray(image.pixels)).permute(2, 0, 1)
    values = F.interpolate(planes[None], (side, side), mode="bilinear", align_corners=False)
    return normalised(values[0] / 255)


def load_sam2(source: str | Any, **kwargs: Any) -> Sam2:
    """A saved ``Sam2Model`` (also of the video models' files, whose memory parts are left out)."""
    with no_bars():
        model = Sam2Model.from_pretrained(source, **kwargs)
    return Sam2(model.eval())
