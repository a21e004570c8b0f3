"""Training samples from the scenes world, each a pure function of its number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from anymask.data.scenes import make_scene
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.palette import STUFF

KNOWN = tuple(thing.name for thing in THINGS if thing.group == "known")
SEEN = tuple(thing.name for thing in THINGS if thing.group == "seen")
STUFF_NAMES = tuple(stuff.name for stuff in STUFF)


@dataclass
class SceneSamples(Dataset[dict[str, Any]]):
    """Training scenes, never the same twice; only known things are labelled.

    Attributes:
        count: length of the run in pictures.
        size: side in pixels.
        seed: of the world.
        class_aware: label k is ``KNOWN[k]``; otherwise every label is 0.
        flip: mirror every other picture.
        image_labels: also say which seen things are there, without masks: label ``len(KNOWN) + k``
            is ``SEEN[k]`` (SegPrompt, section 5.4).
        stuff: also outline the stuff: label ``len(KNOWN) + k`` is ``STUFF_NAMES[k]``.
    """

    count: int
    size: int
    seed: int = 0
    class_aware: bool = False
    flip: bool = True
    image_labels: bool = False
    stuff: bool = False

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (S, S, 3) uint8, ``masks`` (G, S, S), ``labels``, ``labelled``, ``seed``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, "train")
        rows = [k for k, found in enumerate(scene.objects) if found.thing.group == "known"]
        numbers = np.array([k + 1 for k in rows], np.uint8).reshape(-1, 1, 1)
        masks, image = scene.instance_map == numbers, scene.image
        ground = scene.stuff() if self.stuff else {}
        if ground:
            masks = np.concatenate([masks, np.stack(list(ground.values()))])
        if self.flip and (index * 2654435761 >> 7) & 1:  # a fixed coin per sample
            masks, image = masks[..., ::-1], image[:, ::-1]
        classes = [KNOWN.index(scene.objects[k].thing.name) for k in rows]
        classes += [len(KNOWN) + STUFF_NAMES.index(name) for name in ground]
        labels = torch.tensor(
            classes if self.class_aware else [0] * len(classes), dtype=torch.int64
        )
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image)),
            "masks": torch.from_numpy(np.ascontiguousarray(masks)).to(torch.uint8),
            "labels": labels,
            # Closed-world truth, as the paper trains: what has no label is background.
            "labelled": torch.ones(image.shape[:2], dtype=torch.bool),
            "seed": index,
            "image_labels": tuple(
                sorted(
                    {
                        len(KNOWN) + SEEN.index(o.thing.name)
                        for o in scene.objects
                        if o.thing.group == "seen"
                    }
                )
            )
            if self.image_labels
            else (),
        }
