"""What ``openworldsam-scenes`` and its two frozen parts can do, on scenes never trained on.

    python benchmarks/openworldsam_scenes.py [MODEL] [--scenes 200] [--two-stage]

Clicks and boxes (SAM 2 alone): mean IoU of the answer with what is meant. Phrases: presence, cgF1,
cIoU and gIoU by kind of phrase, and by the group of the things that are meant: the adapter was
trained on phrases about known things only, its two frozen parts on everything.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from typing import Any

import numpy as np
import torch

from anymask.checkpoints import DEFAULT_FINDER, load_finder
from anymask.data.scenes import make_scene
from anymask.data.scenes.language import phrases_of
from anymask.image import Image
from anymask.metrics.concept import ConceptMeter
from anymask.metrics.referring import ReferringMeter
from anymask.ops.rle import area, encode, intersect, iou, merge

SEED = 77_000


def clicks(prompter: Any, scenes: int, size: int) -> dict[str, float]:
    """Mean IoU: a click in the middle of a thing (one mask, best of three), its box, and the one
    mask after a second click where it was wrong."""
    found: dict[str, list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for index in range(scenes):
        scene = make_scene(SEED, index, size, "val")
        image = Image(np.ascontiguousarray(scene.image))
        for k, thing in enumerate(scene.objects):
            mask = scene.mask(k)
            inside = np.argwhere(mask)
            middle = inside[np.abs(inside - inside.mean(0)).sum(1).argmin()][::-1]
            truth = [encode(mask)]
            one = prompter(image, points=[[middle]])
            three = prompter(image, points=[[middle]], multimask=True)
            box = prompter(image, boxes=[thing.box])
            found["click"].append(float(iou(one.rles, truth)[0, 0]))
            found["click, best of three"].append(float(iou(three.rles, truth).max()))
            found["box"].append(float(iou(box.rles, truth)[0, 0]))
            wrong = np.argwhere(one.masks[0] != mask)
            if len(wrong):
                y, x = wrong[rng.integers(len(wrong))]
                again = prompter(
                    image, points=[[middle, (x, y)]], point_labels=[[1, int(mask[y, x])]], masks=one
                )
                found["click, corrected once"].append(float(iou(again.rles, truth)[0, 0]))
            else:
                found["click, corrected once"].append(1.0)
    return {name: float(np.mean(values)) for name, values in found.items()}


def phrases(finder: Any, scenes: int, size: int, two_stage: bool) -> dict[str, dict[str, float]]:
    """Metrics by kind of phrase and by group."""
    concept: dict[str, ConceptMeter] = defaultdict(ConceptMeter)
    referring: dict[str, ReferringMeter] = defaultdict(ReferringMeter)
    for index in range(scenes):
        scene = make_scene(SEED, index, size, "val")
        asked = phrases_of(scene, 8)
        if not asked:
            continue
        image = Image(np.ascontiguousarray(scene.image))
        found = finder(image, [p.text for p in asked], two_stage=two_stage)
        for phrase in asked:
            mine = [
                r for r, label in zip(found.rles, found.labels, strict=True) if label == phrase.text
            ]
            true = [encode(scene.mask(k)) for k in phrase.objects]
            table = (
                np.asarray(iou(mine, true)) if mine and true else np.zeros((len(mine), len(true)))
            )
            groups = {scene.objects[k].thing.group for k in phrase.objects}
            names = {"all", phrase.kind, *([f"means {groups.pop()}"] if len(groups) == 1 else [])}
            both = (merge(mine) if mine else None, merge(true) if true else None)
            said, meant = both
            shared = int(area([intersect([said, meant])])[0]) if said and meant else 0
            total = sum(int(area([x])[0]) for x in both if x) - shared
            for name in names:
                concept[name].add(table)
                referring[name].add_counts(shared, total)
    return {
        name: {**concept[name].summary(), **referring[name].summary()} for name in sorted(concept)
    }


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default=DEFAULT_FINDER)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--two-stage", action="store_true")
    chosen = parser.parse_args(arguments)
    finder = load_finder(chosen.model, "cpu")
    prompter = getattr(finder, "prompts", finder)
    for name, value in clicks(prompter, max(1, chosen.scenes // 4), chosen.size).items():
        print(f"{name:24} IoU {100 * value:5.1f} %")
    if prompter is finder:
        return 0
    columns = ("cgF1", "pmF1", "F1@50", "presence_MCC", "presence_accuracy", "cIoU", "gIoU")
    print(f"{'':16}" + "".join(f"{c:>18}" for c in (*columns, "phrases")))
    table = phrases(finder, chosen.scenes, chosen.size, chosen.two_stage)
    for name, row in table.items():
        cells = "".join(f"{100 * row[c]:18.1f}" for c in columns)
        print(f"{name:16}{cells}{row['phrases']:18.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
