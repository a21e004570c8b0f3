"""A tiny SegPrompt with prompt branches, and something to show it."""

from __future__ import annotations

from typing import Any

import numpy as np

from anymask.image import Image
from anymask.segments import Segments

SMALL: dict[str, Any] = {
    "pocket_widths": (8, 16, 16, 32),
    "pocket_depths": (1, 1, 1, 1),
    "hidden_dim": 32,
    "mask_dim": 16,
    "num_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 32,
    "num_queries": 9,
    "image_long_side": 96,
    "prompt_classes": 6,
    "queries_per_class": 3,
    "max_classes": 4,
}


def picture(seed: int = 0, height: int = 70, width: int = 90) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8))


def squares(*corners: tuple[int, int], size: tuple[int, int] = (70, 90), **more: Any) -> Segments:
    masks = np.zeros((len(corners), *size), bool)
    for mask, (y, x) in zip(masks, corners):
        mask[y : y + 20, x : x + 20] = True
    return Segments.from_masks(masks, size=size, **more)
