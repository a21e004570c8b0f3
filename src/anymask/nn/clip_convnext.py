"""CLIP with a ConvNeXt picture side, of Hugging Face parts (open_clip's ``convnext_*`` models).

Its dense last map keeps its meaning at any picture size, which a ViT's does not; FC-CLIP and
everything after it stand on that.

Shape legend: B pictures, (H, W) their size, C width of the last stage, D embedding width,
P texts, L tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    ConvNextConfig,
    ConvNextModel,
    PreTrainedConfig,
)

LARGEST_MULTIPLIER = 100.0
"""CLIP's logits are cosines times exp(logit_scale), never more than this."""


class ClipConvNextConfig(PreTrainedConfig):
    """Sizes of a ConvNeXt CLIP.

    Attributes:
        depths, widths: blocks and channels of the four stages.
        head: ``"linear"`` (base) or ``"mlp"`` (large): the projection of the pooled vector.
        embed_dim: D.
        text_width, text_layers, text_heads: of the text transformer.
        vocab_size, context: tokens there are, and tokens of the longest text.
        bos_token, eos_token: numbers of the first and the last token of a text.
        drop_path: of the trunk while CLIP itself is trained.
    """

    model_type = "anymask_clip_convnext"

    depths: tuple[int, ...] = (3, 3, 27, 3)
    widths: tuple[int, ...] = (128, 256, 512, 1024)
    head: str = "linear"
    embed_dim: int = 640
    text_width: int = 640
    text_layers: int = 12
    text_heads: int = 10
    vocab_size: int = 49408
    context: int = 77
    bos_token: int = 49406
    eos_token: int = 49407
    drop_path: float = 0.1

    def __post_init__(self, **kwargs: Any) -> None:
        if self.head not in ("linear", "mlp"):
            raise ValueError(f"head is {self.head!r}: use linear or mlp")
        super().__post_init__(**kwargs)

    @classmethod
    def base(cls, **changes: Any) -> ClipConvNextConfig:
        """open_clip's ``convnext_base_w_320``: 179 M parameters."""
        return cls(**changes)

    @classmethod
    def large(cls, **changes: Any) -> ClipConvNextConfig:
        """open_clip's ``convnext_large_d_320``: 352 M parameters."""
        settings: dict[str, Any] = {
            "widths": (192, 384, 768, 1536),
            "head": "mlp",
            "embed_dim": 768,
            "text_width": 768,
            "text_layers": 16,
            "text_heads": 12,
        }
        return cls(**{**settings, **changes})


class MlpHead(nn.Module):
    """Linear, GELU, linear: the large model's projection of a pooled vector."""

    def __init__(self, width: int, embed_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 2 * embed_dim)
        self.fc2 = nn.Linear(2 * embed_dim, embed_dim, bias=False)

    def forward(self, pooled: Tensor) -> Tensor:
        """(..., C) -> (..., D)."""
        return self.fc2(F.gelu(self.fc1(pooled)))  # type: ignore[no-any-return]


class ClipConvNext(nn.Module):
    """Both sides of the model; pictures become maps, pooled vectors and texts become embeddings."""

    def __init__(self, config: ClipConvNextConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = ConvNextModel(
            ConvNextConfig(
                depths=list(config.depths),
                hidden_sizes=list(config.widths),
                drop_path_rate=config.drop_path,
                layer_norm_eps=1e-6,
            )
        )
        width = config.widths[-1]
        self.head: nn.Module = (
            nn.Linear(width, config.embed_dim, bias=False)
            if config.head == "linear"
            else MlpHead(width, config.embed_dim)
        )
        self.text = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.text_width,
                intermediate_size=4 * config.text_width,
                num_hidden_layers=config.text_layers,
                num_attention_heads=config.text_heads,
                max_position_embeddings=config.context,
                projection_dim=config.embed_dim,
                hidden_act="gelu",
                bos_token_id=config.bos_token,
                eos_token_id=config.eos_token,
                pad_token_id=config.eos_token,
            )
        )
        self.logit_scale = nn.Parameter(torch.tensor(2.6592600))  # ln(1 / 0.07)

    def maps(self, pixel_values: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> the outputs of the four stages, strides 4, 8, 16, 32, not normalised."""
        # ConvNextBackbone would normalise each stage, which the published models do not.
        out = self.trunk(pixel_values, output_hidden_states=True)
        return list(out.hidden_states[1:])

    def embed_pooled(self, pooled: Tensor) -> Tensor:
        """Means of the last map, of a picture or inside a mask: (..., C) -> (..., D)."""
        return self.head(self.trunk.layernorm(pooled))  # type: ignore[no-any-return]

    def embed_images(self, pixel_values: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), not normalised."""
        return self.embed_pooled(self.maps(pixel_values)[-1].mean((-2, -1)))

    def embed_texts(self, tokens: Tensor) -> Tensor:
        """(P, L) int64, each text from its start to its end token -> (P, D), not normalised.

        What follows the end token does not matter: attention is causal and the end is read.
        """
        return self.text(input_ids=tokens).text_embeds  # type: ignore[no-any-return]

    @property
    def multiplier(self) -> Tensor:
        """What cosines are multiplied with: scalar."""
        return self.logit_scale.exp().clamp(max=LARGEST_MULTIPLIER)
