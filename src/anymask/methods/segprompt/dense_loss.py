"""The pocket model's loss: the terms of Mask2Former on every grid cell, with federated care.

At the pocket's size all stride-4 cells cost less than sampling points, and they see small objects.

Shape legend: B pictures, N queries, G objects of one picture, P cells of a flattened mask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.distributed import mean_over_processes
from anymask.nn.losses import best_iou
from anymask.nn.targets import Targets

if TYPE_CHECKING:
    from anymask.methods.segprompt.configuration import SegPromptConfig

# How a query without an object is weighed (see `no_object_weights`).
UNLABELLED_WEIGHT = 0.02
LABELLED_WEIGHT = 0.3


class DenseLoss(nn.Module):
    """Sum over all predictions of class, mask and dice loss, plus the quality loss of the last."""

    def __init__(self, config: SegPromptConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self,
        class_logits: list[Tensor],
        mask_logits: list[Tensor],
        quality_logits: Tensor | None,
        targets: list[Targets],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            class_logits: per prediction (B, N, K + 1).
            mask_logits: per prediction (B, N, h, w): the inner ones at stride 8, the last at 4.
            quality_logits: (B, N) of the last prediction, or None.
            targets: one per picture.

        Returns:
            The weighted total (scalar) and its unweighted parts, detached: ``class``, ``mask``,
            ``dice``, ``quality`` and ``iou`` (mean IoU of matched final masks).
        """
        fine = [cells(target.masks, 4) for target in targets]
        coarse = [cells(target.masks, 8) for target in targets]
        labelled = [labelled_cells(target) for target in targets]
        last = len(class_logits) - 1

        # First all matchings, so that every normaliser is summed over processes in one go.
        matches, weights = [], []
        for index, (classes, masks) in enumerate(zip(class_logits, mask_logits, strict=True)):
            with torch.no_grad():
                small = masks if index < last else F.avg_pool2d(masks, 2)
                repeats = self.config.objects_per_query_group if index < last else 1
                found = [
                    self.match(
                        classes[b], small[b].flatten(1), coarse[b], targets[b].labels, repeats
                    )
                    for b in range(len(targets))
                ]
                weight = torch.stack(
                    [
                        self.no_object_weights(small[b].flatten(1), labelled[b])
                        for b in range(len(targets))
                    ]
                )
                for b, (query, _) in enumerate(found):
                    weight[b, query] = 1.0
            matches.append(found)
            weights.append(weight)
        sums = [float(sum(len(query) for query, _ in found)) for found in matches]
        totals = torch.stack(
            [torch.tensor(sums, device=weights[0].device), torch.stack([w.sum() for w in weights])]
        )
        num_masks, sum_weights = mean_over_processes(totals).clamp(min=1.0)

        loss_class = loss_mask = loss_dice = class_logits[0].new_zeros(())
        for index, (classes, masks) in enumerate(zip(class_logits, mask_logits, strict=True)):
            truth = fine if index == last else coarse
            goal = torch.full(classes.shape[:2], classes.shape[-1] - 1, device=classes.device)
            for b, (query, item) in enumerate(matches[index]):
                goal[b, query] = targets[b].labels[item]
            entropy = F.cross_entropy(classes.transpose(1, 2).float(), goal, reduction="none")
            loss_class = loss_class + (weights[index] * entropy).sum() / sum_weights[index]
            # Not masks[b, q]: the gradient of that is as large as the batch, for every picture.
            pairs = zip(masks.unbind(), matches[index], strict=True)
            picked = torch.cat([own[q].flatten(1) for own, (q, _) in pairs])
            wanted = torch.cat([truth[b][g] for b, (_, g) in enumerate(matches[index])])
            picked = picked.float()
            bce = F.binary_cross_entropy_with_logits(picked, wanted, reduction="none").mean(1)
            probability = picked.sigmoid()
            overlap = 2 * (probability * wanted).sum(1) + 1
            dice = 1 - overlap / (probability.sum(1) + wanted.sum(1) + 1)
            loss_mask = loss_mask + bce.sum() / num_masks[index]
            loss_dice = loss_dice + dice.sum() / num_masks[index]

        total = (
            self.config.class_weight * loss_class
            + self.config.mask_weight * loss_mask
            + self.config.dice_weight * loss_dice
        )
        parts = {"class": loss_class, "mask": loss_mask, "dice": loss_dice}
        with torch.no_grad():
            iou = [best_iou(mask_logits[-1][b].flatten(1), fine[b]) for b in range(len(targets))]
            matched = [
                iou_of(mask_logits[-1][b, q].flatten(1), fine[b][g])
                for b, (q, g) in enumerate(matches[-1])
            ]
            parts["iou"] = torch.cat(matched).sum() / num_masks[-1]
        if quality_logits is not None:
            # A query over unlabelled area may cover an object nobody outlined: no judgement.
            error = F.binary_cross_entropy_with_logits(
                quality_logits.float(), torch.stack(iou), reduction="none"
            )
            loss_quality = (weights[-1] * error).sum() / sum_weights[-1]
            total = total + self.config.quality_weight * loss_quality
            parts["quality"] = loss_quality
        return total, {name: part.detach() for name, part in parts.items()}

    def match(
        self, classes: Tensor, masks: Tensor, truth: Tensor, labels: Tensor, repeats: int
    ) -> tuple[Tensor, Tensor]:
        """Hungarian matching of one picture -> query and object indices.

        Classes (N, K + 1), masks (N, P), objects (G, P) with labels (G,).

        Every object takes up to ``repeats`` queries, as many as there are to go round.
        """
        count = len(truth)
        if count == 0:
            nothing = torch.zeros(0, dtype=torch.long, device=classes.device)
            return nothing, nothing
        masks = masks.float()
        cells_of_mask = masks.shape[1]
        probability = masks.sigmoid()
        bce = (F.softplus(masks).sum(1)[:, None] - masks @ truth.T) / cells_of_mask
        sums = probability.sum(1)[:, None] + truth.sum(1)[None]
        dice = 1 - (2 * probability @ truth.T + 1) / (sums + 1)
        cost = (
            self.config.mask_weight * bce
            + self.config.dice_weight * dice
            - self.config.class_weight * classes.float().softmax(-1)[:, labels]
        )
        repeats = max(1, min(repeats, len(classes) // (2 * count)))
        table = np.tile(cost.cpu().numpy(), (1, repeats))
        query, item = linear_sum_assignment(table)
        as_index = torch.as_tensor(query, device=classes.device)
        return as_index, torch.as_tensor(item % count, device=classes.device)

    def no_object_weights(self, masks: Tensor, labelled: Tensor | None) -> Tensor:
        """Weight (N,) of "no object" for masks (N, P) given labelled cells (P,) bool or None.

        A query that found something in unlabelled area may well be right: calling it background
        would teach the model to hide what nobody labelled.
        """
        if labelled is None or not self.config.federated:
            full = LABELLED_WEIGHT if self.config.federated else self.config.no_object_weight
            return masks.new_full((len(masks),), full)
        inside = (masks > 0).float()
        coverage = (inside @ labelled.float()) / inside.sum(1).clamp(min=1)
        return UNLABELLED_WEIGHT + LABELLED_WEIGHT * coverage


def cells(masks: Tensor, stride: int) -> Tensor:
    """Masks (G, H, W) -> share of each cell that is covered, (G, H/stride * W/stride) float."""
    if len(masks) == 0:
        height, width = masks.shape[-2:]
        return masks.new_zeros((0, height // stride * (width // stride)), dtype=torch.float32)
    return F.avg_pool2d(masks[:, None].float(), stride).flatten(1)


def labelled_cells(target: Targets) -> Tensor | None:
    """Labelled stride-8 cells (P,) bool, or None when everything is labelled."""
    if target.labelled is None:
        return None
    return cells(target.labelled[None].to(torch.uint8), 8)[0] > 0.5


def iou_of(masks: Tensor, truth: Tensor) -> Tensor:
    """IoU of pairs: (M, P logits), (M, P) -> (M,) in [0, 1]."""
    inside, whole = masks > 0, truth > 0.5
    overlap = (inside & whole).sum(1)
    return overlap / (inside | whole).sum(1).clamp(min=1)
