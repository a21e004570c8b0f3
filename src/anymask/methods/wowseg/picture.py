"""A picture and its masks as WOW-Seg's tiles, crops and token selectors (specification 2.2 to 2.4,
2.7). Everything is Pillow's bicubic, as in the released code; torchvision is not needed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import PIL.Image
import PIL.ImageFilter
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymask.errors import InputError
from anymask.image import Image
from anymask.methods.wowseg.mask2token import (
    GRID,
    Box,
    Thin,
    crop_box,
    on_canvas,
    selector,
    shared_windows,
)
from anymask.nn.picture_input import normalised
from anymask.ops.tile_grid import TILE, tile_grid

BLUR = 10  # pixels: radius of the blur behind Blur2Token's foreground

Encoding = Literal["mask2token", "fore2token", "blur2token"]
Status = Literal["ok", "empty_mask", "no_token"]


@dataclass(frozen=True)
class Prepared:
    """What the model sees of a picture and M masks.

    Attributes:
        canvas: (width, height) of the tile canvas in pixels.
        tiles: (T, 3, S, S), the thumbnail last when there is more than one tile.
        crops: (U, 3, S, S); masks with the same window share one.
        crop_of: which crop each of the K masks with any token has.
        selectors: (K, g, g) bool.
        boxes: K windows on the canvas.
        rows: which of the M masks these K are.
        status: of all M masks.
    """

    canvas: tuple[int, int]
    tiles: Tensor
    crops: Tensor
    crop_of: tuple[int, ...]
    selectors: Tensor
    boxes: tuple[Box, ...]
    rows: tuple[int, ...]
    status: tuple[Status, ...]

    @property
    def crops_of_masks(self) -> Tensor:
        """(K, 3, S, S): one crop a mask."""
        return self.crops[list(self.crop_of)]

    def picture_tokens(self, cells: int) -> int:
        """Visual tokens of the picture, at so many a tile."""
        return len(self.tiles) * cells


def prepare(
    image: Image,
    masks: Sequence[NDArray[np.bool_]],
    *,
    most_tiles: int = 12,
    scale: float = 2.0,
    side: int = TILE,
    grid: int = GRID,
    encoding: Encoding = "mask2token",
    thin: Thin = "nearest_cell",
    jpeg: int | None = None,
    share: float = 1.0,
) -> Prepared:
    """Cut a picture up.

    Args:
        image: the picture.
        masks: M masks (H, W) bool of its size.
        most_tiles: 12 when answering, 4 in training.
        scale: of the window around a mask.
        side: S, of a tile in pixels.
        grid: tokens a side of a crop.
        encoding: ``"mask2token"``, or Table 6's ``"fore2token"`` (white behind the mask) and
            ``"blur2token"`` (blurred behind it), which keep all tokens.
        thin: what a mask keeps that no token's sample hits, see :func:`selector`.
        jpeg: a seed: compress every tile and crop at a quality drawn from 75 to 100 first, as the
            released training does where a data set asks for it.
        share: masks may use another one's window that is up to so many times as large as their own;
            1 = only the same window. See :func:`~anymask.methods.wowseg.mask2token.shared_windows`.

    Raises:
        InputError: a mask of another size.
    """
    for number, mask in enumerate(masks):
        if mask.shape != image.size:
            raise InputError(f"mask {number} is {mask.shape}, the picture {image.size} pixels")
    source = None if jpeg is None else np.random.default_rng(jpeg)
    height, width = image.size
    columns, rows = tile_grid(width, height, most_tiles, side)
    whole = PIL.Image.fromarray(image.pixels)
    size = (columns * side, rows * side)
    canvas = whole.resize(size, PIL.Image.Resampling.BICUBIC)
    tiles = [
        canvas.crop((x * side, y * side, (x + 1) * side, (y + 1) * side))
        for y in range(rows)
        for x in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(whole.resize((side, side), PIL.Image.Resampling.BICUBIC))
    laid_out = [on_canvas(mask, size) for mask in masks]
    windows = [crop_box(laid, scale) for laid in laid_out]
    if encoding == "mask2token" and share > 1:
        windows = shared_windows(laid_out, windows, share)
    crops: list[Tensor] = []
    crop_of: list[int] = []
    known: dict[Box, int] = {}
    selectors, boxes, kept = [], [], []
    status: list[Status] = []
    for number, (laid, box) in enumerate(zip(laid_out, windows, strict=True)):
        if box is None:
            status.append("empty_mask")
            continue
        chosen = selector(laid, box, grid, thin)
        if encoding != "mask2token":
            chosen = np.ones_like(chosen)
        elif not chosen.any():
            status.append("no_token")
            continue
        if box not in known or encoding != "mask2token" or source is not None:
            part = _shown(canvas.crop(box), laid[box[1] : box[3], box[0] : box[2]], encoding)
            part = _compressed(part, source)
            known[box] = len(crops)
            crops.append(_pixels(part.resize((side, side), PIL.Image.Resampling.BICUBIC)))
        crop_of.append(known[box])
        selectors.append(torch.from_numpy(chosen))
        boxes.append(box)
        kept.append(number)
        status.append("ok")
    return Prepared(
        size,
        torch.stack([_pixels(_compressed(tile, source)) for tile in tiles]),
        torch.stack(crops) if crops else torch.zeros(0, 3, side, side),
        tuple(crop_of),
        torch.stack(selectors) if selectors else torch.zeros(0, grid, grid, dtype=torch.bool),
        tuple(boxes),
        tuple(kept),
        tuple(status),
    )


def _shown(part: PIL.Image.Image, mask: NDArray[np.bool_], encoding: Encoding) -> PIL.Image.Image:
    """The crop as it is, on white, or on its own blur."""
    if encoding == "mask2token":
        return part
    behind = (
        PIL.Image.new("RGB", part.size, (255, 255, 255))
        if encoding == "fore2token"
        else part.filter(PIL.ImageFilter.GaussianBlur(BLUR))
    )
    return PIL.Image.composite(part, behind, PIL.Image.fromarray(mask))


def _compressed(picture: PIL.Image.Image, source: np.random.Generator | None) -> PIL.Image.Image:
    if source is None:
        return picture
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=int(source.integers(75, 101)))
    return PIL.Image.open(stream).convert("RGB")


def _pixels(picture: PIL.Image.Image) -> Tensor:
    return normalised(torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255)
