"""MAFT+'s own parts: words that look at the picture, and the two losses that tune CLIP."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from anymask.methods.ovsnet.classification import best_of_synonyms
from anymask.methods.ovsnet.convert import HEADS
from anymask.methods.ovsnet.text_transfer import ContentDependentTransfer
from anymask.methods.ovsnet.tuning import (
    compensation_loss,
    mask_aware_loss,
    normalised,
    soft_iou,
)
from anymask.nn.published import rename
from golden_checks.compare import Row, below, close, divisors, float_of, names, tensors

ATOL, RTOL = 1e-5, 1e-4


def matches(folder: Path) -> bool:
    files = tensors(folder).values()
    return any({"input.image_features", "input.ma.class_logits"} <= f.keys() for f in files)


def check_transfer(data: dict[str, Tensor], variant: str) -> list[Row]:
    ours = below(rename(below(data, f"state.{variant}."), HEADS), "text_transfer.")
    theirs = below(data, f"output.{variant}.")
    counts = tuple(data["input.num_synonyms"].tolist())
    tried = []
    # The number of heads leaves no trace in the weights.
    for heads in divisors(data["input.text_matrix"].shape[1]):
        part = ContentDependentTransfer(
            data["input.text_matrix"].shape[1], after_norm=variant == "panoptic", num_heads=heads
        )
        part.load_state_dict(ours)
        rows = part(data["input.text_matrix"], data["input.image_features"])
        unit = torch.nn.functional.normalize(data["input.mask_embeddings"], dim=-1)
        logits = data["input.logit_scale"].exp().clamp(max=100) * unit @ rows.mT
        tried.append(
            [
                close(f"{variant}.text_after_cdt", rows, theirs["text_after_cdt"], ATOL, RTOL),
                close(
                    f"{variant}.class_logits",
                    best_of_synonyms(logits, counts),
                    theirs["class_logits"],
                    ATOL,
                    RTOL,
                ),
            ]
        )
    return min(tried, key=lambda rows: rows[0][1])


def check_mask_aware(data: dict[str, Tensor]) -> list[Row]:
    given, theirs = below(data, "input.ma."), below(data, "output.ma.")
    pictures = range(len(given["class_logits"]))
    labels = [given[f"image{b}.labels"] for b in pictures]
    masks = [float_of(given[f"image{b}.masks"]) for b in pictures]
    fits = [soft_iou(given["mask_logits"][b], masks[b]) for b in pictures]
    logits = given["class_logits"].clone().requires_grad_()
    loss = mask_aware_loss(logits, given["mask_logits"], labels, masks)
    loss.backward()
    assert logits.grad is not None
    found = {
        "soft_iou": torch.cat(fits),
        "normalised_iou": torch.cat([normalised(fit) for fit in fits]),
        "loss": loss,
        "grad_class_logits": logits.grad,
    }
    return [close(f"ma.{k}", found[k], theirs[k], ATOL, RTOL) for k in theirs]


def check_compensation(data: dict[str, Tensor], case: str) -> list[Row]:
    student = data[f"input.rc.{case}.student"].clone().requires_grad_()
    loss = compensation_loss(student, data[f"input.rc.{case}.teacher"])
    loss.backward()
    assert student.grad is not None
    found = {"loss": loss, "grad_student": student.grad}
    theirs = below(data, f"output.rc.{case}.")
    return [close(f"rc.{case}.{k}", found[k], theirs[k], ATOL, RTOL) for k in theirs]


def check(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for data in tensors(folder).values():
        with torch.no_grad():
            for variant in names(data, r"state\.(\w+)\.cdt\."):
                rows += check_transfer(data, variant)
        rows += check_mask_aware(data)
        for case in names(data, r"input\.rc\.(\w+)\.student"):
            rows += check_compensation(data, case)
    return rows
