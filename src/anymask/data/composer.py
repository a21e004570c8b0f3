"""Photographic scenes: objects cut out of photographs, pasted onto others, with exact masks.

Like the drawn scenes they are placed from the front to the back, so every pixel belongs to the
first object that claims it. What the background shows besides keeps its own masks where it has
any; a background is not labelled everywhere, so every composition says where the truth is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.data.augmentation import Sample, large_scale_jitter
from anymask.data.coco import CocoDataset
from anymask.data.formats.atomic import atomic_write
from anymask.data.formats.coco import write_coco_dataset
from anymask.errors import DataError, InputError
from anymask.ops.rle import encode
from anymask.segments import Segments

MARGIN = 2  # pixels that a cut-out keeps from the border of its photograph
MOST_ENLARGED = 1.5


@dataclass(frozen=True)
class Photos:
    """A data set of photographs with masks, as a source of a composer.

    Attributes:
        data: pictures, masks and category names.
        image_ids: the pictures that may be used; None = all.
        cut: its objects may be cut out.
        background: its pictures may lie behind.
    """

    data: CocoDataset
    image_ids: frozenset[int] | None = None
    cut: bool = True
    background: bool = True

    @property
    def ids(self) -> list[int]:
        """The usable pictures, in the order of the file."""
        allowed = self.image_ids
        return [i for i in self.data.image_ids if allowed is None or i in allowed]


@dataclass(frozen=True, eq=False)
class Composition:
    """A composed picture and its truth.

    Attributes:
        image: (S, S, 3) uint8.
        segments: pasted objects, front first, then what is left of the background's own objects;
            labels are category names, ``label_sources`` tell ``"pasted"`` from ``"background"``.
        labelled: (S, S) bool: where everything that is there has a mask.
        background: file name of the photograph behind.
    """

    image: NDArray[np.uint8]
    segments: Segments
    labelled: NDArray[np.bool_]
    background: str


@dataclass
class PhotoComposer:
    """Composes pictures; number i is a pure function of the seed and i.

    Attributes:
        sources: at least one to cut from and one for backgrounds.
        size: side of the square picture in pixels.
        seed: another seed gives other pictures.
        objects: fewest and most objects pasted.
        scale: range of an object's longer side, as a share of the picture's (evenly on a
            logarithmic scale); small cut-outs are enlarged at most 1.5 times.
        turn: largest rotation in degrees.
        least_visible: share of an object that must show.
        min_side: cut-outs are at least so long, in pixels of their photograph.

    Raises:
        InputError: a range is empty or the size is too small.
        DataError: no object can be cut, or there is no background.
    """

    sources: Sequence[Photos]
    size: int = 256
    seed: int = 0
    objects: tuple[int, int] = (2, 7)
    scale: tuple[float, float] = (0.12, 0.6)
    turn: float = 12.0
    least_visible: float = 0.45
    min_side: int = 24
    _cuts: list[tuple[int, int, int]] = field(init=False, repr=False)
    _backgrounds: list[tuple[int, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.size < 32:
            raise InputError(f"pictures have a side of at least 32 pixels, not {self.size}.")
        if not 0 <= self.objects[0] <= self.objects[1]:
            raise InputError(f"objects is (fewest, most), not {self.objects}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"scale is (smallest, largest) above 0, not {self.scale}.")
        self._cuts = [
            (number, image_id, row)
            for number, source in enumerate(self.sources)
            if source.cut
            for image_id in source.ids
            for row in self._cuttable(source.data, image_id)
        ]
        self._backgrounds = [
            (number, image_id)
            for number, source in enumerate(self.sources)
            if source.background
            for image_id in source.ids
        ]
        if self.objects[1] and not self._cuts:
            raise DataError(
                f"no object can be cut out: none is {self.min_side} pixels long and away from "
                "the border of its photograph. Give other photographs or a smaller min_side."
            )
        if not self._backgrounds:
            raise DataError("there is no photograph for the background: mark one source as such.")

    def _cuttable(self, data: CocoDataset, image_id: int) -> list[int]:
        """Rows of whole objects of a useful size."""
        record = data.image_record(image_id)
        found = data.annotations_of(image_id)
        rows = []
        for row, (x0, y0, x1, y1) in enumerate(found.boxes.tolist()):
            whole = (
                x0 >= MARGIN
                and y0 >= MARGIN
                and x1 <= record["width"] - MARGIN
                and y1 <= record["height"] - MARGIN
            )
            large = max(x1 - x0, y1 - y0) >= self.min_side and min(x1 - x0, y1 - y0) >= 8
            if whole and large and not found.crowd[row]:
                rows.append(row)
        return rows

    def compose(self, index: int) -> Composition:
        """Picture number ``index``, 0, 1, ..."""
        rng = np.random.default_rng((self.seed, index))
        image, behind, name = self._background(rng)
        taken = np.zeros((self.size, self.size), bool)
        weight = np.zeros((self.size, self.size, 1), np.float32)  # of all that is pasted so far
        pasted = np.zeros((self.size, self.size, 3), np.float32)
        masks: list[NDArray[np.bool_]] = []
        labels: list[str | None] = []
        wanted = int(rng.integers(self.objects[0], self.objects[1] + 1)) if self._cuts else 0
        for _ in range(4 * wanted):
            if len(masks) == wanted:
                break
            cut, mask, label = self._cutout(rng)
            pixels, alpha, area = self._onto_canvas(cut, mask, rng)
            whole = alpha >= 0.5
            shown = whole & ~taken
            if shown.sum() < max(16, self.least_visible * area):
                continue
            # Front to back: what lies behind shines through only where the front is not solid.
            share = alpha[..., None] * (1 - weight)
            pasted += share * pixels
            weight += share
            taken |= whole
            masks.append(shown)
            labels.append(label)
        image = np.rint(pasted + (1 - weight) * image).astype(np.uint8)
        left = behind.masks & ~taken
        areas = left.sum((1, 2))
        kept = areas >= np.maximum(16, 0.2 * behind.masks.sum((1, 2)))
        names = [self.names[k] for k in behind.labels[kept].tolist()]
        everything = [*masks, *left[kept]]
        segments = Segments(
            (self.size, self.size),
            [encode(mask) for mask in everything],
            labels=[*labels, *names],
            label_sources=["pasted"] * len(masks) + ["background"] * int(kept.sum()),
        )
        return Composition(image, segments, behind.labelled | taken, name)

    # ------------------------------------------------------------------------------- pieces

    @cached_property
    def names(self) -> list[str]:
        """All category names of the sources, in alphabetical order."""
        return sorted({name for source in self.sources for name in source.data.names.values()})

    def _background(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], Sample, str]:
        number, image_id = self._backgrounds[int(rng.integers(len(self._backgrounds)))]
        data = self.sources[number].data
        pixels, found = _read(data, image_id)
        height, width = pixels.shape[:2]
        masks = found.masks
        index = {name: k for k, name in enumerate(self.names)}
        labels = np.array([index[str(label)] for label in found.labels], np.int64)
        sample = Sample(pixels, masks, labels, np.asarray(masks.any(0)))
        # So large that the picture covers the canvas, cropped at random.
        fill = max(height, width) / min(height, width) * 1.01
        sample = large_scale_jitter(sample, self.size, rng, (fill, 1.3 * fill))
        kept = sample.masks.any((1, 2))
        sample = Sample(sample.image, sample.masks[kept], sample.labels[kept], sample.labelled)
        name = str(data.image_record(image_id).get("file_name", image_id))
        return sample.image, sample, name

    def _cutout(
        self, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str | None]:
        """Pixels (h, w, 3) and mask (h, w) 0 or 255 of an object, with its label."""
        number, image_id, row = self._cuts[int(rng.integers(len(self._cuts)))]
        pixels, found = _read(self.sources[number].data, image_id)
        x0, y0, x1, y1 = (int(edge) for edge in found.boxes[row].tolist())
        mask = found[row : row + 1].masks[0, y0:y1, x0:x1]
        return pixels[y0:y1, x0:x1], mask.astype(np.uint8) * 255, found.labels[row]

    def _onto_canvas(
        self,
        pixels: NDArray[np.uint8],
        mask: NDArray[np.uint8],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
        """Scale, turn, mirror and light an object and lay it on an empty canvas.

        Returns:
            Colours (S, S, 3), coverage (S, S) in 0..1, and the pixels of the whole object, those
            beyond the canvas included.
        """
        low, high = np.log(self.scale)
        side = float(np.exp(rng.uniform(low, high))) * self.size
        factor = min(side / max(mask.shape), MOST_ENLARGED)
        height, width = (max(2, round(length * factor)) for length in mask.shape)
        layer = PIL.Image.fromarray(np.dstack([pixels, mask]))
        # Pillow weighs colours by coverage, so no foreign background bleeds into the outline.
        layer = layer.resize((width, height), PIL.Image.Resampling.BILINEAR)
        if self.turn:
            angle = float(rng.uniform(-self.turn, self.turn))
            layer = layer.rotate(angle, PIL.Image.Resampling.BILINEAR, expand=True)
        if rng.random() < 0.5:
            layer = layer.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
        # The centre lies inside of the canvas.
        x = int(rng.integers(self.size)) - layer.width // 2
        y = int(rng.integers(self.size)) - layer.height // 2
        area = int((np.asarray(layer)[..., 3] >= 128).sum())
        canvas = PIL.Image.new("RGBA", (self.size, self.size))
        canvas.paste(layer, (x, y))
        values = np.asarray(canvas).astype(np.float32)
        light = rng.uniform(0.8, 1.2) * rng.uniform(0.94, 1.06, 3)
        colors = np.minimum(values[..., :3] * light.astype(np.float32), np.float32(255))
        return colors, values[..., 3] / np.float32(255), area


@lru_cache(maxsize=512)
def _read(data: CocoDataset, image_id: int) -> tuple[NDArray[np.uint8], Segments]:
    return data.read_image(image_id).pixels, data.annotations_of(image_id, crowd=False)


def write_compositions(
    composer: PhotoComposer,
    folder: Path,
    count: int,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write ``images/`` and ``instances.json``.

    Pictures that are there already are kept; the JSON file appears at the end. Its image records
    tell the photograph behind and, as ``labelled``, the share of the picture in which everything
    has a mask.

    Args:
        composer: what to write.
        folder: made if need be.
        count: how many pictures.
        progress: called with the number of finished pictures.

    Raises:
        InputError: count is below 1.
        OSError: a file cannot be written.
    """
    if count < 1:
        raise InputError(f"at least one picture, not {count}.")

    def pictures() -> Iterator[tuple[dict[str, object], Segments]]:
        for index in range(count):
            made = composer.compose(index)
            path = folder / "images" / f"{index:06}.png"
            if not path.is_file():
                with atomic_write(path) as stream:
                    PIL.Image.fromarray(made.image).save(stream, format="PNG", compress_level=1)
            record = {
                "file_name": path.name,
                "background": made.background,
                "labelled": round(float(made.labelled.mean()), 4),
            }
            yield record, made.segments
            if progress is not None:
                progress(index + 1)

    ids = {name: number for number, name in enumerate(composer.names, 1)}
    write_coco_dataset(folder / "instances.json", pictures(), category_ids=ids)
