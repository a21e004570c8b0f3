"""The baselines of OSM's Table 1: linear heads, one a data set, instead of the language model.

"Learnable Embed" starts them at random, "Text Embed" from the embeddings of the classes' names. How
the mask queries are joined is not published; their mean is taken here.

Shape legend: R masks, S side of the canvas, C classes of a data set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.methods.osm.collate import Collate
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.model import OSMModel, OSMOutput
from anymask.nn.distributed import mean_over_processes


class OSMHeadsConfig(OSMConfig):
    """Attributes:
    classes: data set (a mode) -> names of its classes.
    """

    model_type = "anymask_osm_heads"

    classes: dict[str, list[str]] | None = None


class OSMHeads(OSMModel):
    """An OSM whose mask queries are classified.

    Args:
        config: sizes and classes.
    """

    config_class = OSMHeadsConfig

    def __init__(self, config: OSMHeadsConfig) -> None:
        super().__init__(config)
        width = self.language_projection.out_features
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, len(names)) for name, names in (config.classes or {}).items()}
        )

    def read_names(self, tokenizer: Any) -> None:
        """Start every head from the mean embeddings of its names' tokens ("Text Embed")."""
        words = self.language_model.get_input_embeddings().weight
        with torch.no_grad():
            for name, names in (self.config.classes or {}).items():
                head: Any = self.heads[name]
                for row, text in enumerate(names):
                    head.weight[row] = words[tokenizer(f" {text}")["input_ids"]].mean(0)
                head.bias.zero_()

    def class_logits(self, looked: Tensor, name: str) -> Tensor:
        """(R, N, C of the Q-Former) -> (R, C)."""
        return self.heads[name](self.language_projection(looked).mean(1))  # type: ignore[no-any-return]

    def forward(  # type: ignore[override]
        self,
        pixel_values: Tensor,
        masks: Tensor,
        qformer_ids: Tensor,
        qformer_mask: Tensor,
        mode: Tensor,
        classes: Tensor,
        pictures: Tensor | None = None,
    ) -> OSMOutput:
        """One mask a row; ``mode`` says its data set too.

        Args:
            pixel_values, masks, qformer_ids, qformer_mask, mode, pictures: as of the OSM.
            classes: (R,) int64, row of the true class in its data set's head.
        """
        features = self.encode(pixel_values)
        if pictures is not None:
            features = features[pictures]
        looked = self.look(features, masks, qformer_ids, qformer_mask.bool(), mode)
        loss = looked.sum() * 0
        for name, head in self.heads.items():
            mine = mode == list(self.config.modes).index(name)
            count = mean_over_processes(mine.sum().float()).clamp(min=1.0)
            logits = self.class_logits(looked[mine], name)
            entropy = F.cross_entropy(logits.float(), classes[mine], reduction="sum")
            unused = sum(p.sum() for p in head.parameters()) * 0
            loss = loss + entropy / count + unused
        return OSMOutput(loss=loss, loss_parts={"classes": loss.detach()})


class HeadCollate:
    """Samples -> keyword arguments of :class:`OSMHeads`."""

    def __init__(self, collate: Collate, classes: dict[str, list[str]]) -> None:
        self.collate = collate
        self.classes = classes

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """As :class:`~anymask.methods.osm.collate.Collate`, without answers."""
        found = self.collate([{**s, "agnostic": False} for s in samples])
        rows = [self.classes[s["mode"]].index(s["name"]) for s in samples]
        kept = ("pixel_values", "masks", "qformer_ids", "qformer_mask", "mode", "pictures")
        return {**{name: found[name] for name in kept}, "classes": torch.tensor(rows)}
