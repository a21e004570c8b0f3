"""CLIP with a ConvNeXt picture side, of Hugging Face parts (open_clip's ``convnext_*`` models).

Its dense last map keeps its meaning at any picture size, which a ViT's does not; FC-CLIP and
everything after it stand on that.

Shape legend: B pictures, (H, W) their size, C width of the last stage, D embedding width,
P texts, L tokens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    PreTrainedModel,
)
from transformers.utils import ModelOutput

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
        layer_scale: initial weight of every block of the trunk.
        image_mean, image_std: of RGB values 0..255.
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
    layer_scale: float = 1e-6
    image_mean: tuple[float, ...] = (122.7709383, 116.7460125, 104.09373615)
    image_std: tuple[float, ...] = (68.5005327, 66.6321579, 70.32316305)

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

    @classmethod
    def small(cls, **changes: Any) -> ClipConvNextConfig:
        """What ships with the package: for 256-pixel scenes, 2.8 M parameters."""
        settings: dict[str, Any] = {
            "depths": (2, 2, 4, 2),
            "widths": (32, 64, 128, 256),
            "embed_dim": 128,
            "text_width": 128,
            "text_layers": 3,
            "text_heads": 4,
            "vocab_size": 1024,
            "context": 64,
            "bos_token": 1022,
            "eos_token": 1023,
            "drop_path": 0.0,
            "layer_scale": 0.1,
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


@dataclass
class ClipOutput(ModelOutput):
    """What training needs.

    Attributes:
        loss: scalar.
        loss_parts: name -> scalar, detached.
    """

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None


class ClipConvNext(PreTrainedModel):
    """Both sides of the model; pictures become maps, pooled vectors and texts become embeddings."""

    config_class = ClipConvNextConfig
    base_model_prefix = "clip"
    main_input_name = "pixel_values"

    def __init__(self, config: ClipConvNextConfig) -> None:
        super().__init__(config)
        self.trunk = ConvNextModel(
            ConvNextConfig(
                depths=list(config.depths),
                hidden_sizes=list(config.widths),
                drop_path_rate=config.drop_path,
                layer_scale_init_value=config.layer_scale,
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
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """The parts have initialisers of their own."""

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

    def forward(
        self,
        pixel_values: Tensor,
        shares: list[Tensor] | None,
        tokens: Tensor,
        true: Tensor,
        weights: Tensor | None = None,
        **_: Any,
    ) -> ClipOutput:
        """Contrastive training on pictures, or on regions of them, and texts.

        Args:
            pixel_values: (B, 3, H, W), normalised.
            shares: per picture (n, H/32, W/32): how much of each described region lies in each
                cell, sums of 1; None = the whole pictures are described.
            tokens: (P, L) int64.
            true: (R, P) bool: which texts are true of which region (or picture).
            weights: (R,) how much each counts; None = all alike.
        """
        last = self.maps(pixel_values)[-1]
        if shares is None:
            pooled = last.mean((-2, -1))
        else:
            pooled = torch.cat(
                [own.flatten(1) @ one.flatten(1).T for own, one in zip(shares, last, strict=True)]
            )
        loss = contrastive_loss(
            self.embed_pooled(pooled), self.embed_texts(tokens), true, self.multiplier, weights
        )
        return ClipOutput(loss, {"contrast": loss.detach()})

    @property
    def multiplier(self) -> Tensor:
        """What cosines are multiplied with: scalar."""
        return self.logit_scale.exp().clamp(max=LARGEST_MULTIPLIER)


def contrastive_loss(
    images: Tensor,
    texts: Tensor,
    true: Tensor,
    multiplier: Tensor,
    weights: Tensor | None = None,
) -> Tensor:
    """CLIP's symmetric loss, for pictures of which several texts may be true.

    Args:
        images: (R, D).
        texts: (P, D).
        true: (R, P) bool; every row has a true one.
        multiplier: of the cosines.
        weights: (R,) how much every picture counts; None = all alike.

    Returns:
        Scalar: the mean of both directions; texts that are true of nothing count as wrong answers.
    """
    logits = multiplier * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T
    goal = true.to(logits.dtype)
    share = goal.new_ones(len(goal)) if weights is None else weights.to(goal.dtype)
    by_image = -(logits.log_softmax(1) * goal / goal.sum(1, keepdim=True)).sum(1)
    by_image = (share * by_image).sum() / share.sum()
    spoken = true.any(0)
    columns, wanted = logits[:, spoken], goal[:, spoken] * share[:, None]
    by_text = -(columns.log_softmax(0) * wanted / wanted.sum(0)).sum(0).mean()
    return (by_image + by_text) / 2
