"""Phrases with their masks, from scenes: what a joint encoder and OpenWorldSAM learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from torch.utils.data import Dataset

from anymask.data.scenes import Scene, make_scene
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.language import EXTREMES, RELATIONS, phrases_of
from anymask.data.scenes.palette import COLORS, PATTERNS
from anymask.nn.text_tokens import train_tokenizer
from anymask.training.scene_descriptions import WORDS, weight_of

NAMES = tuple(WORDS)  # things first, then stuff
CONTEXT = 32  # tokens of the longest phrase
VOCABULARY = 1024  # tokens altogether


@dataclass
class ScenePhrases(Dataset[dict[str, Any]]):
    """One scene and what is said of it a sample.

    Attributes:
        count: length of the run in scenes.
        size: side in pixels.
        seed: of the world.
        phrases: a scene, at most; some mean nothing there. 0 = only ``word_cells``.
        split: ``"val"`` speaks of everything, ``"train"`` of known things only.
        grid: side of ``word_cells``; 0 = leave it out.
        stuff: also ask for stuff by name.
    """

    count: int
    size: int
    seed: int
    phrases: int = 5
    split: str = "val"
    grid: int = 0
    stuff: bool = True

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (S, S, 3) uint8, ``texts`` P strings, ``kinds`` P strings, ``masks`` (P, S, S)
        bool union of what each means, ``instances`` P x (G, S, S) bool; with a grid
        ``word_cells`` (W, grid^2) float."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, self.split)  # type: ignore[arg-type]
        rng = np.random.default_rng((self.seed, index))
        ground = scene.stuff()
        asked: list[tuple[str, str, NDArray[np.bool_]]] = [
            (p.text, p.kind, _stack([scene.mask(k) for k in p.objects], self.size))
            for p in (phrases_of(scene, self.phrases) if self.phrases else ())
        ]
        if ground and self.stuff and self.phrases:
            name = list(ground)[int(rng.integers(len(ground)))]
            words = WORDS[name]
            text = words[int(rng.integers(len(words)))] if rng.random() < 0.3 else name
            asked = [*asked[: self.phrases - 1], (text, "stuff", ground[name][None])]
        sample = {
            "image": torch.from_numpy(np.ascontiguousarray(scene.image)),
            "texts": [text for text, *_ in asked],
            "kinds": [kind for _, kind, _ in asked],
            "instances": [torch.from_numpy(masks) for *_, masks in asked],
            "masks": torch.from_numpy(
                _stack([np.asarray(masks.any(0)) for *_, masks in asked], self.size)
            ),
        }
        if self.grid:
            sample["word_cells"] = word_cells(scene, self.grid)
        return sample


def word_cells(scene: Scene, grid: int) -> torch.Tensor:
    """(W, grid^2): the share of every cell that each of ``NAMES`` is true of."""
    cells = torch.zeros(len(NAMES), grid * grid)
    shown = [(o.thing.name, scene.mask(k)) for k, o in enumerate(scene.objects)]
    for name, mask in [*shown, *scene.stuff().items()]:
        share = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None, None].float(), grid)
        cells[NAMES.index(name)] += share.flatten()
    return cells


def word_weights() -> torch.Tensor:
    """(W,) how much each of ``NAMES`` counts: rare ones more."""
    return torch.tensor([weight_of(name) for name in NAMES])


def phrase_tokenizer() -> Any:
    """The tokenizer that learnt from everything phrases are made of; the same every time."""
    nouns = [word for words in WORDS.values() for word in words]
    nouns += [thing.plural for thing in THINGS] + [thing.kind for thing in THINGS]
    texts = [f"the {place} {noun}" for place in (*RELATIONS, *EXTREMES) for noun in nouns]
    texts += [f"{lead} {noun}" for lead in (*COLORS, *PATTERNS, "all") for noun in nouns]
    return train_tokenizer(texts, VOCABULARY, CONTEXT)


def _stack(masks: list[NDArray[np.bool_]], size: int) -> NDArray[np.bool_]:
    return np.stack(masks) if masks else np.zeros((0, size, size), bool)
