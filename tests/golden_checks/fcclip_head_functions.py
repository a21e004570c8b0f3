"""FC-CLIP's mask pooling and class logits on random tensors."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.methods.ovsnet.classification import Words, class_logits
from anymask.nn.clip_convnext import LARGEST_MULTIPLIER
from anymask.nn.mask_pooling import mask_pool
from golden_checks.compare import Row, close, tensors

ATOL, RTOL = 1e-5, 1e-4


def matches(folder: Path) -> bool:
    files = tensors(folder).values()
    return any({"input.pool.features", "input.class.embeddings"} <= f.keys() for f in files)


def check_file(data: dict[str, Tensor]) -> list[Row]:
    features = data["input.pool.features"]
    large = data["input.pool.mask_logits_hires"]
    text = data["input.class.text"]
    counts = tuple(data["input.class.num_synonyms"].tolist())
    words = Words(text[:-1], counts, torch.zeros(len(counts), dtype=torch.bool))
    found = {
        "pool.resized_mask_logits": F.interpolate(
            large, features.shape[-2:], mode="bilinear", align_corners=False
        ),
        "pool.pooled_from_hires": mask_pool(features, large),
        "pool.pooled_same": mask_pool(features, data["input.pool.mask_logits_same"]),
    }
    for name in ("logits", "logits_clamped"):
        scale = data[f"input.class.logit_scale{name.removeprefix('logits')}"]
        found[f"class.{name}"] = class_logits(
            data["input.class.embeddings"],
            words,
            scale.exp().clamp(max=LARGEST_MULTIPLIER),
            text[-1],
        )
    return [
        close(name, found[name], data[f"output.{name}"], ATOL, RTOL)
        for name in sorted(k.removeprefix("output.") for k in data if k.startswith("output."))
    ]


def check(folder: Path) -> list[Row]:
    return [row for data in tensors(folder).values() for row in check_file(data)]
