"""Training samples drawn from several sources, each a pure function of its number.

Sample i of a run is the same picture with the same augmentation whichever process draws it and
however often a run was interrupted: that is what makes resuming in the middle exact.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from anymask.data.augmentation import (
    Sample,
    color_jitter,
    copy_paste,
    drop_small,
    large_scale_jitter,
)
from anymask.data.coco import CocoDataset
from anymask.image import read_image
from anymask.segments import Segments


@dataclass(frozen=True)
class Source:
    """One data set of a mixture.

    Attributes:
        annotations: COCO-style instances file.
        images: folder that its ``file_name`` entries are relative to.
        weight: share of the samples drawn from it.
        exhaustive: everything in its pictures is labelled (a partition of the picture). Otherwise
            only the labelled masks are known, and the rest is not a negative.
        image_ids: the pictures to train on; None = all.
        donor: its objects may be pasted onto other pictures.
        rows: category id -> label; None = every object has the label 0. Objects of other
            categories are left out, and of the lists of negative and not-exhaustive categories as
            well.
        named_only: category id -> label of categories whose objects are left out, but of which it
            is said that the picture shows them (image-level labels).
        repeat_threshold: pictures with rare categories are drawn more often (repeat-factor
            sampling, Gupta et al. 2019): a category that fewer than this share of the pictures
            show counts as sqrt(threshold / share) times as frequent; 0 = all pictures alike.
    """

    annotations: Path
    images: Path
    weight: float = 1.0
    exhaustive: bool = False
    image_ids: frozenset[int] | None = None
    donor: bool = False
    rows: Mapping[int, int] | None = None
    named_only: Mapping[int, int] = field(default_factory=dict)
    repeat_threshold: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A part of a run: so many samples at this picture size (a multiple of 32)."""

    samples: int
    size: int


@dataclass(frozen=True)
class Augmentation:
    """How a picture becomes a training sample.

    Attributes:
        scale: range of the large-scale jitter, relative to the canvas.
        anchor: where a smaller picture lies on the canvas, ``"corner"`` or ``"anywhere"``.
        color: strength of the colour jitter; 0 switches it off.
        copy_paste: probability of pasting objects of a donor source.
        min_area: masks with fewer pixels after augmentation are dropped.
    """

    scale: tuple[float, float] = (0.1, 2.0)
    anchor: str = "corner"
    color: float = 0.0
    copy_paste: float = 0.0
    min_area: int = 1


@dataclass
class Mixture(Dataset[dict[str, Any]]):
    """A map-style data set whose length is the run's length.

    Attributes:
        sources: where pictures come from.
        phases: sizes, one after the other.
        augmentation: applied to every sample.
        seed: another seed is another run.
    """

    sources: Sequence[Source]
    phases: Sequence[Phase]
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0

    def __post_init__(self) -> None:
        self._data = [CocoDataset.read(s.annotations, s.images) for s in self.sources]
        self._ids = [
            [i for i in data.image_ids if source.image_ids is None or i in source.image_ids]
            for data, source in zip(self._data, self.sources, strict=True)
        ]
        self._repeats = [
            _repeat_factors(data, ids, source.repeat_threshold)
            for data, ids, source in zip(self._data, self._ids, self.sources, strict=True)
        ]
        weights = np.array([s.weight for s in self.sources], float)
        self._share = weights / weights.sum()
        donors = [s.weight if s.donor else 0.0 for s in self.sources]
        self._donors = np.array(donors) / sum(donors) if sum(donors) else None

    def __len__(self) -> int:
        return sum(phase.samples for phase in self.phases)

    def size_of(self, index: int) -> int:
        """Picture size of sample ``index``."""
        for phase in self.phases:
            if index < phase.samples:
                return phase.size
            index -= phase.samples
        raise IndexError(index)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (S, S, 3) uint8, ``masks``, ``labels``, ``labelled``, ``seed`` and lists.

        ``negatives`` and ``not_exhaustive`` are labels, as the first picture's data set states.
        """
        size = self.size_of(index)
        rng = np.random.default_rng((self.seed, index))
        how = self.augmentation
        sample, lists = self._draw(rng, self._share, size)
        if self._donors is not None and rng.random() < how.copy_paste:
            sample = copy_paste(sample, self._draw(rng, self._donors, size)[0], rng)
        if how.color:
            sample = color_jitter(sample, rng, how.color)
        sample = drop_small(sample, how.min_area)
        return {
            "image": torch.from_numpy(np.ascontiguousarray(sample.image)),
            "masks": torch.from_numpy(np.ascontiguousarray(sample.masks)).to(torch.uint8),
            "labels": torch.from_numpy(sample.labels),
            "labelled": torch.from_numpy(np.ascontiguousarray(sample.labelled)),
            "seed": int(rng.integers(2**31)),
            **lists,
        }

    def _draw(
        self, rng: np.random.Generator, share: NDArray[np.float64], size: int
    ) -> tuple[Sample, dict[str, tuple[int, ...]]]:
        which = int(rng.choice(len(share), p=share))
        ids, repeats = self._ids[which], self._repeats[which]
        if repeats is None:
            image_id = ids[int(rng.integers(len(ids)))]
        else:
            image_id = ids[int(np.searchsorted(repeats, rng.random(), side="right"))]
        sample = self._load(which, image_id)
        how = self.augmentation
        moved = large_scale_jitter(sample, size, rng, how.scale, anchor=how.anchor)
        return moved, self._lists(which, image_id)

    def _lists(self, which: int, image_id: int) -> dict[str, tuple[int, ...]]:
        """What the data set says of a picture besides masks, as labels."""
        source, record = self.sources[which], self._data[which].image_record(image_id)
        rows = source.rows or {}
        lists = {
            name: tuple(rows[c] for c in record.get(key, ()) if c in rows)
            for name, key in (
                ("negatives", "neg_category_ids"),
                ("not_exhaustive", "not_exhaustive_category_ids"),
            )
        }
        if source.named_only:
            shown = {r["category_id"] for r in self._data[which].records_of(image_id)}
            lists["image_labels"] = tuple(
                sorted(source.named_only[c] for c in shown if c in source.named_only)
            )
        return lists

    def _load(self, which: int, image_id: int) -> Sample:
        data = self._data[which]
        pixels = _pixels(data.image_path(image_id))
        records = [r for r in data.records_of(image_id) if not r.get("iscrowd")]
        rows = self.sources[which].rows
        if rows is not None:
            records = [r for r in records if r["category_id"] in rows]
        masks = Segments.from_coco(records, pixels.shape[:2]).masks
        labels = [0 if rows is None else rows[r["category_id"]] for r in records]
        if self.sources[which].exhaustive:
            labelled = np.ones(pixels.shape[:2], bool)
        else:
            labelled = np.asarray(masks.any(0))
        return Sample(pixels, masks, np.array(labels, np.int64), labelled)


def _repeat_factors(
    data: CocoDataset, ids: Sequence[int], threshold: float
) -> NDArray[np.float64] | None:
    """Cumulative probabilities of the pictures, or None when all are alike."""
    if not threshold:
        return None
    present = [{r["category_id"] for r in data.records_of(image_id)} for image_id in ids]
    counts = Counter(c for categories in present for c in categories)
    factor = {c: max(1.0, (threshold * len(ids) / n) ** 0.5) for c, n in counts.items()}
    repeats = np.array([max((factor[c] for c in cats), default=1.0) for cats in present])
    return np.asarray(np.cumsum(repeats) / repeats.sum())


@lru_cache(maxsize=4096)
def _pixels(path: Path) -> NDArray[np.uint8]:
    return read_image(path).pixels
