"""OSM: a picture, masks and a mode in, names out.

    canvas --- frozen eye, window by window --- + global positions ---.
    mask, context and mode queries, question --- MaskQ-Former --------+--- projection
    [32 mask tokens][mode token][question] --- frozen language model --- name

Shape legend: B pictures, R masks, S side of the canvas, K image tokens, L tokens of a text, D width
of the language model, V its words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.models.instructblip.modeling_instructblip import (
    InstructBlipQFormerModel,
    InstructBlipVisionModel,
)
from transformers.utils import ModelOutput

from anymask.errors import InputError
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.mask_qformer import mask_qformer
from anymask.methods.osm.regions import context_masks, visible_tokens
from anymask.methods.osm.windows import starts, windowed
from anymask.nn.distributed import mean_over_processes
from anymask.nn.frozen_features import FrozenFeatures

IGNORED = -100  # a label that is not taught
WINDOWS_AT_ONCE = 8
MOST_DATA_SETS = 16
Mode = str | Tensor | None


@dataclass
class OSMOutput(ModelOutput):
    """``loss``: scalar, with labels; ``loss_parts``: name -> scalar; ``logits``: (R, 33 + L, V)."""

    loss: Tensor | None = None
    loss_parts: dict[str, Tensor] | None = None
    logits: Tensor | None = None


class OSMModel(PreTrainedModel):  # type: ignore[misc]
    """InstructBLIP's parts under their own names, and OSM's queries; eye and language model stay
    frozen.

    Args:
        config: sizes and switches.
    """

    config_class = OSMConfig
    base_model_prefix = "osm"
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: OSMConfig) -> None:
        super().__init__(config)
        base: Any = config.base_config
        self.vision_model = InstructBlipVisionModel(base.vision_config)
        self.qformer = InstructBlipQFormerModel(base.qformer_config)
        width, dim = base.qformer_config.hidden_size, base.text_config.hidden_size
        self.language_projection = nn.Linear(width, dim)
        self.language_model = AutoModelForCausalLM.from_config(base.text_config)
        queries = (1, base.num_query_tokens, width)
        self.query_tokens = nn.Parameter(0.02 * torch.randn(queries))  # the context queries
        self.mask_query = nn.Parameter(self.query_tokens.detach().clone())
        self.qformer_mode_query = _modes(config.modes, width)
        self.mode_query = _modes(config.modes, dim)
        channels = base.vision_config.hidden_size
        positions = torch.randn(1, self.num_tokens, channels)
        self.window_pos_embed = nn.Parameter(config.pos_init_std * positions)
        self._freeze()
        self.post_init()

    def _init_weights(self, module: Any) -> None:
        """Parts come with their own initial weights."""

    def _freeze(self) -> None:
        self.vision_model.requires_grad_(False)
        self.language_model.requires_grad_(False)

    def train(self, mode: bool = True) -> OSMModel:
        """Switch training on or off; what is frozen stays in evaluation."""
        super().train(mode)
        self._freeze()  # loading a saved model makes every parameter trainable again
        self.vision_model.eval()
        self.language_model.eval()
        return self

    @property
    def window(self) -> int:
        """Side of a window in pixels: what the eye was trained at."""
        return int(self.config.base_config.vision_config.image_size)

    @property
    def patch(self) -> int:
        """Side of a patch in pixels."""
        return int(self.config.base_config.vision_config.patch_size)

    @property
    def num_windows(self) -> int:
        """Class tokens."""
        if not self.config.windows:
            return 1
        return len(starts(self.config.canvas, self.window, self.config.stride)) ** 2

    @property
    def num_tokens(self) -> int:
        """K."""
        return self.num_windows + (int(self.config.canvas) // self.patch) ** 2

    # --------------------------------------------------------------------------------- the steps

    @torch.no_grad()
    def see(self, pixel_values: Tensor) -> tuple[Tensor]:
        """What the frozen eye sees of canvases: (B, 3, S, S) -> (B, K, C)."""
        if not self.config.windows:
            seen = self.vision_model(pixel_values, interpolate_pos_encoding=True).last_hidden_state
        else:
            seen = windowed(
                pixel_values, self._eye, self.window, self.config.stride, self.patch,
                WINDOWS_AT_ONCE,
            )  # fmt: skip
        return (seen,)

    def keep_features(self, features: FrozenFeatures) -> None:
        """Look at every picture once in a training."""
        settings = f"{self.config.windows} {self.config.stride}"
        self.see = features.keep(self.vision_model, self.see, settings)  # type: ignore[method-assign,assignment]

    def encode(self, pixel_values: Tensor) -> Tensor:
        """Canvases -> image tokens with their global positions: (B, 3, S, S) -> (B, K, C)."""
        (seen,) = self.see(pixel_values)
        return seen + self.window_pos_embed.to(seen.dtype)

    def _eye(self, windows: Tensor) -> Tensor:
        return self.vision_model(windows).last_hidden_state  # type: ignore[no-any-return]

    def look(
        self,
        features: Tensor,
        masks: Tensor,
        ids: Tensor,
        keep: Tensor,
        mode: Mode = "any",
        context: Tensor | None = None,
        lost: Any = "none",
    ) -> Tensor:
        """What the mask queries bring back.

        Args:
            features: (R, K, C), or (1, K, C) for masks of one picture.
            masks: (R, S, S) bool on the canvas.
            ids, keep: (R, L) of the question, for the Q-Former.
            mode: which mode query, for all masks or (R,) int64 positions in the configuration's
                modes; None = none, for models without modes.
            context: (R, S, S) bool; None = made from the masks.
            lost: see :func:`~anymask.methods.osm.regions.visible_tokens`.

        Returns:
            (R, 32, C) of the Q-Former.

        Raises:
            InputError: an unknown mode.
        """
        around = context_masks(masks, self.config.context_ratio) if context is None else context
        seen = visible_tokens(masks, self.patch, self.num_windows, lost)
        wide = visible_tokens(around, self.patch, self.num_windows)
        rows, count = len(masks), self.mask_query.shape[1]
        parts: list[Tensor] = [self.mask_query, self.query_tokens]
        visible = [seen[:, None].expand(-1, count, -1), wide[:, None].expand(-1, count, -1)]
        if mode is not None:
            parts.append(self._mode(self.qformer_mode_query, mode))
            visible.append(wide[:, None])  # the mode query looks at the context
        queries = torch.cat([part.expand(rows, -1, -1) for part in parts], 1)
        found = mask_qformer(self.qformer, queries, ids, keep, features, torch.cat(visible, 1))
        return found[:, :count]

    def prompt(self, looked: Tensor, mode: Mode = "any") -> Tensor:
        """What stands before the text: (R, 32, C) -> (R, 33, D); 32 without a mode."""
        tokens = self.language_projection(looked)
        if mode is None:
            return tokens  # type: ignore[no-any-return]
        told = self._mode(self.mode_query, mode).expand(len(tokens), -1, -1)
        return torch.cat([tokens, told], 1)

    def read(self, prompt: Tensor, ids: Tensor, keep: Tensor) -> Tensor:
        """Logits of prompt and text: (R, 33, D), (R, L), (R, L) bool -> (R, 33 + L, V)."""
        words = self.language_model.get_input_embeddings()(ids)
        whole = torch.cat([prompt.to(words), words], 1)
        allowed = torch.cat([keep.new_ones(prompt.shape[:2]), keep], 1)
        return self.language_model(  # type: ignore[no-any-return]
            inputs_embeds=whole, attention_mask=allowed.long(), use_cache=False
        ).logits

    def _mode(self, queries: nn.ParameterDict, mode: str | Tensor) -> Tensor:
        """(1 or R, 1, C). Every mode takes part, so that each process has a gradient for each."""
        if isinstance(mode, str) and mode not in queries:
            known = ", ".join(queries) or "none: this model has no modes"
            raise InputError(f"no mode {mode!r}: known are {known}")
        every = torch.cat(list(queries.values()))[:, 0]
        number = torch.tensor([list(queries).index(mode)]) if isinstance(mode, str) else mode
        chosen = F.one_hot(number.to(every.device), len(every)).to(every)
        return (chosen @ every)[:, None]

    # ---------------------------------------------------------------------------------- training

    def forward(
        self,
        pixel_values: Tensor,
        masks: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
        qformer_ids: Tensor,
        qformer_mask: Tensor,
        mode: Mode = "any",
        labels: Tensor | None = None,
        context: Tensor | None = None,
        groups: Tensor | None = None,
        pictures: Tensor | None = None,
    ) -> OSMOutput:
        """One mask a row.

        Args:
            pixel_values: (B, 3, S, S).
            masks: (R, S, S) bool.
            input_ids, attention_mask: (R, L) of the language model.
            qformer_ids, qformer_mask: (R, L') of the Q-Former.
            mode: see :meth:`look`.
            labels: (R, L), ``IGNORED`` where nothing is taught.
            context: see :meth:`look`.
            groups: (R,) int64, ``2 k`` for data set k with its own mode and ``2 k + 1`` with any
                words; None = the rows are one group. See :func:`mixed_loss`.
            pictures: (R,) int64, which picture each mask belongs to; None = the row's own.
        """
        features = self.encode(pixel_values)
        if pictures is not None:
            features = features[pictures]
        looked = self.look(features, masks, qformer_ids, qformer_mask.bool(), mode, context)
        logits = self.read(self.prompt(looked, mode), input_ids, attention_mask.bool())
        if labels is None:
            return OSMOutput(logits=logits)
        loss = text_loss(logits, labels) if groups is None else mixed_loss(logits, labels, groups)
        return OSMOutput(loss=loss, loss_parts={"names": loss.detach()}, logits=logits)


def text_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of what is taught: (R, N + L, V), (R, L) -> scalar."""
    mine = _at_least_float(logits[:, -labels.shape[1] :][:, :-1].flatten(0, 1))
    wanted = labels[:, 1:].flatten()
    count = mean_over_processes((wanted != IGNORED).sum().to(mine)).clamp(min=1.0)
    return F.cross_entropy(mine, wanted, ignore_index=IGNORED, reduction="sum") / count


def mixed_loss(logits: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """The mean over the tokens of every group, the mean of a data set's two groups, and the sum
    over data sets (specification 3.4); over all processes.

    Args:
        logits: (R, N + L, V).
        labels: (R, L).
        groups: (R,), see :meth:`OSMModel.forward`.
    """
    mine = _at_least_float(logits[:, -labels.shape[1] :][:, :-1].transpose(1, 2))
    wanted = labels[:, 1:]
    each = F.cross_entropy(mine, wanted, ignore_index=IGNORED, reduction="none").sum(1)
    size = 2 * MOST_DATA_SETS
    counts = each.new_zeros(size).index_add(0, groups, (wanted != IGNORED).sum(1).to(each))
    counts = mean_over_processes(counts)
    means = each.new_zeros(size).index_add(0, groups, each) / counts.clamp(min=1e-6)
    there = (counts > 0).view(-1, 2).sum(1)
    return (means.view(-1, 2).sum(1) / there.clamp(min=1)).sum()


def _at_least_float(values: Tensor) -> Tensor:
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _modes(names: Any, width: int) -> nn.ParameterDict:
    made = nn.ParameterDict()
    for name in names:
        made[name] = nn.Parameter(nn.init.trunc_normal_(torch.zeros(1, 1, width), std=0.02))
    return made
