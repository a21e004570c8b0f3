"""What the bundled pocket finds when it is shown examples, on photographs it never saw.

    python benchmarks/pocket_examples.py PHOTOS [--model MODEL] [--sources facade ...]

Two questions, of every source with named classes. *Same picture*: the largest thing of a class is
shown, and the others of its class in that picture are looked for (classes with at least three).
*Other pictures*: K things of every class are shown, each in another training picture, and all
classes are looked for in every held-out picture. Beside it what the same proposals are worth when
nothing is compared: every proposal is a find of every class. AP50 is the mean over classes.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymask.data.coco import CocoDataset
from anymask.image import Image
from anymask.loading import load_finder
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.prompt_bank import PromptBank
from anymask.metrics.segmentation import Regions, class_aware
from anymask.ops.rle import iou
from anymask.segments import Segments
from anymask.training.recipes.segprompt_pocket import CLASSLESS, WEIGHTS, held_out_ids

LEAST = 0.002  # of a picture: an example that people would show
Find = Callable[[Image, PromptBank], Segments]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="segprompt-pocket")
    parser.add_argument("--sources", nargs="+", default=[n for n in WEIGHTS if n not in CLASSLESS])
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--most", type=int, default=1000, help="Held-out pictures of a source.")
    chosen = parser.parse_args()
    torch.set_grad_enabled(False)
    finder: Any = load_finder(chosen.model, "cpu")
    for source in chosen.sources:
        file = chosen.photos / f"{source}.json"
        learnt, held = held_out_ids(file)
        data = CocoDataset.read(file, chosen.photos)
        rest = data.subset(frozenset(sorted(held)[: chosen.most]))
        for name, find in (("compared", compared(finder)), ("all alike", alike(finder))):
            report(source, f"same picture, {name}", same_picture(finder, rest, find))
        for shots in chosen.shots:
            bank = shown(finder, data.subset(learnt), shots)
            for name, find in (("compared", compared(finder)), ("all alike", alike(finder))):
                report(source, f"{shots} shown, {name}", other_pictures(rest, bank, find))


def report(source: str, what: str, numbers: dict[str, float]) -> None:
    text = "  ".join(f"{key} {value:.3f}" for key, value in numbers.items())
    print(f"{source:9} {what:26} {text}", flush=True)


def compared(finder: SegPromptFinder) -> Find:
    return lambda image, bank: finder.find(image, bank, min_score=0.0)


def alike(finder: SegPromptFinder) -> Find:
    """Every proposal is every class: what is found without looking at examples."""

    def find(image: Image, bank: PromptBank) -> Segments:
        likeness = finder.branches.likeness
        assert likeness is not None
        kept = likeness.threshold.clone(), likeness.scale.clone()
        try:
            likeness.threshold.fill_(30.0)
            likeness.scale.fill_(-30.0)
            return finder.find(image, bank, min_score=0.0)
        finally:
            likeness.threshold.copy_(kept[0])
            likeness.scale.copy_(kept[1])

    return find


def same_picture(finder: SegPromptFinder, data: CocoDataset, find: Find) -> dict[str, float]:
    """AP50 of the others of a class, and the best F1 over thresholds that hold for all."""
    pictures: dict[Any, tuple[Regions, Regions]] = {}
    scored: list[tuple[float, bool]] = []
    numbers = {name: number for number, name in data.names.items()}
    meant = 0
    for image_id in data.image_ids:
        truth = data.annotations_of(image_id, crowd=False)
        image = data.read_image(image_id)
        by_class = defaultdict(list)
        for k, label in enumerate(truth.labels):
            by_class[label].append(k)
        for label, rows in by_class.items():
            largest = max(rows, key=lambda k: truth.areas[k])
            if len(rows) < 3 or truth.areas[largest] < LEAST * image.size[0] * image.size[1]:
                continue
            example = truth[[largest]]
            others = truth[[k for k in rows if k != largest]]
            found = find(image, finder.prompts([(image, example)]))
            found = found[iou(found.rles, example.rles)[:, 0] < 0.5]
            number = numbers[str(label)]
            pictures[image_id, label] = (
                Regions.of(list(others.rles), classes=[number] * len(others)),
                Regions.of(list(found.rles), scores=found.scores, classes=[number] * len(found)),
            )
            meant += len(others)
            free = np.ones(len(others), bool)
            for row, score in zip(iou(found.rles, others.rles), found.scores, strict=True):
                fits = np.where(free, row, 0.0)
                hit = bool(fits.size and fits.max() >= 0.5)
                if hit:
                    free[fits.argmax()] = False
                scored.append((float(score), hit))
    f1, threshold = best_f1(scored, meant)
    return {
        "AP50": class_aware(pictures)["AP50"],
        "F1": f1,
        "at": threshold,
        "questions": float(len(pictures)),
    }


def best_f1(scored: list[tuple[float, bool]], meant: int) -> tuple[float, float]:
    """The best F1 over thresholds of the score, and that threshold."""
    if not scored or not meant:
        return float("nan"), float("nan")
    scored = sorted(scored, reverse=True)
    right = np.cumsum([hit for _, hit in scored])
    f1 = 2 * right / (np.arange(1, len(scored) + 1) + meant)
    best = int(f1.argmax())
    return float(f1[best]), scored[best][0]


def shown(finder: SegPromptFinder, data: CocoDataset, shots: int) -> PromptBank:
    """K examples of every class, each from another picture."""
    examples: dict[str, list[tuple[Image, Segments]]] = defaultdict(list)
    for image_id in data.image_ids:
        truth = data.annotations_of(image_id, crowd=False)
        height, width = truth.size
        for label in dict.fromkeys(truth.labels):
            rows = [k for k, other in enumerate(truth.labels) if other == label]
            largest = max(rows, key=lambda k: truth.areas[k])
            large = truth.areas[largest] >= LEAST * height * width
            if large and len(examples[str(label)]) < shots:
                examples[str(label)].append((data.read_image(image_id), truth[[largest]]))
    return finder.prompts([pair for pairs in examples.values() for pair in pairs])


def other_pictures(data: CocoDataset, bank: PromptBank, find: Find) -> dict[str, float]:
    """AP50 of all classes that were shown."""
    pictures: dict[Any, tuple[Regions, Regions]] = {}
    numbers = {name: number for number, name in data.names.items()}
    for image_id in data.image_ids:
        truth = data.annotations_of(image_id, crowd=False)
        truth = truth[np.array([label in bank.names for label in truth.labels], bool)]
        found = find(data.read_image(image_id), bank)
        pictures[image_id] = (
            Regions.of(list(truth.rles), classes=[numbers[str(n)] for n in truth.labels]),
            Regions.of(
                list(found.rles),
                scores=found.scores,
                classes=[numbers[str(n)] for n in found.labels],
            ),
        )
    return {"AP50": class_aware(pictures)["AP50"], "classes": float(len(bank))}


if __name__ == "__main__":
    main()
