"""SegPrompt's class-agnostic model (paper, section 3.1; Mask2Former with one class).

Shape legend: B pictures, N queries, D width, M mask width, K classes, (H, W) padded picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers import AutoBackbone, PreTrainedModel
from transformers.utils import ModelOutput

from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.dense_loss import DenseLoss
from anymask.nn.pocket_backbone import PocketBackbone
from anymask.nn.point_loss import PointLoss
from anymask.nn.segmenter import make_decoder, make_pixel_decoder, make_queries
from anymask.nn.targets import Targets


@dataclass
class SegPromptOutput(ModelOutput):
    """What the model answers.

    Attributes:
        loss: scalar, when targets were given.
        class_logits: (B, N, K + 1); column 0 is "object" in a class-agnostic model, the last
            column is "no object".
        mask_logits: (B, N, H/4, W/4); a pixel belongs to the mask where the logit is positive.
        quality_logits: (B, N); sigmoid = predicted IoU. None without a quality head.
        loss_parts: named, unweighted parts of the loss, detached, for logging.
    """

    loss: Tensor | None = None
    class_logits: Tensor | None = None
    mask_logits: Tensor | None = None
    quality_logits: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None


class SegPromptModel(PreTrainedModel):
    """Backbone -> pixel decoder -> masked-attention decoder -> class, mask and quality heads."""

    config_class = SegPromptConfig
    base_model_prefix = "segprompt"
    main_input_name = "pixel_values"
    _no_split_modules = ["MaskedAttentionLayer", "ResidualBlock"]  # noqa: RUF012

    def __init__(self, config: SegPromptConfig) -> None:
        super().__init__(config)
        if config.backbone_config is None:
            self.backbone: nn.Module = PocketBackbone(
                tuple(config.pocket_widths), tuple(config.pocket_depths)
            )
            channels = list(config.pocket_widths)
        else:
            backbone = AutoBackbone.from_config(config.backbone_config)
            self.backbone = backbone
            channels = [int(c) for c in backbone.channels]
        self.pixel_decoder = make_pixel_decoder(config, channels)
        self.queries = make_queries(config)
        self.decoder = make_decoder(config)
        self.class_head = nn.Linear(config.hidden_dim, config.num_classes + 1)
        self.quality_head = nn.Linear(config.hidden_dim, 1) if config.quality_head else None
        self.criterion = DenseLoss(config) if config.dense_loss else PointLoss(config)
        if config.frozen_norm:
            for norm in self._frozen():
                norm.requires_grad_(False)
        self.post_init()

    def train(self, mode: bool = True) -> SegPromptModel:
        """Switch training on or off; frozen normalisation stays as it is."""
        super().train(mode)
        if self.config.frozen_norm:
            for norm in self._frozen():
                norm.eval().requires_grad_(False)  # loading makes everything trainable again
        return self

    def _frozen(self) -> list[nn.Module]:
        return [m for m in self.backbone.modules() if isinstance(m, nn.BatchNorm2d)]

    def _init_weights(self, module: nn.Module) -> None:
        # Queries start at N(0, 1) as in Mask2Former; every other part keeps its own initialiser,
        # which the transformers default would overwrite.
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif module is self.class_head and self.config.num_classes == 1:
            nn.init.zeros_(module.bias)

    def encode(self, pixel_values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, 3, H, W) -> mask features (B, M, H/4, W/4), levels (B, D, h, w) coarsest first."""
        features = self.backbone(pixel_values)
        maps = features if isinstance(features, list) else list(features.feature_maps)
        mask_features, levels = self.pixel_decoder(maps)
        return mask_features, list(levels)

    def forward(
        self, pixel_values: Tensor, targets: list[Targets] | None = None, **_: Any
    ) -> SegPromptOutput:
        """Find the objects of a batch of pictures.

        Args:
            pixel_values: (B, 3, H, W) float, normalised, sides multiples of 32.
            targets: per picture its :class:`~anymask.nn.targets.Targets`; with them
                the loss is computed as well.
        """
        mask_features, levels = self.encode(pixel_values)
        content, position = self.queries(levels[-1])
        inner = None
        if targets is not None:
            # The dense loss compares inner predictions at stride 8: a quarter of the work.
            dense = self.config.dense_loss
            inner = nn.functional.avg_pool2d(mask_features, 2) if dense else mask_features
        decoded = self.decoder(content, position, levels, mask_features, inner_features=inner)
        final = decoded.states[-1]
        output = SegPromptOutput(
            class_logits=self.class_head(final),
            mask_logits=decoded.masks[-1],
            quality_logits=None if self.quality_head is None else self.quality_head(final)[..., 0],
        )
        if targets is not None:
            class_logits = [self.class_head(state) for state in decoded.states]
            output.loss, output.loss_parts = self.criterion(
                class_logits, decoded.masks, output.quality_logits, targets
            )
        return output
