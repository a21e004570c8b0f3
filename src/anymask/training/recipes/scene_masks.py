"""Masks of scenes as OSM learns from them: three data sets that call the same things by clashing
names, as data sets of photographs do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from anymask.data.scenes import make_scene
from anymask.data.scenes.categories import THINGS
from anymask.image import Image
from anymask.methods.osm.canvas import mask_canvas, picture_canvas
from anymask.methods.osm.templates import TEMPLATES
from anymask.ops.mask_shapes import box as box_of
from anymask.training.scene_descriptions import WORDS

LEAST = 20  # pixels of a mask on the canvas
_KINDS = {thing.name: thing.kind for thing in THINGS}


def _another(name: str) -> str:
    return WORDS[name][1] if len(WORDS[name]) > 1 else name


SETS: dict[str, Callable[[str], str]] = {
    "names": lambda name: name,
    "others": _another,  # the first synonym, where there is one
    "kinds": lambda name: _KINDS.get(name, name),  # the wider word; stuff has none
}


def names_of(data_set: str) -> list[str]:
    """All names that a data set has, once each."""
    return list(dict.fromkeys(SETS[data_set](name) for name in WORDS))


@dataclass
class SceneMasks(Dataset[list[dict[str, Any]]]):
    """One scene with several of its masks a sample; scene k belongs to data set k modulo their
    number.

    Attributes:
        count: length of the run in scenes.
        size: side of a scene in pixels.
        canvas: of the model, in pixels.
        seed: of the world and of what is drawn.
        sets: names of data sets.
        masks: of a scene.
        boxes: share of masks shown as boxes.
        split: ``"train"``: known things and stuff only; ``"val"``: everything.
        agnostic: share of masks that are asked for with any words.
    """

    count: int
    size: int
    canvas: int
    seed: int
    sets: Sequence[str] = tuple(SETS)
    masks: int = 8
    boxes: float = 0.0
    split: str = "train"
    agnostic: float = 0.5

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[dict[str, Any]]:
        """What ``methods.osm.collate.Collate`` takes, a mask each; they share one canvas."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, self.split)  # type: ignore[arg-type]
        rng = np.random.default_rng((self.seed, index))
        number = index % len(self.sets)
        called = SETS[self.sets[number]]
        named = [
            (thing.thing.name, scene.mask(k))
            for k, thing in enumerate(scene.objects)
            if self.split == "val" or thing.thing.group == "known"
        ]
        named += list(scene.stuff().items())
        small = mask_canvas([mask for _, mask in named], self.canvas)
        rows = [k for k in range(len(named)) if small[k].sum() >= LEAST]
        if not rows:
            raise ValueError(f"scene {index} of world {self.seed} shows nothing large enough")
        canvas = torch.from_numpy(picture_canvas(Image(scene.image), self.canvas))
        samples = []
        for place in range(self.masks):
            row = rows[int(rng.integers(len(rows)))]
            as_box = bool(rng.random() < self.boxes)
            samples.append(
                {
                    "canvas": canvas,
                    "mask": torch.from_numpy(box_of(small[row]) if as_box else small[row]),
                    "name": called(named[row][0]),
                    "mode": self.sets[number],
                    "agnostic": place < round(self.agnostic * self.masks),
                    "dataset": number,
                    "template": int(rng.integers(len(TEMPLATES))),
                    "box": as_box,
                }
            )
        return samples


@dataclass(frozen=True)
class SceneMaskCollate:
    """Scenes -> keyword arguments of :class:`~anymask.methods.osm.model.OSMModel`.

    Attributes:
        collate: of single masks.
    """

    collate: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]

    def __call__(self, samples: Sequence[list[dict[str, Any]]]) -> dict[str, Any]:
        """All masks of all scenes; each scene's canvas once."""
        return self.collate([mask for scene in samples for mask in scene])
