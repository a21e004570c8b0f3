"""How well a small CLIP of the scenes world names crops: zero-shot accuracy by group.

    python benchmarks/clip_scenes.py FOLDER [--scenes 300]

Every thing of held-out scenes is cut out as a picture of its own, and pooled in its place on the
whole scene's feature map; the answer is the nearest of all 72 thing names (14 sentences each).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from anymask.data.scenes import make_scene
from anymask.data.scenes.categories import THINGS
from anymask.methods.ovsnet.configuration import TEMPLATES
from anymask.methods.ovsnet.text import TextEncoder
from anymask.nn.clip_convnext import ClipConvNext
from anymask.training.recipes.clip_scenes import SIZE, scenes_tokenizer
from anymask.training.scene_descriptions import crops_of, shares_of

WORLD = 987_654
NAMES = [thing.name for thing in THINGS]
GROUPS = {thing.name: thing.group for thing in THINGS}


@torch.inference_mode()
def accuracy(clip: ClipConvNext, scenes: int, size: int = SIZE) -> dict[str, float]:
    """``crops/<group>`` and ``in_place/<group>`` -> share of things that are named rightly."""
    clip.eval()
    words = TextEncoder(clip, scenes_tokenizer(clip.config), TEMPLATES).embed(NAMES)
    mean, std = (torch.tensor(v) for v in (clip.config.image_mean, clip.config.image_std))
    right: dict[str, list[bool]] = defaultdict(list)
    for index in range(scenes):
        scene = make_scene(WORLD, index, size, "val")
        if not scene.objects:
            continue
        boxes = torch.tensor([o.box for o in scene.objects], dtype=torch.float32)
        picture = torch.from_numpy(scene.image)
        masks = np.stack([scene.mask(k) for k in range(len(scene.objects))])
        shares = shares_of(torch.from_numpy(masks))
        whole = ((picture.float() - mean) / std).permute(2, 0, 1)[None]
        crops = ((crops_of(picture, boxes).float() - mean) / std).permute(0, 3, 1, 2)
        found = {
            "crops": clip.embed_images(crops),
            "in_place": clip.embed_pooled(shares.flatten(1) @ clip.maps(whole)[-1][0].flatten(1).T),
        }
        for how, embeds in found.items():
            best = (F.normalize(embeds, dim=-1) @ words.T).argmax(-1).tolist()
            for thing, answer in zip(scene.objects, best, strict=True):
                name = thing.thing.name
                right[f"{how}/{GROUPS[name]}"].append(NAMES[answer] == name)
                right[f"{how}/all"].append(NAMES[answer] == name)
    return {name: sum(values) / len(values) for name, values in sorted(right.items())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=300)
    chosen = parser.parse_args()
    for name, value in accuracy(ClipConvNext.from_pretrained(chosen.folder), chosen.scenes).items():
        print(f"{name:16} {100 * value:5.1f} %")


if __name__ == "__main__":
    main()
