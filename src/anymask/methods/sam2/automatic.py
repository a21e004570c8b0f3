"""Everything in a picture: a grid of clicks, and what survives the filters.

The rules and options are those of ``SAM2AutomaticMaskGenerator``. By default stability and boxes
are taken from the small masks the decoder draws, before anything is enlarged; with
``exact=True`` from masks at the picture's size, as the original does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anymask.errors import InputError
from anymask.image import Image
from anymask.nn.sam2 import FOREGROUND, Sam2
from anymask.nn.sam2_decoder import Choice
from anymask.ops import boxes as box_ops
from anymask.ops import rle as rle_ops
from anymask.ops.mask_classification import Canvas
from anymask.ops.point_grid import OVERLAP, crop_boxes, cut_off, layer_grids
from anymask.ops.resize import long_side_size
from anymask.ops.rle import RLE, decode, encode, place
from anymask.ops.small_regions import without_small_regions
from anymask.segments import Segments

BILINEAR = PIL.Image.Resampling.BILINEAR
PIXELS_AT_ONCE = 1 << 24  # of the masks that are enlarged together

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class AutomaticSettings:
    """Options, with the original's names and defaults.

    Attributes:
        points_per_side: of the grid on the whole picture.
        points_per_batch: clicks that are answered together.
        pred_iou_thresh: predicted IoU must exceed it, in 0..1.
        stability_score_thresh: the stability must reach it, in 0..1: the IoU of the mask cut
            ``stability_score_offset`` above and below ``mask_threshold``.
        stability_score_offset: in logits.
        mask_threshold: in logits.
        box_nms_thresh: of two masks of a crop whose boxes overlap more, the worse goes.
        crop_n_layers: layers of crops that are searched besides the whole.
        crop_nms_thresh: likewise for masks of different crops; the smaller crop's stays.
        crop_overlap_ratio: of neighbouring crops, as a share of the short side.
        crop_n_points_downscale_factor: how much coarser the grid is in every further layer.
        min_mask_region_area: holes and specks of fewer pixels are filled and removed, and boxes
            compared again. (SAM 2's code only does it with a compiled extension; SAM's does.)
        use_m2m: every mask is refined once by feeding it back.
        multimask_output: three masks a click instead of one.
        exact: see the head of this file.
        long_side: search the picture scaled to this length, in pixels; None = as it is. (No option
            of the original.)
    """

    points_per_side: int = 32
    points_per_batch: int = 64
    pred_iou_thresh: float = 0.8
    stability_score_thresh: float = 0.95
    stability_score_offset: float = 1.0
    mask_threshold: float = 0.0
    box_nms_thresh: float = 0.7
    crop_n_layers: int = 0
    crop_nms_thresh: float = 0.7
    crop_overlap_ratio: float = OVERLAP
    crop_n_points_downscale_factor: int = 1
    min_mask_region_area: int = 0
    use_m2m: bool = False
    multimask_output: bool = True
    exact: bool = False
    long_side: int | None = None


OSM_SETTINGS = AutomaticSettings(
    pred_iou_thresh=0.95,
    stability_score_thresh=0.95,
    min_mask_region_area=800,
    long_side=1120,
)
"""What OSM's demonstration asks of SAM ViT-H (OSM, section 4.3; its specification 4.4)."""


@dataclass(frozen=True)
class Clicked:
    """Masks for clicks.

    Attributes:
        points: (k,) int64, which click each belongs to.
        logits: (k, h, w).
        iou: (k,) predicted.
    """

    points: Tensor
    logits: Tensor
    iou: Tensor


class Clicker(Protocol):
    """A model that answers clicks."""

    def look(self, image: Image, crop: Box) -> None:
        """Look at a part of a picture; the answers below are about it."""

    def click(self, points: NDArray[np.float64], multimask: bool, min_iou: float) -> Clicked:
        """Masks for (n, 2) x, y in the part's pixels; those surely below ``min_iou`` may miss."""

    def refine(self, points: NDArray[np.float64], logits: Tensor) -> tuple[Tensor, Tensor]:
        """One better mask for each of n clicks and masks: (n, h, w) logits and (n,) IoU."""


@dataclass
class _Kept:
    """Columns of masks that passed, in one crop or in the picture."""

    rles: list[RLE] = field(default_factory=list)
    boxes: list[NDArray[np.float64]] = field(default_factory=list)  # inclusive maxima
    iou: list[float] = field(default_factory=list)
    stability: list[float] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)
    crops: list[Box] = field(default_factory=list)

    def rows(self, rows: NDArray[np.intp]) -> _Kept:
        return _Kept(*([column[int(k)] for k in rows] for column in vars(self).values()))

    def extend(self, other: _Kept) -> None:
        for name, column in vars(self).items():
            column.extend(getattr(other, name))


def masks_of(image: Image, clicker: Clicker, settings: AutomaticSettings) -> _Kept:
    """All masks of a picture, in the original's order."""
    found = _Kept()
    grids = layer_grids(
        settings.points_per_side, settings.crop_n_layers, settings.crop_n_points_downscale_factor
    )
    crops = crop_boxes(image.size, settings.crop_n_layers, settings.crop_overlap_ratio)
    for crop, layer in crops:
        clicker.look(image, crop)
        found.extend(_in_crop(clicker, crop, image.size, grids[layer], settings))
    if len(crops) > 1:
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in found.crops]
        merit = 1 / np.maximum(np.array(areas, float), 1)
        found = found.rows(box_ops.nms(_stacked(found.boxes), merit, settings.crop_nms_thresh))
    if settings.min_mask_region_area > 0:
        found = without_specks(found, settings)
    return found


def _in_crop(
    clicker: Clicker,
    crop: Box,
    size: tuple[int, int],
    grid: NDArray[np.float64],
    settings: AutomaticSettings,
) -> _Kept:
    wide, tall = crop[2] - crop[0], crop[3] - crop[1]
    points = grid * np.array([wide, tall])
    passed: list[Tensor] = []
    found = _Kept()
    for start in range(0, len(points), settings.points_per_batch):
        batch = points[start : start + settings.points_per_batch]
        least = 0.0 if settings.use_m2m else settings.pred_iou_thresh
        clicked = clicker.click(batch, settings.multimask_output, least)
        which, logits, iou = clicked.points.cpu().numpy(), clicked.logits, clicked.iou
        if settings.use_m2m:
            logits, iou = clicker.refine(batch[which], logits)
        good = (iou > settings.pred_iou_thresh) | (settings.pred_iou_thresh <= 0)
        for rows, stability, boxes in _judged(logits, good.nonzero()[:, 0], (tall, wide), settings):
            whole = ~cut_off(boxes, crop, size)
            passed.append(logits[rows[torch.from_numpy(whole).to(rows.device)]].cpu())
            mine = rows.cpu().numpy()[whole]
            found.boxes += list(boxes[whole])
            found.stability += stability[whole].tolist()
            found.iou += iou.cpu().numpy()[mine].tolist()
            found.points += [tuple(p) for p in batch[which[mine]].tolist()]
    if not found.iou:
        return _Kept()
    kept = box_ops.nms(_stacked(found.boxes), np.array(found.iou), settings.box_nms_thresh)
    logits = torch.cat(passed)[torch.from_numpy(kept)]
    canvas = Canvas(logits - settings.mask_threshold, None, (tall, wide))
    offset = np.array([crop[0], crop[1]] * 2, float)
    left, top = crop[:2]
    return _Kept(
        [place(canvas.rle(k)[0], size, top, left) for k in range(len(kept))],
        [found.boxes[k] + offset for k in kept],
        [found.iou[k] for k in kept],
        [found.stability[k] for k in kept],
        [(found.points[k][0] + left, found.points[k][1] + top) for k in kept],
        [crop] * len(kept),
    )


def _judged(
    logits: Tensor, rows: Tensor, size: tuple[int, int], settings: AutomaticSettings
) -> Iterator[tuple[Tensor, NDArray[np.float64], NDArray[np.float64]]]:
    """Stable masks, some at a time: their rows, stability and boxes with inclusive maxima."""
    height, width = size if settings.exact else logits.shape[-2:]
    scale = np.array([size[1] / width, size[0] / height] * 2)
    for part in rows.split(max(1, PIXELS_AT_ONCE // (height * width))):
        if not len(part):
            continue
        masks = logits[part].float()
        if settings.exact:
            masks = F.interpolate(masks[None], size, mode="bilinear", align_corners=False)[0]
        high = settings.mask_threshold + settings.stability_score_offset
        low = settings.mask_threshold - settings.stability_score_offset
        inner, outer = ((masks > limit).flatten(1).sum(1) for limit in (high, low))
        stability = inner / outer  # nothing at all is not a number, and does not pass
        if settings.stability_score_thresh > 0:
            good = stability >= settings.stability_score_thresh
            part, stability, masks = part[good], stability[good], masks[good]
        boxes = _boxes_of(masks > settings.mask_threshold)
        if not settings.exact:  # the last cell's last pixel, not its first
            boxes[:, 2:] += (boxes[:, 2:] > boxes[:, :2]).any(1, keepdims=True)
            boxes = boxes * scale
            boxes[:, 2:] = np.maximum(boxes[:, 2:] - 1, boxes[:, :2])
        yield part, stability.cpu().double().numpy(), boxes


def _boxes_of(masks: Tensor) -> NDArray[np.float64]:
    """(k, 4) x1, y1, x2, y2 with inclusive maxima; zeros for empty masks."""

    def ends(filled: Tensor) -> tuple[Tensor, Tensor]:
        last = filled.shape[1] - 1
        numbers = filled.to(torch.uint8)
        return numbers.argmax(1), last - numbers.flip(1).argmax(1)

    if not len(masks):
        return np.zeros((0, 4))
    left, right = ends(masks.any(1))
    top, bottom = ends(masks.any(2))
    boxes = torch.stack([left, top, right, bottom], 1)
    return (boxes * masks.flatten(1).any(1, keepdim=True)).cpu().double().numpy()


def without_specks(found: _Kept, settings: AutomaticSettings) -> _Kept:
    """Fill small holes, remove small islands, and drop what has become a double."""
    limit = settings.min_mask_region_area
    rles, unchanged = [], []
    for rle in found.rles:
        mask, holes = without_small_regions(decode(rle), limit, "holes")
        mask, islands = without_small_regions(mask, limit, "islands")
        rles.append(encode(mask) if holes or islands else rle)
        unchanged.append(float(not (holes or islands)))
    tight = rle_ops.boxes(rles).astype(float)
    boxes = tight - np.array([0, 0, 1, 1]) * (tight[:, 2:3] > tight[:, :1])
    kept = box_ops.nms(
        boxes, np.array(unchanged), max(settings.box_nms_thresh, settings.crop_nms_thresh)
    )
    cleaned = replace(found, rles=rles, boxes=list(boxes))
    return cleaned.rows(kept)


def _stacked(boxes: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.stack(boxes) if boxes else np.zeros((0, 4))


class Sam2Clicker:
    """Clicks on a SAM 2.

    Args:
        sam: the model.
    """

    def __init__(self, sam: Sam2) -> None:
        self.sam = sam

    @torch.inference_mode()
    def look(self, image: Image, crop: Box) -> None:
        """See :class:`Clicker`."""
        left, top, right, bottom = crop
        part = Image(np.ascontiguousarray(image.pixels[top:bottom, left:right]))
        pixels = self.sam.pixels(part)[None].to(self.sam.device)
        self._features = self.sam.encode(pixels)
        self._scale = np.array([self.sam.side / (right - left), self.sam.side / (bottom - top)])

    @torch.inference_mode()
    def click(self, points: NDArray[np.float64], multimask: bool, min_iou: float) -> Clicked:
        """See :class:`Clicker`."""
        choice: Choice = "three" if multimask else "best"
        found = self.sam.ask(self._features, self._tokens(points), None, choice, min_iou)
        each = found.logits.shape[1]
        return Clicked(
            found.rows.repeat_interleave(each),
            found.logits.flatten(0, 1).float(),
            found.iou.flatten().float(),
        )

    @torch.inference_mode()
    def refine(self, points: NDArray[np.float64], logits: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`Clicker`."""
        found = self.sam.ask(self._features, self._tokens(points), logits[:, None])
        return found.logits[:, 0].float(), found.iou[:, 0].float()

    def _tokens(self, points: NDArray[np.float64]) -> Tensor:
        places = torch.from_numpy(points * self._scale).float()[:, None].to(self.sam.device)
        labels = torch.full(places.shape[:2], FOREGROUND, device=places.device)
        return self.sam.point_tokens(places, labels)


class AutomaticMasks:
    """SAM 2, or another model that answers clicks, as a discoverer: everything in a picture,
    unlabelled.

    Args:
        sam: the model.
        settings: the options; keywords override them.
    """

    def __init__(
        self, sam: Sam2 | Clicker, settings: AutomaticSettings | None = None, **options: Any
    ) -> None:
        self.clicker: Clicker = Sam2Clicker(sam) if isinstance(sam, Sam2) else sam
        self.settings = replace(settings or AutomaticSettings(), **options)

    def __call__(
        self, image: Image, *, min_score: float = 0.0, max_segments: int = 100
    ) -> Segments:
        """Unlabelled segments, best first; a score is the predicted IoU, in 0..1."""
        found = masks_of(self._scaled(image), self.clicker, self.settings)
        rles = [
            rle if tuple(rle["size"]) == image.size else encode(_nearest(decode(rle), image.size))
            for rle in found.rles
        ]
        segments = Segments(image.size, rles, scores=found.iou)
        return segments[segments.scores >= min_score].sorted_by_score()[:max_segments]

    def generate(self, image: Image) -> list[dict[str, Any]]:
        """The records that ``SAM2AutomaticMaskGenerator.generate`` returns, in its order."""
        return records(masks_of(self._scaled(image), self.clicker, self.settings))

    def _scaled(self, image: Image) -> Image:
        side = self.settings.long_side
        if side is None or max(image.size) == side:
            return image
        width, height = long_side_size(image.width, image.height, side)
        return Image(np.asarray(image.to_pil().resize((width, height), BILINEAR)))


def _nearest(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(size, mask.shape, strict=True)
    )
    return mask[rows][:, columns]


def settings_of(text: str) -> AutomaticSettings:
    """Options as one writes them: ``"pred_iou_thresh=0.9,crop_n_layers=1"``, ``"osm"`` for
    ``OSM_SETTINGS``, or both: ``"osm,long_side=640"``.

    Raises:
        InputError: there is no such option, or a value is not of its kind.
    """
    found = AutomaticSettings()
    kinds = {name: type(value) for name, value in asdict(OSM_SETTINGS).items()}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name == "osm" and not value:
            found = OSM_SETTINGS
        elif name not in kinds:
            raise InputError(
                f"no option {name!r} of automatic masks: there are osm, {', '.join(kinds)}"
            )
        else:
            try:
                number = value == "true" if kinds[name] is bool else kinds[name](value)
            except ValueError:
                raise InputError(f"{name} is {value!r}: give a number") from None
            found = replace(found, **{name: number})
    return found


def records(found: _Kept) -> list[dict[str, Any]]:
    """``segmentation`` (COCO RLE), ``area``, ``bbox`` and ``crop_box`` (x, y, width, height, with
    the original's inclusive maxima), ``predicted_iou``, ``stability_score``, ``point_coords``."""
    areas = rle_ops.area(found.rles)
    return [
        {
            "segmentation": found.rles[k],
            "area": int(areas[k]),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "predicted_iou": found.iou[k],
            "point_coords": [list(found.points[k])],
            "stability_score": found.stability[k],
            "crop_box": [c[0], c[1], c[2] - c[0], c[3] - c[1]],
        }
        for k, (c, (x1, y1, x2, y2)) in enumerate(
            zip(found.crops, (box.tolist() for box in found.boxes), strict=True)
        )
    ]
