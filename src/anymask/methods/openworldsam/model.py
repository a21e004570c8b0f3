"""OpenWorldSAM: phrases -> masks, with SAM 2 and a reader of phrases that stay frozen.

    picture --- SAM 2's encoder ------------------------------.---------.
    picture, phrase --- reader --- projector + tie-breakers ---+- soft prompting --- SAM 2's decoder

Shape legend: B pictures, P phrases a picture (padded), K queries a phrase, N = P K, D width of a
phrase's vector, C width of SAM 2's maps, (h, w) its masks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, Sam2Model
from transformers.utils import ModelOutput

from anymask.methods.openworldsam.adapter import Adapter
from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.methods.openworldsam.loss import PhraseLoss
from anymask.methods.openworldsam.readers import PictureReading, Words, make_reader
from anymask.nn.frozen_features import FrozenFeatures
from anymask.nn.sam2 import Sam2
from anymask.nn.sam2_decoder import Choice, Masks, Sam2Features


@dataclass
class OpenWorldSAMOutput(ModelOutput):
    """Answers to a batch of phrases.

    Attributes:
        loss: scalar, with truth.
        loss_parts: name -> scalar, for the log.
        mask_logits: (B, P, K, h, w).
        iou: (B, P, K) in 0..1.
        object_logits: (B, P, K).
    """

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None
    mask_logits: Tensor | None = None
    iou: Tensor | None = None
    object_logits: Tensor | None = None


class OpenWorldSAMModel(PreTrainedModel):  # type: ignore[misc]
    """SAM 2, a reader, and the adapter between them; only the adapter trains.

    Args:
        config: sizes and switches.
    """

    config_class = OpenWorldSAMConfig
    base_model_prefix = "openworldsam"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: OpenWorldSAMConfig) -> None:
        super().__init__(config)
        self.sam2 = Sam2Model(config.sam2_config)
        self.reader = make_reader(config)
        width = self.reader.width
        dim = self.sam2.hidden_dim
        self.picture_reading = (
            PictureReading(width, self.reader.cells_width) if self.reader.cells_width else None
        )
        self.adapter = Adapter(
            width,
            config.projector_dim or width,
            dim,
            config.num_tie_breakers,
            config.num_layers,
            config.num_heads,
            int(config.mlp_ratio * dim),
            config.dropout,
        )
        self.criterion = PhraseLoss(
            config.mask_weight,
            config.dice_weight,
            config.iou_weight,
            config.no_object_weight,
            config.presence_weight,
        )
        self._freeze()
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """PyTorch's own initial weights stay, as in the released code."""

    def _freeze(self) -> None:
        self.sam2.requires_grad_(False)
        self.reader.requires_grad_(self.config.train_reader)

    @property
    def sam(self) -> Sam2:
        """SAM 2 as something to ask."""
        return Sam2(self.sam2)

    def train(self, mode: bool = True) -> OpenWorldSAMModel:
        """Switch training on or off; what is frozen stays in evaluation."""
        super().train(mode)
        self._freeze()  # loading a saved model makes every parameter trainable again
        self.sam2.eval()
        if not self.config.train_reader:
            self.reader.eval()
        return self

    # --------------------------------------------------------------------------------- the steps

    @torch.no_grad()
    def see(self, pixel_values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, S, S) -> the tensors of SAM 2's features."""
        found = self.sam.encode(pixel_values)
        return found.fine, found.middle, found.coarse

    def keep_features(self, features: FrozenFeatures) -> None:
        """Let SAM 2 look at every picture once in a training."""
        self.see = features.keep(self.sam2, self.see)  # type: ignore[method-assign,assignment]

    def look(self, pixel_values: Tensor) -> Sam2Features:
        """(B, 3, S, S) -> SAM 2's features: once a picture, for any number of phrases."""
        return Sam2Features(*self.see(pixel_values))

    def read(self, reader_pixels: Tensor | None, words: Words, picture: Tensor) -> Tensor:
        """Vectors of phrases: (P, D); arguments as of ``Reader.forward``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.config.train_reader):
            vectors, cells = self.reader(reader_pixels, words, picture)
        if self.picture_reading is not None and cells is not None:
            vectors = self.picture_reading(vectors, cells, picture)
        return vectors  # type: ignore[no-any-return]

    def tokens(
        self,
        features: Sam2Features,
        vectors: Tensor,
        valid: Tensor | None = None,
        layout: str | None = None,
    ) -> Tensor:
        """Prompt tokens of all queries: (B, P, D) -> (B, N, T, C), see :class:`Adapter`."""
        memory = features.coarse.flatten(2).transpose(1, 2).to(vectors.dtype)
        return self.adapter(  # type: ignore[no-any-return]
            vectors,
            memory,
            layout or self.config.prompt_layout,
            self.config.isolate_prompts,
            valid,
        )

    def segment(
        self,
        features: Sam2Features,
        tokens: Tensor,
        choice: Choice = "best",
        min_iou: float | None = None,
    ) -> Masks:
        """Masks of all queries; see :class:`~anymask.nn.sam2_decoder.Sam2Decoder`."""
        sam = self.sam
        return sam.decoder(features, tokens, sam.dense(), choice, min_iou)

    # ------------------------------------------------------------------------------------ training

    def forward(
        self,
        pixel_values: Tensor,
        reader_pixels: Tensor | None,
        words: Words,
        picture: Tensor,
        masks: Sequence[Tensor] | None = None,
        choice: Choice | None = None,
    ) -> OpenWorldSAMOutput:
        """Answer, and with truth learn.

        Phrases come flat and are padded here, so any number of them a picture, a process and a
        step is possible.

        Args:
            pixel_values: (B, 3, S, S) for SAM 2.
            reader_pixels: (B, 3, s, s) for the reader, or None.
            words: (P, L) tokens of the phrases of all pictures.
            picture: (P,) int64 ascending, which picture each is about.
            masks: P x (G, H, W) bool, everything each phrase means; may be empty.
            choice: None = the single mask in training, as the released code, else the best.
        """
        features = self.look(pixel_values)
        flat = self.read(reader_pixels, words, picture)
        vectors, valid = padded_phrases(flat, picture, len(pixel_values))
        own = choice or ("first" if self.training else "best")
        found = self._answer(features, vectors, valid, own)
        output = OpenWorldSAMOutput(
            mask_logits=found.logits[:, :, :, 0],
            iou=found.iou[..., 0],
            object_logits=found.object_logits,
        )
        if masks is None:
            return output
        logits, iou = found.logits[valid][:, :, 0], found.iou[valid][..., 0]
        present = found.object_logits[valid]
        matches = self.criterion.match(list(logits), list(iou), list(masks))
        parts = self.criterion.parts(logits, iou, present, masks, matches)
        # Every trainable tensor takes part on every process, whatever its phrases were.
        output.loss = sum(parts.values()) + 0 * sum(
            p.sum() for p in self.parameters() if p.requires_grad
        )
        output.loss_parts = {name: part.detach() for name, part in parts.items()}
        return output

    def _answer(
        self, features: Sam2Features, vectors: Tensor, valid: Tensor, choice: Choice
    ) -> Masks:
        """Masks with the axes (B, P, K, ...)."""
        batch, phrases = valid.shape
        each = self.adapter.queries_per_phrase
        layout = self.config.prompt_layout
        if layout == "single" or self.adapter.soft_prompting is None or batch == 1:
            found = self.segment(features, self.tokens(features, vectors, valid), choice)
            return _shaped(found, (batch, phrases, each))
        # All pairs of a picture's own queries: the number of tokens differs between pictures.
        parts = []
        for k in range(batch):
            own, count = features.of(k), int(valid[k].sum())
            tokens = self.tokens(own, vectors[k : k + 1, :count])
            found = _shaped(self.segment(own, tokens, choice), (1, count, each))
            parts.append(_padded_to(found, phrases))
        return Masks(
            torch.cat([part.logits for part in parts]),
            torch.cat([part.iou for part in parts]),
            torch.cat([part.object_logits for part in parts]),
            torch.arange(batch * phrases * each),
        )


def padded_phrases(flat: Tensor, picture: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Phrases in a row -> a table, one row a picture.

    Args:
        flat: (P, D).
        picture: (P,) int64 ascending.
        batch: B.

    Returns:
        (B, P_max, D), at least one column, zeros where padded; and (B, P_max) bool.
    """
    counts = torch.bincount(picture, minlength=batch)
    width = max(1, int(counts.max()) if batch else 1)
    place = torch.arange(len(picture), device=picture.device)
    place = place - (counts.cumsum(0) - counts)[picture]
    valid = torch.zeros(batch, width, dtype=torch.bool, device=flat.device)
    valid[picture, place] = True
    table = flat.new_zeros(batch, width, flat.shape[1]).index_put((picture, place), flat)
    return table, valid


def _shaped(found: Masks, axes: tuple[int, int, int]) -> Masks:
    return Masks(
        found.logits.unflatten(0, axes),
        found.iou.unflatten(0, axes),
        found.object_logits.unflatten(0, axes),
        found.rows,
    )


def _padded_to(found: Masks, phrases: int) -> Masks:
    def longer(x: Tensor) -> Tensor:
        missing = x.new_zeros(1, phrases - x.shape[1], *x.shape[2:])
        return torch.cat([x, missing], 1)

    return Masks(longer(found.logits), longer(found.iou), longer(found.object_logits), found.rows)
