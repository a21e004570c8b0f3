"""Training samples with phrases, each a pure function of its number; no augmentation, as in
OpenWorldSAM (specification 3.1 and 3.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from anymask.data.phrases import PhraseData, PhraseTruth
from anymask.image import read_image
from anymask.ops.rle import decode
from anymask.training.dense_samples import DenseSource

SUFFIXES = ("-other", "-merged", "-stuff")  # removed from COCO's panoptic names, in this order


def clean_name(name: str) -> str:
    """A class name as the released code prompts it: ``building-other-merged`` -> ``building``."""
    for suffix in SUFFIXES:
        name = name.replace(suffix, "")
    return name.strip()


@dataclass
class CategoryPhrases(Dataset[dict[str, Any]]):
    """Class names of a picture as its phrases.

    Attributes:
        source: the pictures.
        names: of the labels.
        count: length of the run.
        seed: of the run.
        most: phrases a picture; from more, so many are drawn.
        negatives: names besides that mean nothing in the picture, so that the model learns to say
            so (the paper has none).
    """

    source: DenseSource
    names: Sequence[str]
    count: int
    seed: int = 0
    most: int = 6
    negatives: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (H, W, 3) uint8, ``texts`` P strings, ``instances`` P x (G, H, W) bool."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        pixels, masks, labels = self.source.load(int(rng.integers(len(self.source))))
        seen = np.array([bool(mask.any()) for mask in masks], bool)
        masks, labels = masks[seen], labels[seen]
        present = np.unique(labels)
        chosen = np.sort(rng.permutation(present)[: self.most])
        texts = [clean_name(self.names[k]) for k in chosen]
        instances = [torch.from_numpy(masks[labels == k]) for k in chosen]
        absent = np.setdiff1d(np.arange(len(self.names)), present)
        for k in np.sort(rng.permutation(absent)[: self.negatives]):
            texts.append(clean_name(self.names[k]))
            instances.append(torch.zeros(0, *pixels.shape[:2], dtype=torch.bool))
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels)),
            "texts": texts,
            "instances": instances,
        }


@dataclass
class ReferringPhrases(Dataset[dict[str, Any]]):
    """All referred things of a picture, each by one of its sentences, drawn anew at every visit.

    Attributes:
        data: phrases; read with ``sentences="all"``.
        count: length of the run.
        seed: of the run.
    """

    data: PhraseData
    count: int
    seed: int = 0

    def __len__(self) -> int:
        return self.count

    @cached_property
    def pictures(self) -> list[tuple[int, list[PhraseTruth]]]:
        """Pictures and their phrases."""
        return list(self.data.by_picture())

    def __getitem__(self, index: int) -> dict[str, Any]:
        """As of :class:`CategoryPhrases`."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        image_id, phrases = self.pictures[int(rng.integers(len(self.pictures)))]
        by_thing: dict[int, list[PhraseTruth]] = {}
        for phrase in phrases:
            by_thing.setdefault(phrase.thing or -phrase.id, []).append(phrase)
        said = [mine[int(rng.integers(len(mine)))] for mine in by_thing.values()]
        height, width = self.data.sizes[image_id]
        return {
            "image": torch.from_numpy(read_image(self.data.files[image_id]).pixels.copy()),
            "texts": [phrase.text for phrase in said],
            "instances": [
                torch.from_numpy(
                    np.stack([decode(rle) for rle in phrase.masks])
                    if phrase.masks
                    else np.zeros((0, height, width), bool)
                )
                for phrase in said
            ],
        }
