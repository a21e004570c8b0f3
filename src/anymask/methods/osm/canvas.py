"""Pictures and masks on OSM's square canvas (specification 1): the long side fills it, zeros right
and below, in Pillow's arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymask.image import Image
from anymask.nn.picture_input import CLIP_MEAN, CLIP_STD, normalised
from anymask.ops.resize import long_side_size


def resized(image: Image, side: int) -> NDArray[np.uint8]:
    """The picture as it lies on the canvas: (h, w, 3) uint8, bicubic."""
    size = long_side_size(image.width, image.height, side)
    picture = PIL.Image.fromarray(image.pixels).resize(size, PIL.Image.Resampling.BICUBIC)
    return np.array(picture)


def picture_canvas(image: Image, side: int) -> NDArray[np.uint8]:
    """(S, S, 3) uint8."""
    small = resized(image, side)
    canvas = np.zeros((side, side, 3), np.uint8)
    canvas[: small.shape[0], : small.shape[1]] = small
    return canvas


def canvas_pixels(canvas: NDArray[np.uint8]) -> Tensor:
    """(S, S, 3) uint8 -> (3, S, S) float32; padding is normalised as black is."""
    return normalised(torch.from_numpy(canvas).permute(2, 0, 1) / 255, CLIP_MEAN, CLIP_STD)


def mask_canvas(masks: Sequence[NDArray[np.bool_]], side: int) -> NDArray[np.bool_]:
    """Masks (H, W) of one picture on its canvas: (M, S, S), nearest neighbour."""
    found = np.zeros((len(masks), side, side), bool)
    for row, mask in zip(found, masks, strict=True):
        size = long_side_size(mask.shape[1], mask.shape[0], side)
        small = PIL.Image.fromarray(mask.astype(np.uint8)).resize(
            size, PIL.Image.Resampling.NEAREST
        )
        row[: size[1], : size[0]] = np.array(small) > 0
    return found
