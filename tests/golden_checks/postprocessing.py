"""Semantic, panoptic and instance inference of Mask2Former and FC-CLIP, and SegPrompt's."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from anymask.methods.segprompt.processing import proposals
from anymask.ops.mask_classification import Canvas, instances, panoptic, semantic_scores
from anymask.ops.rle import decode
from golden_checks.compare import Row, below, close, equal, names, tensors

SCORES = 1e-5
SEMANTIC = 1e-4


def matches(folder: Path) -> bool:
    return any(
        {"input.mask_logits", "input.sizes_padded_image_output"} <= data.keys()
        for data in tensors(folder).values()
    )


def as_rows(class_logits: Tensor, mask_logits: Tensor) -> tuple[Tensor, Tensor]:
    """One row per (query, class).

    The official code ranks pairs, so a query may come out once per class; ours merges the classes
    of a query. Handing every pair over as a query of its own makes the two comparable.
    """
    probability = class_logits.softmax(-1)[:, :-1]
    pairs = torch.stack([probability, 1 - probability], -1).log().flatten(0, 1)
    return pairs, mask_logits.repeat_interleave(probability.shape[1], 0)


def check_case(
    name: str, data: dict[str, Tensor], class_logits: Tensor, top: int, threshold: float
) -> list[Row]:
    _, image, output = (tuple(size.tolist()) for size in data["input.sizes_padded_image_output"])
    classes, masks = as_rows(class_logits, data["input.mask_logits"])
    # The official threshold is on the class probability, before the mask has its say.
    passed = classes.softmax(-1)[:, 0] > threshold
    ours = proposals(
        classes[passed],
        masks[passed],
        None,
        scaled_size=image,
        original_size=output,
        max_segments=top,
    )
    theirs = below(data, f"output.segprompt.instance.{name}.")
    found = theirs["mask_areas"] > 0  # the official code also returns empty masks, score 0
    order = theirs["scores"][found].argsort(descending=True, stable=True)
    scores = theirs["scores"][found][order]
    rows = [close(f"{name}.scores", torch.tensor(ours.scores), scores, SCORES)]
    if len(ours) == len(scores):
        areas = torch.tensor(ours.areas).float()
        rows.append(equal(f"{name}.mask_areas", areas, theirs["mask_areas"][found][order]))
        boxes = torch.tensor(ours.boxes)
        rows.append(equal(f"{name}.boxes_xyxy", boxes, theirs["boxes_xyxy"][found][order]))
    return rows


def things_of(folder: Path) -> list[int]:
    """Which classes are things: only the README says so."""
    readme = folder / "README.md"
    found = re.search(r"thing classes ([\d, ]+)", readme.read_text() if readme.exists() else "")
    return [int(k) for k in found[1].replace(" ", "").strip(",").split(",")] if found else [0, 1, 3]


def check_published(data: dict[str, Tensor], source: str, things: list[int]) -> list[Row]:
    """Mask2Former's or FC-CLIP's three results."""
    _, image, size = (tuple(size.tolist()) for size in data["input.sizes_padded_image_output"])
    canvas = Canvas(data["input.mask_logits"], image, size)
    probabilities = data["input.class_logits"].softmax(-1)
    theirs = below(data, f"output.{source}.")
    everything = range(probabilities.shape[1] - 1)
    is_thing = [k in things for k in everything]
    found = semantic_scores(canvas, probabilities)
    rows = [close(f"{source}.semantic", found, theirs["semantic"], SEMANTIC)]
    for name in names(theirs, r"panoptic\.(.+)\.map"):
        # "nothing_kept" is what comes out when no query passes.
        limits = name.removeprefix("obj").split("_ov")
        low, overlap = map(float, limits) if len(limits) == 2 else (1.0, 0.8)
        ids, segments = panoptic(canvas, probabilities, is_thing, low, overlap)
        rows.append(
            equal(f"{source}.{name}.map", torch.from_numpy(ids), theirs[f"panoptic.{name}.map"])
        )
        listed = [[s.id, int(s.is_thing), s.category] for s in segments]
        if f"panoptic.{name}.segments" in theirs:
            wanted = theirs[f"panoptic.{name}.segments"]
            rows.append(
                equal(f"{source}.{name}.segments", torch.tensor(listed).reshape(-1, 3), wanted)
            )
    top = len(theirs["instance.all_classes.scores"])
    for name, wanted_classes in (
        ("all_classes", [True] * len(is_thing)),
        ("things_only", is_thing),
    ):
        ours = instances(canvas, probabilities, wanted_classes, top)
        masks = theirs[f"instance.{name}.masks"]
        kept = masks.flatten(1).any(1).bool()  # the official code also returns empty masks, score 0
        scores = theirs[f"instance.{name}.scores"][kept]
        rows.append(
            close(
                f"{source}.{name}.scores", torch.tensor([one.score for one in ours]), scores, SCORES
            )
        )
        if len(ours) == len(scores):
            labels = torch.tensor([one.category for one in ours])
            rows.append(
                equal(f"{source}.{name}.classes", labels, theirs[f"instance.{name}.classes"][kept])
            )
            dense = torch.stack([torch.from_numpy(decode(one.rle).copy()) for one in ours])
            rows.append(equal(f"{source}.{name}.masks", dense.to(masks.dtype), masks[kept]))
    return rows


def check(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for data in tensors(folder).values():
        for source in names(data, r"output\.(\w+)\.semantic"):
            rows += check_published(data, source, things_of(folder))
        for name in names(data, r"output\.segprompt\.instance\.(.+)\.scores"):
            rule, top = name.rsplit(".top", 1)
            threshold = (
                float(rule.removeprefix("threshold_"))
                if "threshold_" in rule and (rule != "no_threshold")
                else -1.0
            )
            one_class = rule == "oneclass"
            logits = data["input.class_logits_oneclass" if one_class else "input.class_logits"]
            rows += check_case(name, data, logits, int(top), threshold)
    return rows
