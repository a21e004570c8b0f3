"""Losses of the prompt-based and of the example queries (SegPrompt, sections 3.3 and 3.4).

Both compare class logits (column 0 = object, last = no object) and masks with the terms and weights
of the class-agnostic branch. They differ in who is matched with whom.

Shape legend: B pictures, V = C*K candidate slots, E examples, G objects of one picture, P points.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from anymask.methods.segprompt.dense_loss import cells
from anymask.methods.segprompt.selection import Candidates, Kind
from anymask.nn.distributed import mean_over_processes
from anymask.nn.losses import class_loss, dice_loss, mask_loss
from anymask.nn.matching import (
    MatchingCost,
    assign,
    pairwise_cross_entropy,
    pairwise_dice,
)
from anymask.nn.point_sampling import random_points, sample_points, uncertain_points

if TYPE_CHECKING:
    from anymask.methods.segprompt.configuration import SegPromptConfig


class MaskReader(Protocol):
    """Where predicted and true masks are compared."""

    def cost(
        self, class_logits: Tensor, masks: Tensor, truth: Tensor, source: torch.Generator
    ) -> Tensor:
        """Matching cost (V, G) of slots (V, K + 1), (V, h, w) with objects (G, H, W)."""

    def pairs(self, masks: Tensor, truth: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """Logits and truth (M, P) of matched pairs (M, h, w), (M, H, W)."""


class PointReader:
    """Sampled points (Mask2Former, section 3.3; the paper)."""

    def __init__(self, config: SegPromptConfig) -> None:
        self.config = config
        self.costs = MatchingCost(config.class_weight, config.mask_weight, config.dice_weight)

    def cost(
        self, class_logits: Tensor, masks: Tensor, truth: Tensor, source: torch.Generator
    ) -> Tensor:
        """As :class:`MaskReader`."""
        points = random_points(1, self.config.num_points, source, masks.device)[0]
        labels = torch.zeros(len(truth), dtype=torch.long, device=masks.device)
        return self.costs(class_logits.float(), masks.float(), labels, truth, points)

    def pairs(self, masks: Tensor, truth: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """As :class:`MaskReader`."""
        masks = masks.float()
        with torch.no_grad():
            points = uncertain_points(
                masks,
                self.config.num_points,
                self.config.oversample_ratio,
                self.config.importance_sample_ratio,
                source,
            )
            wanted = sample_points(truth.to(points.dtype), points)
        return sample_points(masks, points), wanted


class CellReader:
    """Every cell of the mask's own grid (the pocket models)."""

    def __init__(self, config: SegPromptConfig) -> None:
        self.config = config

    @torch.no_grad()
    def cost(
        self, class_logits: Tensor, masks: Tensor, truth: Tensor, source: torch.Generator
    ) -> Tensor:
        """As :class:`MaskReader`."""
        flat, wanted = masks.float().flatten(1), cells(truth, truth.shape[-1] // masks.shape[-1])
        return (
            self.config.mask_weight * pairwise_cross_entropy(flat, wanted)
            + self.config.dice_weight * pairwise_dice(flat, wanted)
            - self.config.class_weight * class_logits.float().softmax(-1)[:, :1]
        )

    def pairs(self, masks: Tensor, truth: Tensor, source: torch.Generator) -> tuple[Tensor, Tensor]:
        """As :class:`MaskReader`."""
        return masks.float().flatten(1), cells(truth, truth.shape[-1] // masks.shape[-1])


def mask_reader(config: SegPromptConfig) -> MaskReader:
    """The reader that the model's class-agnostic loss uses as well."""
    return CellReader(config) if config.dense_loss else PointReader(config)


@dataclass
class PromptTargets:
    """Truth of one picture for its candidates.

    Attributes:
        candidates: the classes that were tried.
        masks: (G, H, W) of the instances of outlined classes.
        classes: (G,) their classes.
    """

    candidates: Candidates
    masks: Tensor
    classes: Tensor

    def allowed(self, per_class: int) -> Tensor:
        """(V, G) bool: a slot may take instances of its own class, when that is outlined."""
        device = self.classes.device
        kinds = torch.tensor(self.candidates.kinds, device=device) == Kind.OUTLINED
        classes = torch.tensor(self.candidates.classes, device=device)
        same = (classes[:, None] == self.classes[None]) & kinds[:, None]
        return same.repeat_interleave(per_class, 0)


def slot_goals(
    targets: PromptTargets,
    matched: Tensor,
    per_class: int,
    no_object: int,
    no_object_weight: float,
    all_positive: bool = False,
) -> tuple[Tensor, Tensor]:
    """Class target and weight of every slot: (V,) int64 and (V,) float.

    Args:
        targets: of the picture.
        matched: (M,) slots with an instance.
        per_class: K.
        no_object: number of the column "no object".
        no_object_weight: weight of slots without an object.
        all_positive: every slot of an outlined class counts as object, matched or not (the released
            code without QUERY_REPEAT_ONLY_MATCH).
    """
    device = matched.device
    kinds = torch.tensor(targets.candidates.kinds, device=device).repeat_interleave(per_class)
    positive = kinds == Kind.PRESENT  # known at image level: all K slots
    positive[matched] = True
    if all_positive:
        positive |= kinds == Kind.OUTLINED
    goals = torch.where(positive, 0, no_object)
    weights = torch.where(positive, 1.0, no_object_weight)
    return goals, weights * (kinds != Kind.PADDING)


def prompt_loss(
    config: SegPromptConfig,
    reader: MaskReader,
    class_logits: list[Tensor],
    mask_logits: list[Tensor],
    targets: list[PromptTargets],
    sources: list[torch.Generator],
    *,
    per_class: int,
    all_positive: bool = False,
    no_object_weight: float = 0.1,
    part_weights: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of the candidates: each class is matched within itself.

    Args:
        config: weights of the terms.
        reader: where masks are compared.
        class_logits: per prediction (B, V, K' + 1).
        mask_logits: per prediction (B, V, h, w).
        targets: one per picture.
        sources: one random source per picture.
        per_class: K.
        all_positive: see :func:`slot_goals`.
        no_object_weight: see :func:`slot_goals`.
        part_weights: multipliers of class, dice and mask term.

    Returns:
        The weighted total and its unweighted parts, detached.
    """
    device = class_logits[0].device
    no_object = class_logits[0].shape[-1] - 1
    allowed = [target.allowed(per_class) for target in targets]
    costs = [
        reader.cost(classes[b], masks[b], target.masks, sources[b])
        for classes, masks in zip(class_logits, mask_logits, strict=True)
        for b, target in enumerate(targets)
    ]
    found = assign(costs, allowed * len(class_logits))
    count = torch.tensor(float(sum(len(t.classes) for t in targets)), device=device)
    goals, weights = [], []
    for index in range(len(class_logits)):
        rows = [
            slot_goals(
                target,
                found[index * len(targets) + b][0],
                per_class,
                no_object,
                no_object_weight,
                all_positive,
            )
            for b, target in enumerate(targets)
        ]
        goals.append(torch.stack([goal for goal, _ in rows]))
        weights.append(torch.stack([weight for _, weight in rows]))
    sums = mean_over_processes(torch.stack([count, *(w.sum() for w in weights)]))
    num_masks, sum_weights = sums[0].clamp(min=1), sums[1:].clamp(min=1e-6)
    loss_class = loss_mask = loss_dice = class_logits[0].new_zeros((), dtype=torch.float32)
    for index, (classes, masks) in enumerate(zip(class_logits, mask_logits, strict=True)):
        loss_class = loss_class + class_loss(
            classes.float(), goals[index], weights[index], sum_weights[index]
        )
        logits, truth = [], []
        for b, (target, own) in enumerate(zip(targets, masks.unbind(), strict=True)):
            slots, objects = found[index * len(targets) + b]
            one, two = reader.pairs(own[slots], target.masks[objects], sources[b])
            logits.append(one)
            truth.append(two)
        loss_mask = loss_mask + mask_loss(torch.cat(logits), torch.cat(truth), num_masks)
        loss_dice = loss_dice + dice_loss(torch.cat(logits), torch.cat(truth), num_masks)
    return _total(config, loss_class, loss_mask, loss_dice, "prompt", part_weights)


def example_loss(
    config: SegPromptConfig,
    reader: MaskReader,
    class_logits: list[Tensor],
    mask_logits: list[Tensor],
    masks_of: list[Tensor],
    sources: list[torch.Generator],
    *,
    with_class: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Example supervision: query j should give back the mask it was shown (section 3.3).

    Args:
        config: weights of the terms.
        reader: where masks are compared.
        class_logits: per prediction (B, E, K' + 1).
        mask_logits: per prediction (B, E, h, w).
        masks_of: per picture the masks of its real examples (e, H, W), e <= E.
        sources: one random source per picture.
        with_class: the released code's class term; the paper names the mask terms only.
    """
    device = class_logits[0].device
    no_object = class_logits[0].shape[-1] - 1
    goal = torch.full(class_logits[0].shape[:2], no_object, device=device)
    for row, masks in zip(goal, masks_of, strict=True):
        row[: len(masks)] = 0
    weight = torch.where(goal == 0, 1.0, config.no_object_weight)
    count = torch.tensor(float(sum(map(len, masks_of))), device=device)
    sums = mean_over_processes(torch.stack([count, weight.sum()]))
    num_masks = sums[0].clamp(min=1)
    loss_class = loss_mask = loss_dice = class_logits[0].new_zeros((), dtype=torch.float32)
    for classes, masks in zip(class_logits, mask_logits, strict=True):
        if with_class:
            loss_class = loss_class + class_loss(classes.float(), goal, weight, sums[1])
        found = [
            reader.pairs(own[: len(shown)], shown, source)
            for own, shown, source in zip(masks.unbind(), masks_of, sources, strict=True)
        ]
        logits = torch.cat([one for one, _ in found])
        truth = torch.cat([two for _, two in found])
        loss_mask = loss_mask + mask_loss(logits, truth, num_masks)
        loss_dice = loss_dice + dice_loss(logits, truth, num_masks)
    return _total(config, loss_class, loss_mask, loss_dice, "example")


def _total(
    config: SegPromptConfig,
    loss_class: Tensor,
    loss_mask: Tensor,
    loss_dice: Tensor,
    name: str,
    multipliers: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> tuple[Tensor, dict[str, Tensor]]:
    total = (
        config.class_weight * multipliers[0] * loss_class
        + config.dice_weight * multipliers[1] * loss_dice
        + config.mask_weight * multipliers[2] * loss_mask
    )
    parts = {"class": loss_class, "mask": loss_mask, "dice": loss_dice}
    return total, {f"{name}_{key}": part.detach() for key, part in parts.items()}
