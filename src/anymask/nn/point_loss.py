"""Mask2Former's loss (Cheng et al. 2022, section 3.3): masks compared on sampled points.

Shape legend: B pictures, N queries, G objects of one picture, K classes, P points.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from anymask.nn.distributed import mean_over_processes
from anymask.nn.losses import (
    class_loss,
    class_weights,
    dice_loss,
    mask_loss,
    no_object_targets,
)
from anymask.nn.matching import MatchingCost, assign
from anymask.nn.point_sampling import (
    generators,
    random_points,
    sample_points,
    uncertain_points,
)
from anymask.nn.targets import Targets


class PointLossConfig(Protocol):
    """What the loss reads from a model's configuration."""

    class_weight: float
    mask_weight: float
    dice_weight: float
    no_object_weight: float
    num_points: int
    oversample_ratio: float
    importance_sample_ratio: float


Matches = list[tuple[Tensor, Tensor]]
"""Per picture the matched queries and objects, (m,) int64 each."""


class PointLoss(nn.Module):
    """Class, mask and dice loss of every prediction, after Hungarian matching of each."""

    def __init__(self, config: PointLossConfig) -> None:
        super().__init__()
        self.config = config
        self.cost = MatchingCost(config.class_weight, config.mask_weight, config.dice_weight)

    def forward(
        self,
        class_logits: list[Tensor],
        mask_logits: list[Tensor],
        quality_logits: Tensor | None,
        targets: list[Targets],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a model without a quality head, total and parts; see :meth:`matched`."""
        return self.matched(class_logits, mask_logits, targets)[:2]

    def matched(
        self,
        class_logits: list[Tensor],
        mask_logits: list[Tensor],
        targets: list[Targets],
    ) -> tuple[Tensor, dict[str, Tensor], Matches]:
        """Compute the loss, and say what was matched.

        Args:
            class_logits: per prediction (B, N, K + 1).
            mask_logits: per prediction (B, N, h, w).
            targets: one per picture; what is not outlined is background.

        Returns:
            The weighted total (scalar), its unweighted parts, detached: ``class``, ``mask``,
            ``dice``, and what the last prediction was matched with.
        """
        device = class_logits[0].device
        num_classes = class_logits[0].shape[-1] - 1
        sources = generators([target.seed for target in targets], device)
        labels = [target.labels for target in targets]
        predictions = list(zip(class_logits, mask_logits, strict=True))
        # The normalisers need all processes, and the class weights all matchings: these come first.
        costs = [
            self.cost(
                classes[b].float(),
                masks[b].float(),
                target.labels,
                target.masks,
                # One set of points for all masks of a picture, a new one per prediction.
                random_points(1, self.config.num_points, sources[b], device)[0],
            )
            for classes, masks in predictions
            for b, target in enumerate(targets)
        ]
        found = assign(costs)
        matches = [found[k : k + len(targets)] for k in range(0, len(found), len(targets))]
        goals = [
            no_object_targets(labels, match, classes.shape[1], num_classes)
            for match, (classes, _) in zip(matches, predictions, strict=True)
        ]
        weights = [class_weights(goal, num_classes, self.config.no_object_weight) for goal in goals]
        count = torch.tensor(float(sum(map(len, labels))), device=device)
        sums = mean_over_processes(torch.stack([count, *(w.sum() for w in weights)]))
        num_masks, sum_weights = sums[0].clamp(min=1), sums[1:]

        loss_class = loss_mask = loss_dice = class_logits[0].new_zeros(())
        for index, (classes, masks) in enumerate(predictions):
            loss_class = loss_class + class_loss(
                classes.float(), goals[index], weights[index], sum_weights[index]
            )
            logits, truth = self._at_points(masks, matches[index], targets, sources)
            loss_mask = loss_mask + mask_loss(logits, truth, num_masks)
            loss_dice = loss_dice + dice_loss(logits, truth, num_masks)
        total = (
            self.config.class_weight * loss_class
            + self.config.mask_weight * loss_mask
            + self.config.dice_weight * loss_dice
        )
        parts = {"class": loss_class, "mask": loss_mask, "dice": loss_dice}
        return total, {name: part.detach() for name, part in parts.items()}, matches[-1]

    def _at_points(
        self,
        masks: Tensor,
        matches: list[tuple[Tensor, Tensor]],
        targets: list[Targets],
        sources: list[torch.Generator],
    ) -> tuple[Tensor, Tensor]:
        """Logits and truth (M, P) of the M matched pairs at their own uncertain points."""
        logits, truth = [], []
        # Not masks[b]: the gradient of that is as large as the batch, for every picture.
        for b, (own, (queries, objects)) in enumerate(zip(masks.unbind(), matches, strict=True)):
            chosen = own[queries].float()
            with torch.no_grad():
                points = uncertain_points(
                    chosen,
                    self.config.num_points,
                    self.config.oversample_ratio,
                    self.config.importance_sample_ratio,
                    sources[b],
                )
                truth.append(sample_points(targets[b].masks[objects].to(points.dtype), points))
            logits.append(sample_points(chosen, points))
        return torch.cat(logits), torch.cat(truth).to(logits[0].dtype)
