"""Training samples with a class for every pixel, each a pure function of its number."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from anymask.data.augmentation import Sample, distort_color, large_scale_jitter
from anymask.data.dense import DenseDataset, panoptic_ids
from anymask.errors import DataError
from anymask.image import read_image


class DenseSource(Protocol):
    """Pictures with masks of things and stuff."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
        """Picture (H, W, 3), masks (G, H, W) and labels (G,) of one picture."""
        ...


class PanopticSource:
    """COCO panoptic: a mask for every segment that is no crowd.

    Args:
        annotations: JSON file; its PNGs lie in a folder of the same name beside it.
        images: folder of the pictures.
        rows: category id -> label.
        without: ids of pictures to leave out.
    """

    def __init__(
        self,
        annotations: Path,
        images: Path,
        rows: Mapping[int, int],
        without: Container[int] = (),
    ) -> None:
        try:
            content = json.loads(annotations.read_text(encoding="utf-8"))
            self.records = [
                {"segments_info": r["segments_info"], **r}
                for r in content["annotations"]
                if r["image_id"] not in without
            ]
            self.files = {r["id"]: r["file_name"] for r in content["images"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{annotations} is no panoptic file: {error}") from error
        self.folder, self.images, self.rows = annotations.with_suffix(""), images, dict(rows)

    def __len__(self) -> int:
        return len(self.records)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
        record = self.records[index]
        ids = panoptic_ids(self.folder / record["file_name"])
        pixels = read_image(self.images / self.files[record["image_id"]]).pixels
        kept = [
            s for s in record["segments_info"]
            if not s.get("iscrowd", 0) and s["category_id"] in self.rows
        ]  # fmt: skip
        masks = np.array([ids == s["id"] for s in kept], bool).reshape(-1, *ids.shape)
        return pixels, masks, np.array([self.rows[s["category_id"]] for s in kept], np.int64)


class LabelSource:
    """Any data set with a class for every pixel: a mask for every class that is there."""

    def __init__(self, data: DenseDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def load(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.int64]]:
        picture = self.data.pictures[index]
        labels = self.data.labels(picture)
        present = np.unique(labels[labels >= 0])
        masks = labels[None] == present[:, None, None]
        return read_image(picture.image).pixels, masks, present.astype(np.int64)


@dataclass
class DenseSamples(Dataset[dict[str, Any]]):
    """Augmented crops: large-scale jitter, flip and SSD's colours.

    Attributes:
        source: the pictures.
        count: length of the run.
        size: side of the crops in pixels.
        seed: of the run.
        scale: of the jitter.
        colors: change colours.
    """

    source: DenseSource
    count: int
    size: int
    seed: int = 0
    scale: tuple[float, float] = (0.1, 2.0)
    colors: bool = True
    anchor: str = field(default="corner")

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (S, S, 3) uint8, ``masks`` (G, S, S) uint8, ``labels``, ``seed``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        pixels, masks, labels = self.source.load(int(rng.integers(len(self.source))))
        sample = Sample(pixels, masks, labels, np.ones(pixels.shape[:2], bool))
        sample = large_scale_jitter(sample, self.size, rng, self.scale, anchor=self.anchor)
        if self.colors:
            sample = distort_color(sample, rng)
        return {
            "image": torch.from_numpy(np.array(sample.image)),
            "masks": torch.from_numpy(np.ascontiguousarray(sample.masks)).to(torch.uint8),
            "labels": torch.from_numpy(sample.labels),
            "seed": int(rng.integers(2**31)),
        }
