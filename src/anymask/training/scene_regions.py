"""Named regions of scenes: what a small InternVL of the scenes world and its WOW-Seg learn from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import Dataset

from anymask.data.scenes import make_scene
from anymask.nn.text_tokens import train_tokenizer
from anymask.ops.mask_shapes import box
from anymask.training.scene_descriptions import TEMPLATES, WORDS

Shown = Literal["boxes", "masks"]
PIECES = 640  # tokens that the tokenizer learns, besides the special ones
SPECIAL = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>")
YES_NO = ("yes", "no", "is this area a", "please answer yes or no")


@dataclass
class SceneRegions(Dataset[dict[str, Any]]):
    """One scene with its named regions a sample.

    Attributes:
        count: length of the run in scenes.
        size: side in pixels.
        seed: of the world.
        split: ``"val"`` names everything, ``"train"`` known things and stuff only.
        shown: ``"masks"``, or ``"boxes"`` around them.
        masks: of a scene at most, drawn when there are more.
    """

    count: int
    size: int
    seed: int
    split: Literal["train", "val"] = "val"
    shown: Shown = "masks"
    masks: int = 30

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (S, S, 3) uint8, ``masks`` (M, S, S) bool, ``names`` M strings."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        scene = make_scene(self.seed, index, self.size, self.split)
        rng = np.random.default_rng((self.seed, index))
        named = [
            (thing.thing.name, scene.mask(k))
            for k, thing in enumerate(scene.objects)
            if self.split == "val" or thing.thing.group == "known"
        ]
        named += list(scene.stuff().items())
        kept = np.arange(len(named))
        if len(kept) > self.masks:
            kept = np.sort(rng.permutation(kept)[: self.masks])
        masks = [named[k][1] for k in kept]
        if self.shown == "boxes":
            masks = [box(mask) for mask in masks]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(scene.image)),
            "masks": torch.from_numpy(
                np.stack(masks) if masks else np.zeros((0, self.size, self.size), bool)
            ),
            "names": [named[k][0] for k in kept],
        }


def names_tokenizer() -> Any:
    """A tokenizer that learnt from the scenes' words, with InternVL's special tokens; the same
    every time."""
    nouns = [word for words in WORDS.values() for word in words]
    texts = [template.replace("{}", noun) for template in TEMPLATES for noun in nouns]
    tokenizer = train_tokenizer([*texts, *YES_NO * 20], PIECES, 512)
    tokenizer.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    return tokenizer
