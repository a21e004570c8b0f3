"""Who reads phrases: a frozen vision-language model that turns (picture, phrase) into a vector.

A reader sees its own small copy of the picture. BEiT-3, Florence-2, BLIP-2 and Kosmos-2 read both
together, so the vector depends on the picture; CLIP and SigLIP 2 read the phrase alone, and the
picture comes in afterwards (Table 10 of the paper).

To add another one, write a class with ``width``, ``picture_size``, ``picture_mean``,
``picture_std``, ``cells_width`` and ``forward`` as below, and name it in :func:`make_reader`:
EVA-CLIP as :class:`ClipReader`; VLMo and OFA as :class:`Beit3Reader`; CoCa and PaLI from the hidden
state of the last word of their (unimodal) text decoder.

Shape legend: B pictures, P phrases of all pictures, L tokens, D width of a vector, T cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.image import Image
from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.nn.attention import Attention
from anymask.nn.beit3 import POSITION_START, Beit3Config, Beit3Model
from anymask.nn.beit3_tokens import Beit3Tokenizer
from anymask.nn.picture_input import (
    CLIP_MEAN,
    CLIP_STD,
    IMAGENET_MEAN,
    IMAGENET_STD,
    normalised,
)

HALF = (0.5, 0.5, 0.5)

Words = Mapping[str, Tensor]  # what a tokenizer returns: (P, L) each


class Reader(nn.Module):
    """Base of all readers.

    Attributes:
        width: D of a phrase's vector.
        cells_width: of the picture's cells that come beside the vectors; 0 = none.
        picture_size: side in pixels of the square picture it sees; 0 = it sees none.
        picture_mean, picture_std: of RGB values in 0..1.
        context: tokens of the longest phrase.
        always_padded: every phrase is padded to the context, and the padding is read.
    """

    context: int = 77
    always_padded: bool = False
    width: int = 0
    cells_width: int = 0
    picture_size: int = 0
    picture_mean: tuple[float, ...] = HALF
    picture_std: tuple[float, ...] = HALF

    def pixels(self, image: Image) -> Tensor:
        """A picture as this reader sees it: (3, S, S), stretched bicubically and normalised.

        Without antialiasing and clamping, as the released code does.
        """
        planes = torch.from_numpy(np.ascontiguousarray(image.pixels)).permute(2, 0, 1)[None] / 255
        square = F.interpolate(
            planes, (self.picture_size, self.picture_size), mode="bicubic", align_corners=False
        )
        return normalised(square[0], self.picture_mean, self.picture_std)

    def words(self, tokenizer: Any, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts as this reader wants them: (P, L) tensors.

        Args:
            tokenizer: a Hugging Face tokenizer, or a :class:`Beit3Tokenizer`.
            texts: P phrases; what is too long is cut.
        """
        if isinstance(tokenizer, Beit3Tokenizer):
            ids, keep = tokenizer(texts, self.context)
            return {"input_ids": ids, "attention_mask": keep}
        found = tokenizer(
            list(texts),
            padding="max_length" if self.always_padded else True,
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        )
        # SigLIP was trained with padding that is read like words.
        names = ("input_ids",) if self.always_padded else ("input_ids", "attention_mask")
        return {name: found[name] for name in names}

    def forward(
        self, pixel_values: Tensor | None, words: Words, picture: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Read phrases.

        Args:
            pixel_values: (B, 3, S, S), or None where the reader sees no picture.
            words: of the tokenizer.
            picture: (P,) int64, which picture each phrase is about.

        Returns:
            (P, D) vectors, and (B, T, cells_width) cells or None.
        """
        raise NotImplementedError


class Beit3Reader(Reader):
    """BEiT-3: token 0 after reading picture and phrase together; the paper's.

    Args:
        config: of the encoder.
        use_picture: False = text only (Table 4); token 0 is then ``<s>``.
        late: read picture and phrase apart and put the two vectors one behind the other (Table 4).
    """

    def __init__(self, config: Beit3Config, use_picture: bool = True, late: bool = False) -> None:
        super().__init__()
        self.model = Beit3Model(config)
        self.late = late and use_picture
        self.width = config.hidden_size * (2 if self.late else 1)
        self.picture_size = config.image_size if use_picture else 0
        self.context = config.max_position_embeddings - POSITION_START

    def forward(
        self, pixel_values: Tensor | None, words: Words, picture: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Reader`."""
        ids, keep = words["input_ids"], words.get("attention_mask")
        if self.late:
            said, seen = self.model(None, ids, keep), self.model(pixel_values)
            return torch.cat([said.pooler_output, seen.pooler_output[picture]], 1), None
        shown = None if pixel_values is None or not self.picture_size else pixel_values[picture]
        output = self.model(shown, ids, keep)
        assert output.pooler_output is not None
        return output.pooler_output, None


class DualReader(Reader):
    """Shared by readers whose text tower never sees the picture.

    Args:
        model: has ``get_text_features`` and ``vision_model``.
        width: of the text vectors.
        vision: configuration of the picture tower.
        fusion: ``"none"``; ``"concat"``: the picture's vector behind the phrase's (Table 4);
            ``"cross_attention"``: the cells come beside the vectors, for ``PictureReading``.
    """

    def __init__(self, model: Any, width: int, vision: Any, fusion: str) -> None:
        super().__init__()
        self.model = model
        self.fusion = fusion
        self.picture_size = 0 if fusion == "none" else vision.image_size
        self.width = 2 * width if fusion == "concat" else width
        self.cells_width = vision.hidden_size if fusion == "cross_attention" else 0

    def forward(
        self, pixel_values: Tensor | None, words: Words, picture: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Reader`."""
        text = _pooled(self.model.get_text_features(**words))
        if self.fusion == "concat":
            assert pixel_values is not None
            seen = _pooled(self.model.get_image_features(pixel_values))
            return torch.cat([text, seen[picture]], 1), None
        if self.fusion == "cross_attention":
            return text, self.model.vision_model(pixel_values).last_hidden_state
        return text, None


class ClipReader(DualReader):
    """CLIP."""

    picture_mean, picture_std = CLIP_MEAN, CLIP_STD

    def __init__(self, config: Any, fusion: str) -> None:
        from transformers import CLIPModel

        super().__init__(CLIPModel(config), config.projection_dim, config.vision_config, fusion)
        self.context = config.text_config.max_position_embeddings


class Siglip2Reader(DualReader):
    """SigLIP 2 in its fixed-resolution form, which has SigLIP's classes."""

    always_padded = True

    def __init__(self, config: Any, fusion: str) -> None:
        from transformers import SiglipModel

        width = config.text_config.projection_size or config.text_config.hidden_size
        super().__init__(SiglipModel(config), width, config.vision_config, fusion)
        self.context = config.text_config.max_position_embeddings


class Florence2Reader(Reader):
    """Florence-2: its encoder reads cells and words together; the mean over the words."""

    picture_mean, picture_std = IMAGENET_MEAN, IMAGENET_STD

    def __init__(self, config: Any, picture_size: int = 768) -> None:
        super().__init__()
        from transformers import Florence2ForConditionalGeneration

        self.model = Florence2ForConditionalGeneration(config)
        self.width = config.text_config.d_model
        self.picture_size = picture_size

    def forward(
        self, pixel_values: Tensor | None, words: Words, picture: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Reader`."""
        cells = _pooled(self.model.get_image_features(pixel_values))
        language = self.model.model.language_model
        said = language.get_input_embeddings()(words["input_ids"])
        seen = cells[picture].to(said)
        mask = words.get("attention_mask", torch.ones_like(words["input_ids"]))
        both = torch.cat([seen, said], 1)
        visible = torch.cat([mask.new_ones(len(mask), seen.shape[1]), mask], 1)
        state = language.encoder(inputs_embeds=both, attention_mask=visible).last_hidden_state
        return _mean_of(state[:, seen.shape[1] :], mask), None


class Blip2Reader(Reader):
    """BLIP-2: the mean of the Q-Former's queries after they read the picture with the phrase."""

    picture_mean, picture_std = CLIP_MEAN, CLIP_STD

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers import Blip2ForImageTextRetrieval

        self.model = Blip2ForImageTextRetrieval(config)
        self.width = config.qformer_config.hidden_size
        self.picture_size = config.vision_config.image_size

    def forward(
        self, pixel_values: Tensor | None, words: Words, picture: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Reader`."""
        cells = self.model.vision_model(pixel_values).last_hidden_state[picture]
        queries = self.model.query_tokens.expand(len(picture), -1, -1)
        said = self.model.embeddings(input_ids=words["input_ids"], query_embeds=queries)
        mask = words.get("attention_mask", torch.ones_like(words["input_ids"]))
        count = queries.shape[1]
        state = self.model.qformer(
            query_embeds=said,
            query_length=count,
            attention_mask=torch.cat([mask.new_ones(len(mask), count), mask], 1),
            encoder_hidden_states=cells,
        ).last_hidden_state
        return state[:, :count].mean(1), None


class Kosmos2Reader(Reader):
    """Kosmos-2: the state of the phrase's last word, one decoding step with the picture before."""

    picture_mean, picture_std = CLIP_MEAN, CLIP_STD

    def __init__(self, config: Any) -> None:
        super().__init__()
        from transformers import Kosmos2Model

        self.model = Kosmos2Model(config)
        self.width = config.text_config.embed_dim
        self.picture_size = config.vision_config.image_size

    def forward(
        self, pixel_values: Tensor | None, words: Words, picture: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """See :class:`Reader`."""
        seen = _pooled(self.model.get_image_features(pixel_values))[picture]
        ids = words["input_ids"]
        mask = words.get("attention_mask", torch.ones_like(ids))
        count = seen.shape[1]
        holes = ids.new_zeros(len(ids), count)
        state = self.model.text_model(
            input_ids=torch.cat([holes, ids], 1),
            attention_mask=torch.cat([mask.new_ones(len(mask), count), mask], 1),
            image_embeds=seen,
            image_embeds_position_mask=torch.cat(
                [torch.ones_like(holes), torch.zeros_like(ids)], 1
            ),
        ).last_hidden_state
        last = count + mask.sum(1) - 1
        return state[torch.arange(len(state), device=state.device), last], None


class PictureReading(nn.Module):
    """Two layers in which a phrase's vector looks at the picture (advice of Table 10).

    Args:
        dim: D of the vectors.
        cells_dim: width of the picture's cells.
        num_heads: of the attention; must divide ``dim``.
    """

    def __init__(self, dim: int, cells_dim: int, num_heads: int = 8) -> None:
        super().__init__()
        self.cells = nn.Linear(cells_dim, dim)
        self.attention = nn.ModuleList(Attention(dim, num_heads) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))

    def forward(self, vectors: Tensor, cells: Tensor, picture: Tensor) -> Tensor:
        """(P, D) vectors, (B, T, cells_dim) cells, (P,) pictures -> (P, D)."""
        seen = self.cells(cells)[picture]
        x = vectors[:, None]
        for norm, attention in zip(self.norms, self.attention, strict=True):
            x = x + attention(norm(x), seen, seen)
        return x[:, 0]


def make_reader(config: OpenWorldSAMConfig) -> Reader:
    """The reader that a configuration asks for, with untrained weights."""
    inner: Any = config.reader_config
    fusion = config.fusion if config.use_picture else "none"
    match config.reader:
        case "clip":
            return ClipReader(inner, fusion)
        case "siglip2":
            return Siglip2Reader(inner, fusion)
        case "florence2":
            return Florence2Reader(inner, config.reader_picture_size)
        case "blip2":
            return Blip2Reader(inner)
        case "kosmos2":
            return Kosmos2Reader(inner)
        case _:
            return Beit3Reader(inner, config.use_picture, fusion == "concat")


def _pooled(found: Any) -> Tensor:
    """The tensor in what ``get_..._features`` returns, which differs between models."""
    return found if isinstance(found, Tensor) else found.pooler_output


def _mean_of(states: Tensor, mask: Tensor) -> Tensor:
    weight = mask[..., None].to(states)
    return (states * weight).sum(1) / weight.sum(1).clamp(min=1)
