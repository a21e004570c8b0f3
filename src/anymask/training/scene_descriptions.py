"""Regions of scenes with descriptions: what a small CLIP learns from, as crops and in their place.

All words occur, of unseen things too: a CLIP has read the whole internet, and only the segmenter
that is trained on top of it must not know what is unseen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from anymask.data.scenes import Scene, make_scene
from anymask.data.scenes.categories import THINGS, frequency_weights
from anymask.data.scenes.palette import STUFF
from anymask.nn.clip_convnext import ClipConvNextConfig
from anymask.nn.text_tokens import tokenize

STUFF_WINDOWS = 3  # a scene
CROP = 96  # pixels
TEMPLATES = (
    "{}", "a {}", "a photo of a {}.", "This is a photo of a {}", "There is a {} in the scene",
    "a photo of a small {}.", "a photo of a medium {}.", "a photo of a large {}.",
)  # fmt: skip


@dataclass(frozen=True)
class Fact:
    """What is said, or true, of a region; None is not said."""

    name: str
    color: str | None = None
    pattern: str | None = None

    def true_of(self, other: Fact) -> bool:
        """Whether everything that is said here holds there."""
        return (
            self.name == other.name
            and self.color in (None, other.color)
            and self.pattern in (None, other.pattern)
        )


WORDS = {
    **{thing.name: (thing.name, *thing.synonyms) for thing in THINGS},
    **{stuff.name: (stuff.name, *stuff.synonyms) for stuff in STUFF},
}
# Rare things count more, so that all are learnt.
_SHARES = frequency_weights()
_USUAL = float(np.median(list(_SHARES.values())))


def weight_of(name: str) -> float:
    """How much a region counts."""
    return float(np.clip((_SHARES.get(name, _USUAL) / _USUAL) ** -0.5, 0.5, 3.0))


@dataclass
class SceneDescriptions(Dataset[dict[str, Any]]):
    """One scene with its described regions a sample.

    Attributes:
        count: length of the run in scenes.
        size: side in pixels.
        seed: of the world.
        group: scenes of one batch; every other batch is shown as crops instead of whole.
    """

    count: int
    size: int
    seed: int
    group: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``pictures``, ``shares`` (None for crops), ``facts``, ``said``, ``texts``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, "val")
        rng = np.random.default_rng((self.seed, index))
        image = torch.from_numpy(scene.image)
        facts = [Fact(o.thing.name, o.color, o.pattern) for o in scene.objects]
        shares: Tensor | None = None
        if index // self.group % 2:
            windows = stuff_windows(scene, STUFF_WINDOWS, rng)
            boxes = [*(o.box for o in scene.objects), *(box for box, _ in windows)]
            facts += [Fact(name) for _, name in windows]
            pictures = crops_of(image, torch.from_numpy(np.array(boxes, np.float32).reshape(-1, 4)))
        else:
            ground = scene.stuff()
            facts += [Fact(name) for name in ground]
            masks = [*(scene.mask(k) for k in range(len(scene.objects))), *ground.values()]
            shares = shares_of(torch.from_numpy(np.stack(masks)))
            pictures = image[None]
        said = [_part_of(fact, rng) for fact in facts]
        return {
            "pictures": pictures,
            "shares": shares,
            "facts": facts,
            "said": said,
            "texts": [text_of(fact, rng) for fact in said],
        }


def shares_of(masks: Tensor) -> Tensor:
    """How much of each mask lies in each cell of CLIP's last map: (n, H, W) -> (n, H/32, W/32)."""
    cells = F.avg_pool2d(masks[:, None].float(), 32)[:, 0]
    return cells / cells.sum((-2, -1), keepdim=True)


def stuff_windows(
    scene: Scene, count: int, rng: np.random.Generator
) -> list[tuple[NDArray[np.float64], str]]:
    """Squares that show nearly nothing but one stuff, and its name; as many as are found."""
    shown = np.where(scene.instance_map == 0, scene.stuff_map, 255)
    found: list[tuple[NDArray[np.float64], str]] = []
    for _ in range(8 * count):
        side = int(rng.integers(scene.size // 6, scene.size // 3))
        y, x = rng.integers(0, scene.size - side, 2)
        values, counts = np.unique(shown[y : y + side, x : x + side], return_counts=True)
        most = int(values[counts.argmax()])
        if most != 255 and counts.max() >= 0.9 * side * side:
            found.append((np.array([x, y, x + side, y + side], float), STUFF[most].name))
        if len(found) == count:
            break
    return found


def _part_of(fact: Fact, rng: np.random.Generator) -> Fact:
    """A name, often with its colour, sometimes with its pattern."""
    color = fact.color if rng.random() < 0.4 else None
    worn = fact.pattern if fact.pattern not in (None, "plain") and rng.random() < 0.3 else None
    return Fact(fact.name, color, worn)


def text_of(fact: Fact, rng: np.random.Generator) -> str:
    """A fact in words: a synonym now and then, in one of several sentences."""
    words = WORDS[fact.name]
    noun = words[int(rng.integers(len(words)))] if rng.random() < 0.4 else words[0]
    described = " ".join(word for word in (fact.pattern, fact.color, noun) if word)
    return TEMPLATES[int(rng.integers(len(TEMPLATES)))].replace("{}", described)


class DescriptionCollate:
    """Scenes -> keyword arguments of :class:`~anymask.nn.clip_convnext.ClipConvNext`.

    Besides the batch's own texts every name is there as a wrong answer.
    """

    def __init__(self, config: ClipConvNextConfig, tokenizer: Any) -> None:
        self.context = config.context
        self.mean = torch.tensor(config.image_mean)
        self.std = torch.tensor(config.image_std)
        self.tokenizer = tokenizer

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples of :class:`SceneDescriptions`, all as crops or none."""
        said: dict[str, Fact] = {name: Fact(name) for name in WORDS}
        for sample in samples:
            said.update(zip(sample["texts"], sample["said"], strict=True))
        facts = [fact for sample in samples for fact in sample["facts"]]
        true = [[text.true_of(fact) for text in said.values()] for fact in facts]
        pictures = torch.cat([s["pictures"] for s in samples])
        normalised = (pictures.float() - self.mean) / self.std
        whole = samples[0]["shares"] is not None
        return {
            "pixel_values": normalised.permute(0, 3, 1, 2).contiguous(),
            "shares": [s["shares"] for s in samples] if whole else None,
            "tokens": tokenize(self.tokenizer, list(said), self.context),
            "true": torch.tensor(true),
            "weights": torch.tensor([weight_of(fact.name) for fact in facts]),
        }


def crops_of(image: Tensor, boxes: Tensor, margin: float = 0.1) -> Tensor:
    """Boxes as pictures of one size: (S, S, 3) and (n, 4) -> (n, CROP, CROP, 3) uint8."""
    found = []
    height, width = image.shape[:2]
    planes = image.permute(2, 0, 1)[None].float()
    for x1, y1, x2, y2 in boxes.tolist():
        space = margin * max(x2 - x1, y2 - y1)
        left, top = int(max(0, x1 - space)), int(max(0, y1 - space))
        right, bottom = int(min(width, x2 + space + 1)), int(min(height, y2 + space + 1))
        part = planes[:, :, top:bottom, left:right]
        resized = F.interpolate(part, (CROP, CROP), mode="bilinear", antialias=True)
        found.append(resized[0].permute(1, 2, 0).round().to(torch.uint8))
    return torch.stack(found) if found else torch.zeros(0, CROP, CROP, 3, dtype=torch.uint8)
