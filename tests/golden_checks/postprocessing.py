"""The official instance inference of SegPrompt: proposals with masks at picture size."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from anymask.methods.segprompt.processing import proposals
from golden_checks.compare import Row, below, close, equal, names, tensors

SCORES = 1e-5
REST = "semantic and panoptic inference (mask2former, fcclip): part 4"


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


def check(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for data in tensors(folder).values():
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
