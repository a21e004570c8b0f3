"""A whole official training step: its class-agnostic branch, from feature maps to losses."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from anymask.nn.losses import class_loss, class_weights, dice_loss, mask_loss, no_object_targets
from anymask.nn.matching import MatchingCost, assign
from anymask.nn.point_sampling import sample_points
from golden_checks import pixel_decoder, segprompt_decoder
from golden_checks.compare import Row, below, close, divisors, equal, float_of, names, tensors

FORWARD, LOSS = 5e-5, 1e-4  # absolute, relative
COST = MatchingCost(class_weight=2.0, mask_weight=5.0, dice_weight=5.0)
NO_OBJECT = 0.1
WEIGHTS = {"ce": 2.0, "mask": 5.0, "dice": 5.0}
REST = "prompt and example branches, gradients, prompt cache: part 3"


def matches(folder: Path) -> bool:
    return any(
        {"input.res2", "output.selected.candidate_ids", "output.total"} <= data.keys()
        for data in tensors(folder).values()
    )


@torch.inference_mode()
def check(folder: Path) -> list[Row]:
    rows = []
    for data in tensors(folder).values():
        rows += check_file(data)
    return rows


def check_file(data: dict[str, Tensor]) -> list[Row]:
    features = [data[f"input.res{i}"] for i in range(2, 6)]
    levels_of = pixel_decoder.build(
        below(data, "state.sem_seg_head.pixel_decoder."), [f.shape[1] for f in features]
    )
    mask_features, levels = levels_of(features)
    ours = segprompt_decoder.our_keys(below(data, "state.sem_seg_head.predictor."))

    def forward(heads: int) -> tuple[list[Tensor], list[Tensor]]:
        decoder, class_head = segprompt_decoder.build(ours, heads)
        output, _ = segprompt_decoder.run(decoder, ours, levels, mask_features)
        return [class_head(state) for state in output.states], output.masks

    def misfit(heads: int) -> float:
        return float((forward(heads)[1][-1] - data["output.q.masks"]).abs().max())

    logits, masks = forward(min(divisors(levels[0].shape[1]), key=misfit))
    rows = [
        close("q.logits", logits[-1], data["output.q.logits"], FORWARD, LOSS),
        close("q.masks", masks[-1], data["output.q.masks"], FORWARD, LOSS),
    ]

    pictures = range(len(features[0]))
    truth = [float_of(data[f"output.targets.agnostic.image{b}.masks"]) for b in pictures]
    labels = [torch.zeros(len(t), dtype=torch.long) for t in truth]
    num_masks = max(1.0, float(sum(map(len, truth))))
    for prediction in names(data, r"output\.agnostic\.match\.(\w+)\."):
        index = -1 if prediction == "final" else int(prediction.removeprefix("aux"))
        costs = []
        for b in pictures:
            key = f"output.agnostic.match.{prediction}.image{b}"
            points = data[f"{key}.points"]
            cost = COST(logits[index][b], masks[index][b], labels[b], truth[b], points)
            rows.append(close(f"{key[7:]}.cost", cost, data[f"{key}.cost"], FORWARD, LOSS))
            costs.append(cost)
        pairs = assign(costs)
        for b, (query, item) in enumerate(pairs):
            key = f"output.agnostic.match.{prediction}.image{b}"
            rows.append(equal(f"{key[7:]}.pred_index", query, data[f"{key}.pred_index"]))
            rows.append(equal(f"{key[7:]}.target_index", item, data[f"{key}.target_index"]))
        predicted = torch.cat([masks[index][b, query] for b, (query, _) in enumerate(pairs)])
        wanted = torch.cat([truth[b][item] for b, (_, item) in enumerate(pairs)])
        points = data[f"output.agnostic.loss_points.{prediction}"]
        at_points, at_truth = sample_points(predicted, points), sample_points(wanted, points)
        num_classes = logits[index].shape[-1] - 1
        targets = no_object_targets(labels, pairs, logits[index].shape[1], num_classes)
        losses = {
            "ce": class_loss(
                logits[index], targets, class_weights(targets, num_classes, NO_OBJECT)
            ),
            "mask": mask_loss(at_points, at_truth, num_masks),
            "dice": dice_loss(at_points, at_truth, num_masks),
        }
        suffix = "" if prediction == "final" else f"_{index}"
        for kind, loss in losses.items():
            name = f"loss_weighted.loss_{kind}{suffix}"
            theirs = data[f"output.{name}"]
            rows.append(close(name, WEIGHTS[kind] * loss, theirs, 1e-6, LOSS))
    return rows
