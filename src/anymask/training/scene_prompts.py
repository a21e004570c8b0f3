"""Clicks and boxes on scenes: what a small SAM 2 learns from.

All things occur, unseen ones too, and nothing has a name here: SAM 2 outlines whatever it is asked
for, and only who asks it in words must not know what is unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from anymask.data.scenes import Scene, make_scene
from anymask.data.scenes.palette import COLORS, PATTERNS
from anymask.training.scene_phrases import NAMES
from anymask.training.scene_windows import UNNAMED

JITTER = 0.1  # of a box's sides, in either direction
CLICKS, EMPTY_BOXES = 0.5, 0.12  # shares of the prompts; the rest are boxes of things
STUFF = 0.25  # of the clicks ask for stuff
COLOR_NAMES = tuple(COLORS)


@dataclass
class ScenePrompts(Dataset[dict[str, Any]]):
    """One scene and its prompts a sample.

    Attributes:
        count: length of the run in scenes.
        size: side in pixels, a multiple of 4.
        seed: of the world.
        prompts: a scene.
        grid: side of ``facts``; 0 = leave them out.
    """

    count: int
    size: int
    seed: int
    prompts: int = 8
    grid: int = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (S, S, 3) uint8, ``points`` (Q, 2, 2), ``labels`` (Q, 2), ``masks``
        (Q, S / 4, S / 4), ``there`` (Q,), ``clicked`` (Q,); with a grid ``facts``, see
        :func:`facts_of_cells`."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, "val")
        rng = np.random.default_rng((self.seed, index))
        things = [scene.mask(k) for k in range(len(scene.objects))]
        ground = list(scene.stuff().values())
        asked = [self._prompt(scene, things, ground, rng) for _ in range(self.prompts)]
        masks = torch.from_numpy(np.stack([mask for *_, mask in asked])).float()
        cells = F.avg_pool2d(masks[:, None], 4)[:, 0]
        facts = {"facts": facts_of_cells(scene, self.grid)} if self.grid else {}
        return facts | {
            "image": torch.from_numpy(np.ascontiguousarray(scene.image)),
            "points": torch.from_numpy(np.stack([p for p, *_ in asked])).float(),
            "labels": torch.tensor([labels for _, labels, _ in asked]),
            "masks": cells,
            "there": masks.flatten(1).any(1).float(),
            "clicked": torch.tensor([labels[1] == -1 for _, labels, _ in asked]),
        }

    def _prompt(
        self,
        scene: Scene,
        things: list[NDArray[np.bool_]],
        ground: list[NDArray[np.bool_]],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float64], tuple[int, int], NDArray[np.bool_]]:
        """Two points, their labels, and the mask that is meant."""
        kind = rng.random()
        if kind < CLICKS or not things:
            stuff = not things or (ground and rng.random() < STUFF)
            pool = ground if stuff and ground else things
            if not pool:
                return self._empty_box(scene, rng)
            mask = pool[int(rng.integers(len(pool)))]
            inside = np.flatnonzero(mask)
            y, x = divmod(int(inside[rng.integers(len(inside))]), self.size)
            return np.array([[x, y], [0, 0]], float), (1, -1), mask
        if kind < CLICKS + EMPTY_BOXES:
            return self._empty_box(scene, rng)
        which = int(rng.integers(len(things)))
        corners = np.asarray(scene.objects[which].box, float).reshape(2, 2)
        sides = np.tile(corners[1] - corners[0], (2, 1))
        corners = corners + rng.uniform(-JITTER, JITTER, (2, 2)) * sides
        return corners.clip(0, self.size - 1), (2, 3), things[which]

    def _empty_box(
        self, scene: Scene, rng: np.random.Generator
    ) -> tuple[NDArray[np.float64], tuple[int, int], NDArray[np.bool_]]:
        """A box with nothing but stuff in it, or nearly."""
        taken = scene.instance_map > 0
        best: NDArray[np.float64] = np.zeros((2, 2))
        least = 2.0
        for _ in range(20):
            sides = rng.uniform(self.size / 12, self.size / 3, 2)
            corner = rng.uniform(0, self.size - sides)
            (x1, y1), (x2, y2) = corner.astype(int), (corner + sides).astype(int)
            share = float(taken[y1:y2, x1:x2].mean())
            if share < least:
                best, least = np.array([corner, corner + sides]), share
            if least == 0:
                break
        return best, (2, 3), np.zeros((self.size, self.size), bool)


def facts_of_cells(scene: Scene, grid: int) -> Tensor:
    """(3, grid, grid) int64: for every cell places in ``NAMES``, ``COLORS`` and ``PATTERNS`` of
    the thing that shows most there, ``UNNAMED`` where that is less than a quarter. Stuff has a name
    only, where it is more than half."""
    facts = torch.full((3, grid, grid), UNNAMED)
    ground = scene.stuff()
    layers = [np.stack(list(ground.values()))] if ground else []
    values = [(NAMES.index(name), UNNAMED, UNNAMED) for name in ground]
    if scene.objects:
        layers.append(np.stack([scene.mask(k) for k in range(len(scene.objects))]))
        values += [
            (NAMES.index(o.thing.name), COLOR_NAMES.index(o.color), PATTERNS.index(o.pattern))
            for o in scene.objects
        ]
    shares = F.adaptive_avg_pool2d(torch.from_numpy(np.concatenate(layers)).float()[None], grid)[0]
    things = torch.arange(len(shares)) >= len(ground)
    # A thing counts for twice what it shows: small ones rarely fill half of a cell.
    share, which = (shares * torch.where(things, 2.0, 1.0)[:, None, None]).max(0)
    table = torch.tensor(values)
    return torch.where(share > 0.5, table[which].permute(2, 0, 1), facts)
