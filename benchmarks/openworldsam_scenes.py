"""What ``openworldsam-scenes`` and its two frozen parts can do, on scenes never trained on.

    python benchmarks/openworldsam_scenes.py MODEL [--scenes 200] [--two-stage]

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

from anymask.image import Image
from anymask.loading import load_finder
from anymask.ops.rle import encode, iou
from anymask.training.studies._scenes import held_out, phrase_metrics


def clicks(prompter: Any, scenes: int, size: int) -> dict[str, float]:
    """Mean IoU: a click in the middle of a thing (one mask, best of three), its box, and the one
    mask after a second click where it was wrong."""
    found: dict[str, list[float]] = defaultdict(list)
    rng = np.random.default_rng(0)
    for scene in held_out(scenes, size):
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


@torch.inference_mode()
def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="folder of an OpenWorldSAM, or of a SAM 2 for clicks alone")
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
    table = phrase_metrics(finder, chosen.scenes, chosen.size, chosen.two_stage)
    for name, row in table.items():
        cells = "".join(f"{100 * row[c]:18.1f}" for c in columns)
        print(f"{name:16}{cells}{row['phrases']:18.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
