"""OVSNet: frozen CLIP -> pixel decoder -> masked-attention decoder -> mask pooling -> aggregation.

FC-CLIP (Yu et al., NeurIPS 2023) is the case without aggregation; its weights load unchanged.

Shape legend: B pictures, N queries, D CLIP's embedding width, S words, C classes, (H, W) padded
picture.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from anymask.errors import InputError
from anymask.methods.ovsnet.aggregation import (
    Aggregated,
    GradientFreeAggregation,
    LearnedFusion,
)
from anymask.methods.ovsnet.classification import Words, class_logits, ensemble
from anymask.methods.ovsnet.configuration import OVSNetConfig
from anymask.methods.ovsnet.loss import OVSNetLoss
from anymask.methods.ovsnet.text_transfer import ContentDependentTransfer
from anymask.nn.clip_convnext import LARGEST_MULTIPLIER, ClipConvNext
from anymask.nn.frozen_features import FrozenFeatures
from anymask.nn.mask_pooling import inside, mask_pool, pool
from anymask.nn.segmenter import make_decoder, make_pixel_decoder, make_queries
from anymask.nn.targets import Targets


@dataclass
class OVSNetOutput(ModelOutput):
    """What the model knows of a batch, whatever the words.

    Attributes:
        loss: scalar, when targets were given.
        mask_logits: (B, N, H/4, W/4).
        query_embeds: (B, N, D) F_Q at infinity.
        clip_embeds: (B, N, D) F_C at infinity.
        query_start, clip_start: (B, N, D) F_Q^0 and F_C^0.
        empty: (B, N) bool: the mask has no cell on CLIP's last map.
        clip_map: (B, D, H/32, W/32) projected last map; only with ``text_transfer``.
        clip_features: (B, C', H/32, W/32) CLIP's last map; only while its trunk is tuned.
        guarded: (B,) bool: the walk would have diverged and was guarded.
        loss_parts: named parts of the loss, detached.
    """

    loss: Tensor | None = None
    mask_logits: Tensor | None = None
    query_embeds: Tensor | None = None
    clip_embeds: Tensor | None = None
    query_start: Tensor | None = None
    clip_start: Tensor | None = None
    empty: Tensor | None = None
    clip_map: Tensor | None = None
    clip_features: Tensor | None = None
    guarded: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None


class OVSNetModel(PreTrainedModel):
    """Masks with embeddings in CLIP's space."""

    config_class = OVSNetConfig
    base_model_prefix = "ovsnet"
    main_input_name = "pixel_values"

    def __init__(self, config: OVSNetConfig) -> None:
        super().__init__(config)
        self.clip = ClipConvNext(config.clip)
        channels = list(config.clip.widths)
        width = config.clip.embed_dim
        self.pixel_decoder = make_pixel_decoder(config, channels)
        self.queries = make_queries(config)
        self.decoder = make_decoder(config)
        dim = config.hidden_dim
        self.pooled_projection = nn.Sequential(
            nn.LayerNorm(config.mask_dim), nn.Linear(config.mask_dim, dim)
        )
        self.class_embed = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, width)
        )
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.void = nn.Embedding(1, width)
        self.fusion = (
            LearnedFusion(width, "self" if config.aggregation == "self" else "cross")
            if config.aggregation in ("self", "cross")
            else None
        )
        self.text_transfer = (
            None
            if config.text_transfer is None
            else ContentDependentTransfer(width, after_norm=config.text_transfer == "panoptic")
        )
        self.criterion = OVSNetLoss(config)
        self.training_words: Words | None = None
        # The frozen copy that tuning must not leave; see `start_tuning`.
        self.teacher = copy.deepcopy(self.clip.trunk) if config.train_clip_trunk else None
        self._freeze()
        self.post_init()

    def _freeze(self) -> None:
        self.clip.requires_grad_(False)
        self.clip.trunk.requires_grad_(self.config.train_clip_trunk)
        if self.teacher is not None:
            self.teacher.requires_grad_(False)

    def start_tuning(self) -> None:
        """Make the teacher a copy of the trunk as it is now: once, before tuning begins."""
        assert self.teacher is not None, "set train_clip_trunk=True in the configuration"
        self.teacher.load_state_dict(self.clip.trunk.state_dict())

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)

    def train(self, mode: bool = True) -> OVSNetModel:
        """Switch training on or off; CLIP stays in evaluation (its drop path must never act)."""
        super().train(mode)
        self._freeze()  # loading a saved model makes every parameter trainable again
        self.clip.eval()
        if self.teacher is not None:
            self.teacher.eval()
        return self

    # ------------------------------------------------------------------------------ pictures

    def see(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """CLIP's four maps: (B, 3, H, W) -> (B, C, h, w) each, with gradients only when tuned."""
        with torch.set_grad_enabled(self.config.train_clip_trunk and torch.is_grad_enabled()):
            return tuple(self.clip.maps(pixel_values))

    def keep_features(self, features: FrozenFeatures) -> None:
        """Look at every picture once in a training.

        Raises:
            InputError: CLIP's trunk is tuned.
        """
        if self.config.train_clip_trunk:
            raise InputError("features of a trunk that is tuned change: they cannot be kept")
        self.see = features.keep(self.clip.trunk, self.see)  # type: ignore[method-assign,assignment]

    def forward(
        self, pixel_values: Tensor, targets: list[Targets] | None = None, **_: Any
    ) -> OVSNetOutput:
        """Segment a batch and embed its masks.

        Args:
            pixel_values: (B, 3, H, W), normalised, sides multiples of 32.
            targets: per picture its truth, with labels that number ``training_words``; with them
                the loss is computed as well.
        """
        maps = self.see(pixel_values)
        # The segmenter never tunes CLIP: MAFT+ trains the trunk with its own losses only.
        mask_features, levels = self.pixel_decoder([m.detach() for m in maps])
        levels = list(levels)
        content, position = self.queries(levels[-1])
        inner = mask_features if targets is not None else None
        decoded = self.decoder(content, position, levels, mask_features, inner_features=inner)
        masks = decoded.masks[-1]
        query_start = self.embed_queries(decoded.states[-1], mask_features, masks)
        cells = inside(masks, maps[-1])
        clip_start = self.clip.embed_pooled(pool(maps[-1], cells))
        empty = ~cells.flatten(2).any(-1)
        walked = self.aggregate(clip_start, query_start, empty)
        output = OVSNetOutput(
            mask_logits=masks,
            query_embeds=walked.query,
            clip_embeds=walked.clip,
            query_start=query_start,
            clip_start=clip_start,
            empty=empty,
            clip_map=self.project(maps[-1]) if self.text_transfer is not None else None,
            clip_features=maps[-1] if self.teacher is not None else None,
            guarded=walked.guarded,
        )
        if targets is not None:
            inner_queries = [
                self.embed_queries(state, mask_features, mask)
                for state, mask in zip(decoded.states[:-1], decoded.masks[:-1], strict=True)
            ]
            output.loss, output.loss_parts = self.criterion(
                self, output, inner_queries, decoded.masks, targets, pixel_values
            )
        return output

    def embed_queries(self, normed: Tensor, mask_features: Tensor, masks: Tensor) -> Tensor:
        """F_Q^0: normed states (B, N, D'), features and masks -> (B, N, D)."""
        pooled = self.pooled_projection(mask_pool(mask_features, masks))
        return self.class_embed(normed + pooled)  # type: ignore[no-any-return]

    def aggregate(self, clip: Tensor, query: Tensor, empty: Tensor | None = None) -> Aggregated:
        """(F_C^0, F_Q^0) -> (F_C, F_Q) at infinity, (B, N, D) each, as the configuration says."""
        config = self.config
        if self.fusion is not None:
            return self.fusion(clip, query)  # type: ignore[no-any-return]
        if config.aggregation == "none" or config.omega == 0:
            nothing = torch.zeros(len(clip), device=clip.device)
            return Aggregated(clip, query, nothing, nothing.bool())
        walk = GradientFreeAggregation(
            omega=config.omega,
            lam=config.lam,
            mode=config.gfa_mode,
            normalize_inputs=config.normalize_inputs,
            detach_affinity=config.detach_affinity,
            exclude_empty=config.exclude_empty,
            guard=config.guard,
        )
        return walk(clip, query, empty)

    def project(self, last: Tensor) -> Tensor:
        """Every cell of CLIP's last map as an embedding: (B, C, h, w) -> (B, D, h, w)."""
        return self.clip.embed_pooled(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    # --------------------------------------------------------------------------------- words

    def query_logits(self, query_embeds: Tensor, words: Words) -> Tensor:
        """Logits of the query branch: (B, N, D) -> (B, N, C + 1)."""
        multiplier = self.logit_scale.exp().clamp(max=LARGEST_MULTIPLIER)
        return class_logits(query_embeds, words, multiplier, self.void.weight[0])

    def clip_logits(
        self, clip_embeds: Tensor, words: Words, clip_map: Tensor | None = None
    ) -> Tensor:
        """Logits of CLIP's branch: (B, N, D) -> (B, N, C + 1); the last column means nothing."""
        if self.text_transfer is not None:
            assert clip_map is not None
            return self.text_transfer.class_logits(
                clip_embeds, words, self.clip.multiplier, self.void.weight[0], clip_map
            )
        return class_logits(clip_embeds, words, self.clip.multiplier, self.void.weight[0])

    def classify(self, output: OVSNetOutput, words: Words) -> Tensor:
        """Probabilities of every class and of "no object" last: (B, N, C + 1).

        Only this step depends on the words: a picture is encoded once.
        """
        assert output.query_embeds is not None
        assert output.clip_embeds is not None
        config = self.config
        words = words.to(output.query_embeds.device, output.query_embeds.dtype)
        by_query = self.query_logits(output.query_embeds, words)
        if config.classify_with == "query":
            return by_query.softmax(-1)
        by_clip = self.clip_logits(output.clip_embeds, words, output.clip_map)
        if config.classify_with == "clip":
            return ensemble(by_query, by_clip, words.seen, 1.0, 1.0)
        only_query = output.empty if config.ensemble_on_valid_mask else None
        return ensemble(by_query, by_clip, words.seen, config.alpha, config.beta, only_query)
