"""One-to-one matching of predictions with objects (Mask2Former, section 3.3; DETR, section 3.1).

Shape legend: N queries, K classes, G objects of one picture, P points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from anymask.nn.point_sampling import sample_points


@dataclass(frozen=True)
class MatchingCost:
    """What a query costs an object, as a weighted sum.

    Attributes:
        class_weight: of minus the probability of the object's class.
        mask_weight: of the mean binary cross-entropy over the points.
        dice_weight: of one minus the (smoothed) Dice overlap over the points.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0

    @torch.no_grad()
    def __call__(
        self,
        class_logits: Tensor,
        mask_logits: Tensor,
        labels: Tensor,
        masks: Tensor,
        points: Tensor,
    ) -> Tensor:
        """Cost table of one picture.

        Args:
            class_logits: (N, K + 1), last column "no object".
            mask_logits: (N, h, w).
            labels: (G,) int64 in 0..K-1, the class column of every object.
            masks: (G, H, W) bool, integer or float in 0..1.
            points: (P, 2) in 0..1, shared by all masks of the picture.

        Returns:
            (N, G) float32 (float64 for float64 logits), detached.
        """
        exact = torch.float64 if mask_logits.dtype == torch.float64 else torch.float32
        # Sums over thousands of points need full precision, whatever the model runs in.
        with torch.autocast(mask_logits.device.type, enabled=False):
            predicted = sample_points(mask_logits.to(exact), points)
            wanted = sample_points(masks.to(exact), points)
            probability = class_logits.to(exact).softmax(-1)[:, labels]
            return (
                self.mask_weight * pairwise_cross_entropy(predicted, wanted)
                + self.dice_weight * pairwise_dice(predicted, wanted)
                - self.class_weight * probability
            )


def pairwise_cross_entropy(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean binary cross-entropy of every pair: (N, P) logits, (G, P) in 0..1 -> (N, G)."""
    # -m log s(x) - (1 - m) log(1 - s(x)) = softplus(x) - m x
    return (F.softplus(logits).sum(1)[:, None] - logits @ masks.T) / logits.shape[1]


def pairwise_dice(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice loss with +1 smoothing of every pair: (N, P) logits, (G, P) in 0..1 -> (N, G)."""
    probability = logits.sigmoid()
    both = probability @ masks.T
    return 1 - (2 * both + 1) / (probability.sum(1)[:, None] + masks.sum(1) + 1)


def assign(
    costs: Sequence[Tensor], allowed: Sequence[Tensor] | None = None
) -> list[tuple[Tensor, Tensor]]:
    """Cheapest one-to-one assignment of every table.

    All tables travel to the CPU in one piece: on a GPU every separate transfer would wait for all
    work before it.

    Args:
        costs: tables (N_i, G_i) float, of any number of pictures and predictions.
        allowed: bool tables of the same shapes; a pair that is not allowed is never matched, even
            when an object then stays alone. None = every pair is allowed.

    Returns:
        Per table the matched rows and columns, two int64 tensors of equal length on the table's
        device, rows ascending.

    Raises:
        FloatingPointError: a cost is NaN or infinite, so the predictions are.
    """
    if not costs:
        return []
    device = costs[0].device
    flat = torch.cat([cost.detach().flatten() for cost in costs]).cpu()
    if not flat.isfinite().all():
        bad = int((~flat.isfinite()).sum())
        raise FloatingPointError(
            f"{bad} of {len(flat)} matching costs are not finite: the predictions contain NaN or "
            "infinity. The run has diverged; use a lower learning rate, gradient clipping or "
            "float32."
        )
    tables = torch.split(flat, [cost.numel() for cost in costs])
    found = []
    for index, (table, cost) in enumerate(zip(tables, costs, strict=True)):
        numbers = table.view(cost.shape).double().numpy()
        if allowed is None:
            rows, columns = linear_sum_assignment(numbers)
        else:
            may = allowed[index].cpu().numpy()
            # Dearer than any sum of allowed costs: a forbidden pair is only ever a last resort.
            forbidden = 1.0 + 2.0 * abs(numbers).sum()
            rows, columns = linear_sum_assignment(numbers + forbidden * ~may)
            kept = may[rows, columns]
            rows, columns = rows[kept], columns[kept]
        found.append(torch.stack([torch.as_tensor(rows), torch.as_tensor(columns)]))
    moved = torch.cat(found, 1).long().to(device)
    pieces = torch.split(moved, [pair.shape[1] for pair in found], 1)
    return [(rows, columns) for rows, columns in pieces]
