"""Official matching costs, assignments, losses and gradients, at the official points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from anymask.methods.segprompt.prompt_loss import PromptTargets, slot_goals
from anymask.methods.segprompt.selection import Candidates, Kind
from anymask.nn.losses import class_loss, class_weights, dice_loss, mask_loss, no_object_targets
from anymask.nn.matching import MatchingCost, assign, pairwise_cross_entropy, pairwise_dice
from anymask.nn.point_sampling import most_uncertain, sample_points
from golden_checks.compare import Row, below, close, equal, float_of, names, tensors

ATOL, RTOL = 1e-5, 1e-4
GRADIENT = (1e-6, 1e-3)
COST = MatchingCost(class_weight=2.0, mask_weight=5.0, dice_weight=5.0)

Pairs = list[tuple[Tensor, Tensor]]


def matches(folder: Path) -> bool:
    return any(
        "state.empty_weight" in data and "input.agnostic.final.logits" in data
        for data in tensors(folder).values()
    )


@dataclass
class Case:
    """One case of the file."""

    name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    no_object_weight: float

    @property
    def pictures(self) -> int:
        return len(names(self.inputs, r"image(\d+)\."))

    @property
    def predictions(self) -> list[str]:
        return names(self.inputs, r"(final|aux\d+)\.logits")

    @property
    def masks(self) -> list[Tensor]:
        return [float_of(self.inputs[f"image{b}.target_masks"]) for b in range(self.pictures)]

    @property
    def labels(self) -> list[Tensor]:
        return [self.inputs[f"image{b}.target_labels"] for b in range(self.pictures)]

    @property
    def num_masks(self) -> float:
        return max(1.0, float(sum(len(labels) for labels in self.labels)))

    @property
    def is_prompt(self) -> bool:
        return "candidate_ids" in self.inputs

    @property
    def is_example(self) -> bool:
        """Example queries are matched with their own masks, so nothing is assigned."""
        return not self.is_prompt and not any(name.startswith("match.") for name in self.outputs)

    @property
    def lacks_candidates(self) -> bool:
        """Some object's class is no candidate: it is matched all the same in the official code,
        which we do not imitate."""
        return self.is_prompt and not all(
            torch.isin(labels, ids).all()
            for labels, ids in zip(self.labels, self.inputs["candidate_ids"], strict=True)
        )

    @property
    def per_class(self) -> int:
        """K, the slots of a candidate class."""
        ids = self.inputs["candidate_ids"][0]
        return int((ids == ids[0]).sum())

    def targets(self, b: int) -> PromptTargets:
        """Candidates of a picture as ours know them."""
        first = slice(None, None, self.per_class)
        ids = self.inputs["candidate_ids"][b][first].tolist()
        absent = self.inputs["candidate_labels"][b][first].bool().tolist()
        outlined = self.inputs["has_mask_gt"][b][first].bool().tolist()
        kinds = [
            Kind.ABSENT if no else Kind.OUTLINED if masks else Kind.PRESENT
            for no, masks in zip(absent, outlined, strict=True)
        ]
        return PromptTargets(Candidates(tuple(ids), tuple(kinds)), self.masks[b], self.labels[b])

    def columns(self) -> list[Tensor]:
        """Class column of every object: prompt slots and examples only know "object", 0."""
        if self.is_prompt or self.is_example:
            return [torch.zeros_like(labels) for labels in self.labels]
        return self.labels


def check(folder: Path) -> list[Row]:
    rows: list[Row] = []
    for data in tensors(folder).values():
        weight = float(data["state.empty_weight"][-1])
        for name in names(data, r"input\.([^.]+)\."):
            case = Case(name, below(data, f"input.{name}."), below(data, f"output.{name}."), weight)
            rows += [(f"{name} {what}", e, t) for what, e, t in check_case(case)]
    return rows


def check_case(case: Case) -> list[Row]:
    rows: list[Row] = []
    total = torch.zeros(())
    leaves = {}
    for prediction in case.predictions:
        logits = case.inputs[f"{prediction}.logits"].clone().requires_grad_()
        masks = case.inputs[f"{prediction}.masks"].clone().requires_grad_()
        leaves[prediction] = (logits, masks)
        if case.is_example:
            counts = [torch.arange(len(labels)) for labels in case.labels]
            pairs: Pairs = [(index, index) for index in counts]
        else:
            pairs = check_matching(case, prediction, logits, masks, rows)
        rows += check_points(case, prediction, masks, pairs)
        if case.is_prompt:
            rows.append(check_slots(case, prediction, pairs))
        losses = point_losses(case, prediction, logits, masks, pairs)
        suffix = "" if prediction == "final" else f"_{prediction.removeprefix('aux')}"
        middle = "2" if case.is_prompt else ""
        for kind, loss in losses.items():
            name = f"loss.loss_{kind}{middle}{suffix}"
            rows.append(close(name, loss, case.outputs[name], ATOL, RTOL))
            total = total + {"ce": 2.0, "mask": 5.0, "dice": 5.0}[kind] * loss
    rows.append(close("total_weighted", total, case.outputs["total_weighted"], ATOL, RTOL))
    gradients = torch.autograd.grad(total, leaves["final"], materialize_grads=True)
    for kind, gradient in zip(("logits", "masks"), gradients, strict=True):
        name = f"grad.final.{kind}"
        rows.append(close(name, gradient, case.outputs[name], *GRADIENT))
    return rows


def check_matching(
    case: Case, prediction: str, logits: Tensor, masks: Tensor, rows: list[Row]
) -> Pairs:
    """Compare costs and assignments; return the official assignment."""
    costs, allowed, official = [], [], []
    for b in range(case.pictures):
        prefix = f"match.{prediction}.image{b}"
        points = case.outputs[f"{prefix}.points"]
        cost = COST(logits[b], masks[b], case.columns()[b], case.masks[b], points)
        may = torch.ones_like(cost, dtype=torch.bool)
        if case.is_prompt:
            may = case.inputs["candidate_ids"][b][:, None] == case.labels[b]
        costs.append(cost)
        allowed.append(may)
        theirs = case.outputs[f"{prefix}.cost"]
        rows.append(close(f"{prefix}.cost", cost[may], theirs[may], ATOL, RTOL))
        predicted = sample_points(masks[b].detach(), points)
        wanted = sample_points(case.masks[b], points)
        for name, ours in (
            ("cost_mask", pairwise_cross_entropy(predicted, wanted)),
            ("cost_dice", pairwise_dice(predicted, wanted)),
        ):
            rows.append(
                close(f"{prefix}.{name}", ours, case.outputs[f"{prefix}.{name}"], ATOL, RTOL)
            )
        official.append(
            (case.outputs[f"{prefix}.pred_index"], case.outputs[f"{prefix}.target_index"])
        )
    if not case.lacks_candidates:
        for b, (query, item) in enumerate(assign(costs, allowed)):
            prefix = f"match.{prediction}.image{b}"
            rows.append(equal(f"{prefix}.pred_index", query, official[b][0]))
            rows.append(equal(f"{prefix}.target_index", item, official[b][1]))
    return official


def check_slots(case: Case, prediction: str, pairs: Pairs) -> Row:
    """Which slots count as object, by the paper's rule or the released code's other one."""
    key = f"target_classes.{prediction}"
    official = case.outputs[key].clone()
    no_object = case.inputs[f"{prediction}.logits"].shape[-1] - 1
    ids, ours = case.inputs["candidate_ids"], []
    for b, (slots, objects) in enumerate(pairs):
        fits = ids[b][slots] == case.labels[b][objects]
        official[b][slots[~fits]] = no_object  # only where a class has no candidate
        ours.append(
            [
                slot_goals(case.targets(b), slots[fits], case.per_class, no_object, 0.1, every)[0]
                for every in (False, True)
            ]
        )
    both = [torch.stack(rule) for rule in zip(*ours, strict=True)]
    return min((equal(key, rule, official) for rule in both), key=lambda row: row[1])


def with_masks(case: Case, pairs: Pairs) -> Pairs:
    """The pairs whose masks are compared: in the prompt branch not those without mask truth."""
    if "has_mask_gt" not in case.inputs:
        return pairs
    if case.lacks_candidates:
        return pairs
    kept = []
    for b, (query, item) in enumerate(pairs):
        keep = case.inputs["has_mask_gt"][b][query].bool()
        kept.append((query[keep], item[keep]))
    return kept


def matched(case: Case, masks: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Predicted and true masks of all pairs, picture by picture."""
    chosen = with_masks(case, pairs)
    predicted = torch.cat([masks[b, query] for b, (query, _) in enumerate(chosen)])
    wanted = torch.cat([case.masks[b][item] for b, (_, item) in enumerate(chosen)])
    return predicted, wanted


def check_points(case: Case, prediction: str, masks: Tensor, pairs: Pairs) -> list[Row]:
    """The points we would keep of the official draw."""
    key = f"loss_points.{prediction}"
    if key not in case.outputs:
        return []
    raw = below(case.outputs, f"loss_points_raw.{prediction}.")
    predicted, _ = matched(case, masks, pairs)
    fresh = raw["random"].shape[1]
    kept = most_uncertain(predicted, raw["oversampled"], case.outputs[key].shape[1] - fresh)
    ours = torch.cat([kept, raw["random"]], 1)
    return [equal(key, in_order(ours), in_order(case.outputs[key]))]


def in_order(points: Tensor) -> Tensor:
    """Points (M, P, 2) sorted by x; which comes first makes no difference to a sum."""
    order = points[..., 0].argsort(1)
    return points.gather(1, order[..., None].expand(-1, -1, 2))


def point_losses(
    case: Case, prediction: str, logits: Tensor, masks: Tensor, pairs: Pairs
) -> dict[str, Tensor]:
    num_classes = logits.shape[-1] - 1
    if case.is_prompt:
        targets = case.outputs[f"target_classes.{prediction}"]
    else:
        targets = no_object_targets(case.columns(), pairs, logits.shape[1], num_classes)
    weights = class_weights(targets, num_classes, case.no_object_weight)
    predicted, wanted = matched(case, masks, pairs)
    points = case.outputs.get(f"loss_points.{prediction}", torch.zeros(len(predicted), 1, 2))
    at_points, truth = sample_points(predicted, points), sample_points(wanted, points)
    return {
        "ce": class_loss(logits, targets, weights),
        "mask": mask_loss(at_points, truth, case.num_masks),
        "dice": dice_loss(at_points, truth, case.num_masks),
    }
