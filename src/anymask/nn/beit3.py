"""BEiT-3: one transformer that reads a picture and a text together (Wang et al. 2022).

Every layer has two sets of weights, A for picture patches and B for words, and one attention over
both (section 2.1, "Multiway Transformer"). The names of the parameters are those of Microsoft's
files below ``beit3.``, so published weights load without a table.

Shape legend: B pairs of picture and text, S = 1 + patches, L text tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils import ModelOutput

from anymask.nn.attention import attend
from anymask.nn.published import count_of

POSITION_START = 2  # the first two rows of both position tables are not used
PREFIX = "beit3."


class Beit3Config(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a :class:`Beit3Model`; the defaults are BEiT-3 Large at 224 pixels.

    Attributes:
        hidden_size: D.
        num_hidden_layers: layers.
        num_attention_heads: heads of each attention.
        intermediate_size: width of the feed-forward layers.
        vocab_size: rows of the word table.
        image_size, patch_size: in pixels.
        max_position_embeddings: rows of the text's position table; two are not used.
        layer_norm_eps: of every LayerNorm.
    """

    model_type = "anymask_beit3"
    hidden_size: int = 1024
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    intermediate_size: int = 4096
    vocab_size: int = 64010
    image_size: int = 224
    patch_size: int = 16
    max_position_embeddings: int = 1024
    layer_norm_eps: float = 1e-5
    initializer_range: float = 0.02

    @classmethod
    def base(cls, **changes: Any) -> Beit3Config:
        """BEiT-3 Base at 224 pixels."""
        sizes = {
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "intermediate_size": 3072,
        }
        return cls(**{**sizes, **changes})


@dataclass
class Beit3Output(ModelOutput):
    """What the encoder says.

    Attributes:
        last_hidden_state: (B, S + L, D), patches first; padded words' rows mean nothing.
        pooler_output: (B, D), token 0: the picture's [CLS], or ``<s>`` without a picture.
    """

    last_hidden_state: Tensor | None = None
    pooler_output: Tensor | None = None


class Multiway(nn.Module):
    """Two copies of a layer: A for the first ``split`` tokens, B for the rest."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.A = make()
        self.B = make()

    def forward(self, x: Tensor, split: int) -> Tensor:
        """(B, S + L, D); ``split`` = S."""
        if split == 0:
            return self.B(x)  # type: ignore[no-any-return]
        if split == x.shape[1]:
            return self.A(x)  # type: ignore[no-any-return]
        return torch.cat([self.A(x[:, :split]), self.B(x[:, split:])], 1)


class Beit3Attention(nn.Module):
    """Attention over patches and words, with a LayerNorm before the last projection."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            Multiway(lambda: nn.Linear(width, width)) for _ in range(4)
        )
        self.inner_attn_ln = Multiway(lambda: nn.LayerNorm(width, eps=config.layer_norm_eps))

    def forward(self, x: Tensor, visible: Tensor | None, split: int) -> Tensor:
        """(B, S + L, D) and (B, 1, 1, S + L) bool -> (B, S + L, D)."""
        query, key, value = (
            project(x, split).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        seen = attend(query, key, value, visible).transpose(1, 2).flatten(2)
        return self.out_proj(self.inner_attn_ln(seen, split), split)  # type: ignore[no-any-return]


class Beit3FeedForward(nn.Module):
    """Two linear layers with GELU and a LayerNorm over the hidden units."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)
        self.ffn_layernorm = nn.LayerNorm(config.intermediate_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        return self.fc2(self.ffn_layernorm(F.gelu(self.fc1(x))))  # type: ignore[no-any-return]


class Beit3Layer(nn.Module):
    """Attention and feed-forward, each behind a LayerNorm."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()

        def norm() -> nn.Module:
            return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

        self.self_attn = Beit3Attention(config)
        self.self_attn_layer_norm = Multiway(norm)
        self.ffn = Multiway(lambda: Beit3FeedForward(config))
        self.final_layer_norm = Multiway(norm)

    def forward(self, x: Tensor, visible: Tensor | None, split: int) -> Tensor:
        """(B, S + L, D) -> (B, S + L, D)."""
        x = x + self.self_attn(self.self_attn_layer_norm(x, split), visible, split)
        return x + self.ffn(self.final_layer_norm(x, split), split)  # type: ignore[no-any-return]


class Beit3VisionEmbedding(nn.Module):
    """Patches and the [CLS] token; ``mask_token`` belongs to pre-training and is not used."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.hidden_size, config.patch_size, config.patch_size)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, S, D)."""
        patches = self.proj(pixel_values).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], 1)


class Beit3Encoder(nn.Module):
    """Position tables, layers and the last LayerNorm."""

    def __init__(self, config: Beit3Config) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        width = config.hidden_size
        self.embed_positions = nn.ModuleDict(
            {
                "A": nn.Embedding(1 + patches + POSITION_START, width),
                "B": nn.Embedding(config.max_position_embeddings, width),
            }
        )
        self.layers = nn.ModuleList(Beit3Layer(config) for _ in range(config.num_hidden_layers))
        self.layer_norm = Multiway(lambda: nn.LayerNorm(width, eps=config.layer_norm_eps))


class Beit3Model(PreTrainedModel):  # type: ignore[misc]
    """Picture and text, picture alone, or text alone -> a vector for every token."""

    config_class = Beit3Config
    base_model_prefix = "beit3"
    main_input_name = "pixel_values"
    _no_split_modules = ("Beit3Layer",)
    _keys_to_ignore_on_load_unexpected = (r"grounding\..*",)  # heads of a training objective
    _supports_sdpa = True

    def __init__(self, config: Beit3Config) -> None:
        super().__init__(config)
        self.text_embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.vision_embed = Beit3VisionEmbedding(config)
        self.encoder = Beit3Encoder(config)
        self.post_init()

    def forward(
        self,
        pixel_values: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
    ) -> Beit3Output:
        """Encode.

        Args:
            pixel_values: (B, 3, H, W), each channel in about -1..1; None = text only.
            input_ids: (B, L) int64; None = picture only. At most ``max_position_embeddings`` - 2.
            attention_mask: (B, L), 0 where the text is padded; None = nowhere.

        Raises:
            ValueError: neither is given, or the text is too long.
        """
        places: Any = self.encoder.embed_positions
        parts: list[Tensor] = []
        split = 0
        if pixel_values is not None:
            patches = self.vision_embed(pixel_values)
            split = patches.shape[1]
            parts.append(patches + places["A"].weight[POSITION_START : POSITION_START + split])
        keep = None
        if input_ids is not None:
            length = input_ids.shape[1]
            rows = places["B"].weight[POSITION_START : POSITION_START + length]
            if len(rows) < length:
                raise ValueError(f"a text has {length} tokens; {len(rows)} are possible")
            words = self.text_embed(input_ids) + rows
            if attention_mask is not None and not bool(attention_mask.all()):
                keep = attention_mask.bool()
                words = words * keep[..., None]  # a padded word is a zero vector
            parts.append(words)
        if not parts:
            raise ValueError("give pixel_values, input_ids, or both")
        x = torch.cat(parts, 1)
        visible = None
        if keep is not None:
            visible = torch.cat([keep.new_ones(len(keep), split), keep], 1)[:, None, None]
        for layer in self.encoder.layers:
            x = layer(x, visible, split)
        x = self.encoder.layer_norm(x, split)
        return Beit3Output(last_hidden_state=x, pooler_output=x[:, 0])


def config_of_beit3(
    state: Mapping[str, Tensor], num_heads: int | None = None, image_size: int | None = None
) -> Beit3Config:
    """Read the sizes off a state dict with the names of :class:`Beit3Model`.

    Args:
        state: names and tensors.
        num_heads: leave no trace in the shapes; None = heads of 64 channels, as published.
        image_size: of a square picture; None = as the position table says.

    Raises:
        KeyError: a tensor that every such model has is missing.
    """
    words, width = state["text_embed.weight"].shape
    patch = state["vision_embed.proj.weight"].shape[-1]
    cells = len(state["encoder.embed_positions.A.weight"]) - POSITION_START - 1
    return Beit3Config(
        hidden_size=width,
        num_hidden_layers=count_of(state, r"encoder\.layers\.(\d+)\..*"),
        num_attention_heads=num_heads or max(1, width // 64),
        intermediate_size=len(state["encoder.layers.0.ffn.A.fc1.weight"]),
        vocab_size=words,
        image_size=image_size or round(cells**0.5) * patch,
        patch_size=patch,
        max_position_embeddings=len(state["encoder.embed_positions.B.weight"]),
    )


def beit3_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a published file, under our names.

    The file may be Microsoft's (``beit3.*`` beside pre-training heads), EVF-SAM's
    (``mm_extractor.beit3.*``) or OpenWorldSAM's, which has them several times.

    Returns:
        Empty when the file has none.
    """
    for lead in ("", "mm_extractor.", "evf_sam2.mm_extractor."):
        start = lead + PREFIX
        found = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
        if found:
            return found
    return {}


def resized_positions(state: Mapping[str, Tensor], image_size: int) -> dict[str, Tensor]:
    """Weights for another picture size: the grid of positions is enlarged bicubically.

    Args:
        state: names of :class:`Beit3Model`.
        image_size: in pixels, a multiple of the patch.
    """
    name = "encoder.embed_positions.A.weight"
    table = state[name]
    patch = state["vision_embed.proj.weight"].shape[-1]
    before, after = round((len(table) - POSITION_START - 1) ** 0.5), image_size // patch
    if before == after:
        return dict(state)
    head, grid = table[: POSITION_START + 1], table[POSITION_START + 1 :]
    square = grid.T.unflatten(1, (before, before))[None].float()
    resized = F.interpolate(square, (after, after), mode="bicubic", align_corners=False)
    return {**state, name: torch.cat([head, resized[0].flatten(1).T.to(table)])}
