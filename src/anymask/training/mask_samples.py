"""Training samples for OSM: a picture on its canvas with one of its masks (specification 3.4, 3.6).

Every step has the same number of samples of each data set, half of them with the data set's own
mode and half with any words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from anymask.data.region_sources import RegionSource
from anymask.data.regions import RegionFile
from anymask.data.shards import RegionShards
from anymask.errors import DataError
from anymask.ops.mask_shapes import box as box_of
from anymask.ops.resize import long_side_size
from anymask.ops.rle import decode

SCALES = 0.5, 1.5
MIN_PIXELS = 100  # of a mask on the canvas: more than so many
TRIES = 500


@dataclass
class MaskSamples(Dataset[dict[str, Any]]):
    """A run; sample k is a pure function of k.

    Attributes:
        sources: data sets; each one's ``mode`` is a mode of the model.
        shares: samples of each in a step; at least 2.
        steps: of the run.
        side: S, of the canvas in pixels.
        seed: of everything that is drawn.
        augment: scale, flip and crop; False = the whole picture, perhaps mirrored.
        boxes: share of masks that are replaced by their box, with the box's question, where the
            source lets it.
        templates: questions to draw from.
    """

    sources: Sequence[RegionSource]
    shares: Sequence[int]
    steps: int
    side: int
    seed: int = 0
    augment: bool = True
    boxes: float = 0.0
    templates: int = 19

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.sources) or min(self.shares) < 2:
            raise DataError(
                "every data set needs at least two samples a step, one with its own words and one "
                f"with any: got {list(self.shares)} for {len(self.sources)} data sets"
            )

    @property
    def batch_size(self) -> int:
        """Samples of a step."""
        return sum(self.shares)

    def __len__(self) -> int:
        return self.steps * self.batch_size

    def __getitem__(self, index: int) -> dict[str, Any]:
        """What ``methods.osm.collate.Collate`` takes.

        Raises:
            DataError: a data set has no mask that is large enough, or a line is broken.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        place = index % self.batch_size
        number = 0
        while place >= self.shares[number]:
            place -= self.shares[number]
            number += 1
        source = self.sources[number]
        rng = np.random.default_rng((self.seed, index))
        draw = index // self.batch_size * self.shares[number] + place
        for row in islice(self._rows(source.file, draw, rng), 20):
            found = self._draw(source, row, rng)
            if found is not None:
                break
        else:
            raise DataError(f"{source.file.path}: twenty pictures in a row show no large mask")
        canvas, mask, name = found
        drawn = source.boxes == "drawn" and name not in source.stuff
        as_box = (bool(rng.random() < self.boxes) and drawn) or source.boxes == "always"
        return {
            "canvas": torch.from_numpy(canvas),
            "mask": torch.from_numpy(box_of(mask) if as_box else mask),
            "name": name.lower().strip(),
            "mode": source.mode or source.name,
            "agnostic": place >= self.shares[number] // 2,
            "dataset": number,
            "template": int(rng.integers(self.templates)),
            "box": as_box,
        }

    def _rows(
        self, file: RegionFile | RegionShards, draw: int, rng: np.random.Generator
    ) -> Iterator[int]:
        """Pictures to try. Lines are drawn freely; shards are gone through one group after the
        other, and what shows nothing there is replaced by a neighbour."""
        if isinstance(file, RegionFile):
            yield from iter(lambda: int(rng.integers(len(file))), -1)
            return
        row = file.row_of(draw, self.seed)
        yield row
        beside = file.beside(row)
        yield from iter(lambda: int(rng.integers(beside.start, beside.stop)), -1)

    def _draw(
        self, source: RegionSource, row: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], str] | None:
        record = source.file[row]
        image = source.file.picture_of(record)
        if not record.names:
            return None
        width, height = self._size(image.width, image.height, rng)
        mirrored = bool(rng.random() < 0.5)
        picture = _scaled(image.pixels, width, height, mirrored, PIL.Image.Resampling.BICUBIC)
        # What is seen of each mask is only looked at when its turn comes.
        tries = TRIES if self.augment else len(record.names)
        order = rng.permutation(len(record.names))
        for attempt in range(tries):
            top = int(rng.integers(max(0, height - self.side) + 1))
            left = int(rng.integers(max(0, width - self.side) + 1))
            k = int(order[attempt % len(order)])
            mask = _scaled(
                decode(record.rles[k]).astype(np.uint8), width, height, mirrored,
                PIL.Image.Resampling.NEAREST,
            )  # fmt: skip
            shown = _on_canvas(mask > 0, top, left, self.side)
            if int(shown.sum()) > MIN_PIXELS:
                return _on_canvas(picture, top, left, self.side), shown, record.names[k]
        return None

    def _size(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int]:
        """(width, height) before the crop."""
        side = self.side
        if self.augment:
            if min(width, height) >= self.side:
                return width, height  # large pictures keep their size, unlike in tests
            side = int(rng.uniform(*SCALES) * self.side)
        return long_side_size(width, height, side)


def _scaled(
    values: NDArray[Any], width: int, height: int, mirrored: bool, how: PIL.Image.Resampling
) -> NDArray[Any]:
    found = np.array(PIL.Image.fromarray(values).resize((width, height), how))
    return found[:, ::-1] if mirrored else found


def _on_canvas(values: NDArray[Any], top: int, left: int, side: int) -> NDArray[Any]:
    part = values[top : top + side, left : left + side]
    canvas = np.zeros((side, side, *values.shape[2:]), values.dtype)
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas
