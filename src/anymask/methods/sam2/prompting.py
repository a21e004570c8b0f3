"""Masks for clicks, boxes and earlier masks, in pixels of the picture."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anymask.errors import InputError, SegmentsError
from anymask.image import Image
from anymask.nn.remembered import Remembered
from anymask.nn.sam2 import FOREGROUND, LOWER_RIGHT, UPPER_LEFT, Sam2
from anymask.nn.sam2_decoder import Sam2Features
from anymask.ops.mask_classification import Canvas
from anymask.ops.rle import decode
from anymask.segments import Segments

GIVEN_LOGIT = 10.0  # of a pixel inside of a mask that is given, minus this outside


class Sam2Prompter:
    """Answers clicks and boxes on pictures; a picture is encoded once.

    Args:
        sam: the model.
        antialias: of the picture's resizing, see ``Sam2.pixels``.
    """

    def __init__(self, sam: Sam2, antialias: bool = True) -> None:
        self.sam = sam
        self.antialias = antialias
        self.look = Remembered(self._look)

    @torch.inference_mode()
    def _look(self, image: Image) -> Sam2Features:
        pixels = self.sam.pixels(image, self.antialias)[None]
        return self.sam.encode(pixels.to(self.sam.device))

    @torch.inference_mode()
    def __call__(
        self,
        image: Image,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        masks: Any = None,
        *,
        multimask: bool = False,
    ) -> Segments:
        """One segment for every prompt, in their order.

        Args:
            image: the picture.
            points: (Q, n, 2) x, y in pixels, n clicks for each of Q things; (n, 2) for one thing.
            point_labels: (Q, n) or (n,): 1 inside (default), 0 outside, -1 no point.
            boxes: (Q, 4) x1, y1, x2, y2 in pixels, or (4,).
            masks: Q earlier masks to refine: :class:`Segments` or (Q, H, W) bool.
            multimask: return three masks a prompt, whole, part and smaller part, instead of one.

        Returns:
            Unlabelled segments; a score is the predicted IoU, in 0..1.

        Raises:
            InputError: nothing was asked, a shape is wrong, the numbers of prompts differ, or a
                prompt lies outside of the picture.
            SegmentsError: masks of another size than the picture.
        """
        clicks, labels = clicks_of(points, point_labels)
        corners = corners_of(boxes)
        _check_inside(image.size, clicks, labels, corners)
        given = _given(masks, image.size, self.sam.grid * 4)
        counts = {len(x) for x in (clicks, corners, given) if x is not None}
        if not counts:
            raise InputError("nothing was asked: give points, boxes or masks")
        if len(counts) > 1:
            raise InputError(
                f"points, boxes and masks of the same things come in equal numbers, not {counts}"
            )
        if clicks is not None and corners is not None:
            clicks = np.concatenate([corners, clicks], 1)
            labels = np.concatenate([_corner_labels(len(corners)), labels], 1)
        elif corners is not None:
            clicks, labels = corners, _corner_labels(len(corners))
        device = self.sam.device
        if clicks is None:
            assert given is not None
            tokens = self.sam.no_points(1, len(given))[0]
        else:
            height, width = image.size
            scale = np.array([self.sam.side / width, self.sam.side / height])
            places = torch.from_numpy(clicks * scale).float().to(device)
            tokens = self.sam.point_tokens(places, torch.from_numpy(labels).to(device))
        prior = None if given is None else given.to(device)
        found = self.sam.ask(self.look(image), tokens, prior, "three" if multimask else "best")
        canvas = Canvas(found.logits.flatten(0, 1).float().cpu(), None, image.size)
        scores = found.iou.flatten().float().cpu().numpy()
        return Segments(image.size, [canvas.rle(k)[0] for k in range(len(scores))], scores=scores)


def clicks_of(points: Any, labels: Any) -> tuple[NDArray[np.float64] | None, NDArray[np.int64]]:
    """(Q, n, 2) and (Q, n)."""
    none = np.zeros((0, 0), np.int64)
    if points is None:
        if labels is not None:
            raise InputError("point_labels need points")
        return None, none
    try:
        places = np.asarray(points, float)
    except ValueError as error:
        raise InputError(
            "points are x, y in pixels: (n, 2) for one thing or (Q, n, 2) for Q things; fill up "
            "things with fewer points with the label -1"
        ) from error
    places = places[None] if places.ndim == 2 else places
    if places.ndim != 3 or places.shape[-1] != 2 or not places.shape[1]:
        raise InputError(
            f"points have the shape {np.shape(points)}: give (n, 2) for one thing or (Q, n, 2)"
        )
    if not np.isfinite(places).all():
        raise InputError("points contain NaN or infinite numbers")
    if labels is None:
        return places, np.full(places.shape[:2], FOREGROUND)
    said = np.asarray(labels)
    said = said[None] if said.ndim == 1 else said
    if said.shape != places.shape[:2] or not np.isin(said, (-1, 0, 1)).all():
        raise InputError(
            f"point_labels are 1 (inside), 0 (outside) or -1 (none), one for each of "
            f"{places.shape[:2]} points, not {np.shape(labels)}"
        )
    return places, said.astype(np.int64)


def corners_of(boxes: Any) -> NDArray[np.float64] | None:
    """(Q, 2, 2)."""
    if boxes is None:
        return None
    table = np.asarray(boxes, float)
    table = table[None] if table.ndim == 1 else table
    if table.ndim != 2 or table.shape[1] != 4 or not np.isfinite(table).all():
        raise InputError(f"boxes are (Q, 4) x1, y1, x2, y2 in pixels, not {np.shape(boxes)}")
    if (table[:, 2:] < table[:, :2]).any():
        raise InputError("a box has x2 < x1 or y2 < y1: give x1, y1, x2, y2, not width and height")
    return table.reshape(-1, 2, 2)


def _check_inside(
    size: tuple[int, int],
    clicks: NDArray[np.float64] | None,
    labels: NDArray[np.int64],
    corners: NDArray[np.float64] | None,
) -> None:
    """Clicks lie in the picture; a box may overlap its border, but not lie outside of it."""
    height, width = size
    edge = np.array([width, height])
    if clicks is not None:
        lost = clicks[((clicks < 0) | (clicks > edge)).any(-1) & (labels >= 0)]
        if len(lost):
            x, y = lost[0]
            raise InputError(
                f"the point ({x:g}, {y:g}) lies outside of the picture of {width} x {height} "
                "pixels: give x, y in pixels of the picture"
            )
    if corners is not None:
        beside = corners[((corners[:, 1] <= 0) | (corners[:, 0] >= edge)).any(-1)]
        if len(beside):
            box = ", ".join(f"{v:g}" for v in beside[0].ravel())
            raise InputError(
                f"the box ({box}) lies outside of the picture of {width} x {height} pixels: give "
                "x1, y1, x2, y2 in pixels of the picture"
            )


def _corner_labels(count: int) -> NDArray[np.int64]:
    return np.tile(np.array([UPPER_LEFT, LOWER_RIGHT]), (count, 1))


def _given(masks: Any, size: tuple[int, int], side: int) -> Tensor | None:
    """(Q, 1, side, side) logits."""
    if masks is None:
        return None
    if isinstance(masks, Segments):
        dense = [decode(rle) for rle in masks.rles]
        if masks.size != size:
            raise SegmentsError(f"the masks belong to a picture of {masks.size}, this has {size}")
    else:
        array = np.asarray(masks)
        array = array[None] if array.ndim == 2 else array
        if array.ndim != 3 or array.shape[1:] != size:
            raise SegmentsError(f"masks are (Q, H, W) with (H, W) = {size}, not {array.shape}")
        dense = list(array.astype(bool))
    small = [
        F.interpolate(
            torch.from_numpy(mask)[None, None].float(),
            (side, side),
            mode="bilinear",
            antialias=True,
        )
        for mask in dense
    ]
    if not small:
        return torch.zeros(0, 1, side, side)
    return (torch.cat(small) * 2 - 1) * GIVEN_LOGIT
