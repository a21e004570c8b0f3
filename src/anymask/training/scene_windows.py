"""Windows of scenes with the name of what every patch shows: a vision transformer's first lesson.

A box with one name teaches one thing a picture; its patches teach a hundred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from anymask.data.scenes import Scene, make_scene
from anymask.training.scene_phrases import NAMES, word_weights

UNNAMED = -100  # a patch that shows no one thing for the most part


@dataclass
class SceneWindows(Dataset[dict[str, Tensor]]):
    """Squares of one scene a sample, half of them around things.

    Attributes:
        count: length of the run in scenes.
        size: side of the scenes in pixels.
        seed: of the world; everything is named, unseen things too.
        windows: of a scene.
        side: of a window as it is shown, in pixels.
        grid: patches a side.
    """

    count: int
    size: int
    seed: int
    windows: int
    side: int
    grid: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """``pictures`` (windows, 3, side, side) uint8, ``words`` (windows, grid, grid) int64: a
        place in ``NAMES``, or ``UNNAMED``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, "val")
        rng = np.random.default_rng((self.seed, index))
        planes = torch.from_numpy(np.ascontiguousarray(scene.image)).permute(2, 0, 1).float()
        words = torch.from_numpy(words_of_pixels(scene))
        pictures, named = [], []
        for number in range(self.windows):
            y, x, side = _window(scene, rng, around_a_thing=number % 2 == 0)
            part = planes[None, :, y : y + side, x : x + side]
            shown = F.interpolate(part, (self.side, self.side), mode="bilinear", antialias=True)
            pictures.append(shown[0].round().clamp(0, 255).to(torch.uint8))
            named.append(words_of_patches(words[y : y + side, x : x + side], self.grid))
        return {"pictures": torch.stack(pictures), "words": torch.stack(named)}


def words_of_pixels(scene: Scene) -> NDArray[np.int64]:
    """(S, S): the place in ``NAMES`` of what each pixel shows, ``UNNAMED`` where nothing is."""
    words = np.full(scene.instance_map.shape, UNNAMED, np.int64)
    shown = [(thing.thing.name, scene.mask(k)) for k, thing in enumerate(scene.objects)]
    for name, mask in [*scene.stuff().items(), *shown]:
        words[mask] = NAMES.index(name)
    return words


def _window(
    scene: Scene, rng: np.random.Generator, *, around_a_thing: bool
) -> tuple[int, int, int]:
    """Top, left and side of a square inside of the scene."""
    if not around_a_thing or not scene.objects:
        side = int(rng.integers(scene.size // 5, scene.size + 1))
        y, x = rng.integers(0, scene.size - side + 1, 2)
        return int(y), int(x), side
    x1, y1, x2, y2 = scene.objects[int(rng.integers(len(scene.objects)))].box
    longest = max(x2 - x1, y2 - y1, 8)
    side = int(min(scene.size, longest * rng.uniform(1.1, 3.0)))
    middle = np.array([y1 + y2, x1 + x2]) / 2 + rng.uniform(-0.1, 0.1, 2) * longest
    y, x = np.clip(np.round(middle - side / 2), 0, scene.size - side)
    return int(y), int(x), side


def words_of_patches(words: Tensor, grid: int) -> Tensor:
    """(h, w) words of pixels -> (grid, grid): the word of most of each patch."""
    places = words.unique()
    masks = torch.stack([(words == place).float() for place in places])
    shares = F.adaptive_avg_pool2d(masks[None], grid)[0]
    share, which = shares.max(0)
    return torch.where(share > 0.5, places[which], UNNAMED)


class WindowCollate:
    """Samples -> keyword arguments of
    :class:`~anymask.training.word_patches.WordPatches`."""

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean = mean
        self.std = std

    def __call__(self, samples: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Normalised pictures, words, and how much each of all words counts."""
        pictures = torch.cat([sample["pictures"] for sample in samples]).float() / 255
        return {
            "pixel_values": (pictures - self.mean[:, None, None]) / self.std[:, None, None],
            "words": torch.cat([sample["words"] for sample in samples]),
            "weights": word_weights(),
        }
