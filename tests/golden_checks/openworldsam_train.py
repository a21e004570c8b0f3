"""OpenWorldSAM's matching, losses, results and metrics on random masks."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.methods.openworldsam.loss import PhraseLoss, focal_cost
from anymask.methods.openworldsam.results import (
    Answers,
    best_of_each,
    class_shares,
    instances,
    panoptic_map,
)
from anymask.metrics.referring import ReferringMeter
from anymask.metrics.semantic import ConfusionMatrix
from anymask.nn.matching import pairwise_dice
from anymask.ops.mask_classification import Canvas, semantic_scores
from anymask.ops.masks import nms as mask_nms
from anymask.ops.rle import boxes, decode
from golden_checks.compare import Row, below, close, equal, names, tensors

ATOL, RTOL, METRIC = 1e-6, 1e-5, 1e-4


def matches(folder: Path) -> bool:
    return any("criterion0.cost_focal" in f for f in tensors(folder).values())


def criterion(data: dict[str, Tensor], case: dict[str, Any]) -> list[Row]:
    name = f"criterion{case['case']}"
    want = below(data, f"{name}.")
    weights = case["weights"]
    loss = PhraseLoss(weights["mask"], weights["dice"], weights["ce"], case["eos_coef"])
    logits = want["pred_masks"].clone().requires_grad_()
    iou, truth = want["pred_iou"][:, 0], want["gt_masks"].bool()
    rows = []
    if "cost_focal" in want:
        small = F.interpolate(truth[:, None].float(), logits.shape[-2:])[:, 0].flatten(1)
        flat = logits.detach().flatten(1)
        rows += [
            close(f"{name}.cost_focal", focal_cost(flat, small), want["cost_focal"], ATOL, RTOL),
            close(f"{name}.cost_dice", pairwise_dice(flat, small), want["cost_dice"], ATOL, RTOL),
        ]
    match = loss.match([logits], [iou], [truth])
    rows.append(equal(f"{name}.match_pred", match[0][0], want["match_pred"]))
    rows.append(equal(f"{name}.match_gt", match[0][1], want["match_gt"]))
    plain = PhraseLoss(1.0, 1.0, 1.0, case["eos_coef"])
    single = plain.parts(logits[None], iou[None], iou[None], [truth], match)
    for ours, theirs in (("mask", "mask"), ("dice", "dice"), ("iou", "ce")):
        value = want[f"loss_{theirs}"]
        if ours == "iou" and not len(truth):
            continue  # without truth the official term is what the unmatched cost, weight eos
        rows.append(close(f"{name}.loss_{theirs}", single[ours][None], value, ATOL, RTOL))
    parts = loss.parts(logits[None], iou[None], iou[None], [truth], match)
    total = torch.stack(list(parts.values())).sum()
    if len(truth):
        rows.append(close(f"{name}.total", total[None], want["weighted_total"], ATOL, RTOL))
    if "grad_pred_masks" in want:
        total.backward()
        grad = logits.grad
        assert grad is not None
        rows.append(close(f"{name}.grad", grad, want["grad_pred_masks"], ATOL, RTOL))
    return rows


def batch(data: dict[str, Tensor]) -> list[Row]:
    """The official criterion with several pictures divides by all their masks together."""
    want = below(data, "criterion_batch.")
    truth = [want[f"gt_masks{k}"].bool() for k in names(want, r"gt_masks(\d+)")]
    logits, iou = want["pred_masks"], want["pred_iou"][..., 0]
    loss = PhraseLoss(1.0, 1.0)
    match = PhraseLoss(20.0).match(list(logits), list(iou), truth)
    found = {"mask": torch.zeros(()), "dice": torch.zeros(())}
    total = sum(len(t) for t in truth)
    for k, masks in enumerate(truth):
        one = loss.parts(logits[k : k + 1], iou[k : k + 1], iou[k : k + 1], [masks], [match[k]])
        for name in found:
            found[name] = found[name] + one[name] * len(masks) / total
    return [
        close(f"batch.loss_{name}", value[None], want[f"loss_{name}"], ATOL, RTOL)
        for name, value in found.items()
    ]


def post(data: dict[str, Tensor], case: dict[str, Any]) -> list[Row]:
    name = f"post{case['scene']}"
    want = below(data, f"{name}.")
    size = (case["H"], case["W"])
    given = Answers(
        Canvas(want["low_res_logits"], None, size), want["scores"].flatten(), want["labels"]
    )
    things, classes = case["thing_ids"], case["num_classes"]
    threshold, nms = case["score_threshold"], case["nms_threshold"]
    full = F.interpolate(given.canvas.logits[None], size, mode="bilinear")[0]
    rows = [close(f"{name}.full_res_logits", full, want["full_res_logits"], 1e-5)]
    scores = semantic_scores(given.canvas, class_shares(given.scores, given.labels, classes))
    rows.append(close(f"{name}.sem_seg", scores, want["sem_seg"], 1e-5))
    rows.append(equal(f"{name}.sem_seg_argmax", scores.argmax(0).byte(), want["sem_seg_argmax"]))
    countable = given[torch.isin(given.labels, torch.tensor(things))]
    top = given[given.scores.topk(min(4, len(given))).indices]
    for tag, subset, iou in (
        ("instances_panoptic_on", countable, nms),
        ("instances", given, nms),
        ("instances_no_nms", given, None),
        ("instances_top4", top, nms),
    ):
        found = instances(subset, threshold, iou, "box")
        theirs = below(want, f"{tag}.")
        key = f"{name}.{tag}"
        rows.append(close(f"{key}.scores", subset.scores[found.rows], theirs["scores"], ATOL))
        rows.append(equal(f"{key}.classes", subset.labels[found.rows], theirs["classes"]))
        tight = torch.from_numpy(boxes(found.rles)).reshape(-1, 4)
        rows.append(equal(f"{key}.boxes", tight, theirs["boxes"]))
        masks = [torch.from_numpy(decode(r)) for r in found.rles]
        stack = torch.stack(masks).byte() if masks else theirs["masks"][:0]
        rows.append(equal(f"{key}.masks", stack, theirs["masks"]))
    ids, segments = panoptic_map(given, [k in things for k in range(classes)], threshold, nms)
    rows.append(equal(f"{name}.panoptic_seg", torch.from_numpy(ids), want["panoptic_seg"]))
    listed = torch.tensor([[s.id, int(s.is_thing), s.category] for s in segments]).reshape(-1, 3)
    rows.append(equal(f"{name}.panoptic_segments", listed, want["panoptic_segments"]))
    rles = [given.canvas.rle(k)[0] for k in range(len(given))]
    kept = torch.zeros(len(given), dtype=torch.uint8)
    kept[mask_nms(rles, given.scores.numpy(), nms)] = 1
    rows.append(equal(f"{name}.mask_nms_keep_all", kept, want["mask_nms_keep_all"]))
    best = best_of_each(given.scores, given.labels)
    rows.append(close(f"{name}.refer.scores", given.scores[best], want["refer.scores"], ATOL))
    rows.append(close(f"{name}.refer.masks", full[best], want["refer.masks"], 1e-5))
    return rows


def metrics(data: dict[str, Tensor], cases: dict[str, Any]) -> list[Row]:
    meter = ReferringMeter()
    for k in names(data, r"grounding(\d+)\."):
        for truth, logits in zip(
            data[f"grounding{k}.gt"], data[f"grounding{k}.logits"], strict=True
        ):
            meter.add(truth.numpy() > 0, logits.numpy() > 0)
    mine = {name: 100 * value for name, value in meter.summary().items()}
    mine["mIoU"] = mine["gIoU"]
    rows = [
        close(f"grounding.{name}", torch.tensor([mine[name]]), torch.tensor([value]), METRIC)
        for name, value in cases["grounding"].items()
    ]
    table: ConfusionMatrix | None = None
    for k in names(data, r"semseg(\d+)\."):
        scores = data[f"semseg{k}.scores"]
        table = table or ConfusionMatrix(len(scores))
        truth = data[f"semseg{k}.gt"].numpy().astype(np.int64)
        table.add(np.where(truth == 255, -1, truth), scores.argmax(0).numpy())
    assert table is not None
    rows.append(equal("semseg.confusion", torch.from_numpy(table.counts), data["semseg.confusion"]))
    summary = table.summary()
    want = cases["semseg"]
    for ours, theirs in (
        ("mIoU_present_or_predicted", "mIoU"),
        ("fwIoU", "fwIoU"),
        ("mACC", "mACC"),
        ("pACC", "pACC"),
    ):
        value = torch.tensor([100 * summary[ours]])
        rows.append(close(f"semseg.{theirs}", value, torch.tensor([want[theirs]]), METRIC))
    for key, value in want.items():
        number = re.fullmatch(r"IoU-c(\d+)", key)
        if number and value is not None:
            iou = torch.tensor([100 * table.iou[int(number[1])]])
            rows.append(close(f"semseg.{key}", iou, torch.tensor([value]), METRIC))
    return rows


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "cases.json").read_text())
    data = next(f for f in tensors(folder).values() if "criterion0.cost_focal" in f)
    rows = []
    for case in cases["criterion"]:
        rows += criterion(data, case)
    rows += batch(data)
    for case in cases["post"]:
        rows += post(data, case)
    return rows + metrics(data, cases)
