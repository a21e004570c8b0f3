"""Class and mask losses of mask classification (Mask2Former, section 3.3).

The normalisers are handed in, because a data-parallel run needs those of the global batch: with
the mean over processes of the local number (see ``nn/distributed.py``) the averaged gradients
equal those of one process with everything.

Shape legend: B pictures, N queries, K classes, M matched pairs, P points.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def no_object_targets(
    labels: list[Tensor], matches: list[tuple[Tensor, Tensor]], num_queries: int, num_classes: int
) -> Tensor:
    """Class target of every query: its object's label, or ``num_classes`` without an object.

    Args:
        labels: per picture (G_i,) int64.
        matches: per picture the matched queries and objects, see ``nn/matching.py``.
        num_queries: N.
        num_classes: K.

    Returns:
        (B, N) int64 on the device of the labels.
    """
    goal = labels[0].new_full((len(labels), num_queries), num_classes)
    for row, label, (query, item) in zip(goal, labels, matches, strict=True):
        row[query] = label[item]
    return goal


def class_weights(
    targets: Tensor,
    num_classes: int,
    no_object_weight: float,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Weight of every query in the class loss: 1 with an object, else ``no_object_weight``.

    Args:
        targets: (B, N) int64; ``num_classes`` = no object.
        num_classes: K.
        no_object_weight: at least 0.
        dtype: of the answer.

    Returns:
        (B, N).
    """
    one = torch.ones(targets.shape, dtype=dtype, device=targets.device)
    return one.masked_fill(targets == num_classes, no_object_weight)


def class_loss(
    class_logits: Tensor, targets: Tensor, weights: Tensor, normaliser: Tensor | float | None = None
) -> Tensor:
    """Weighted softmax cross-entropy.

    Args:
        class_logits: (B, N, K + 1).
        targets: (B, N) int64 in 0..K.
        weights: (B, N) float.
        normaliser: what the weighted sum is divided by; None = the sum of the weights.

    Returns:
        Scalar.
    """
    exact = torch.promote_types(class_logits.dtype, weights.dtype)
    logits = class_logits.to(exact).transpose(1, 2)
    entropy = F.cross_entropy(logits, targets, reduction="none")
    return (weights * entropy).sum() / (weights.sum() if normaliser is None else normaliser)


def mask_loss(point_logits: Tensor, point_truth: Tensor, num_masks: Tensor | float) -> Tensor:
    """Binary cross-entropy, mean over points, summed over pairs, divided by ``num_masks``.

    Args:
        point_logits: (M, P).
        point_truth: (M, P) in 0..1.
        num_masks: the number of objects of the global batch per process, at least 1.

    Returns:
        Scalar; 0 (with a gradient path) when M is 0.
    """
    entropy = F.binary_cross_entropy_with_logits(point_logits, point_truth, reduction="none")
    return entropy.mean(1).sum() / num_masks


def dice_loss(point_logits: Tensor, point_truth: Tensor, num_masks: Tensor | float) -> Tensor:
    """1 - (2 |x y| + 1) / (|x| + |y| + 1) on probabilities, summed, divided by ``num_masks``.

    Arguments and result as of :func:`mask_loss`.
    """
    probability = point_logits.sigmoid()
    both = (probability * point_truth).sum(1)
    dice = 1 - (2 * both + 1) / (probability.sum(1) + point_truth.sum(1) + 1)
    return dice.sum() / num_masks


def focal_entropy(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal cross-entropy of every element (Lin et al. 2017, eq. 5).

    Args:
        logits: any shape.
        truth: of the same shape, in 0..1.
        alpha: weight of what is true; 1 - alpha of what is not.
        gamma: how little what is right already counts.

    Returns:
        The same shape.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    probability = logits.sigmoid()
    right = probability * truth + (1 - probability) * (1 - truth)
    return (alpha * truth + (1 - alpha) * (1 - truth)) * (1 - right) ** gamma * entropy


def best_iou(masks: Tensor, truth: Tensor) -> Tensor:
    """Highest IoU of each mask (N, P logits) with any object (G, P): (N,) in [0, 1]."""
    if len(truth) == 0:
        return masks.new_zeros(len(masks))
    inside = (masks > 0).float()
    whole = (truth > 0.5).float()
    overlap = inside @ whole.T
    union = inside.sum(1)[:, None] + whole.sum(1)[None] - overlap
    return (overlap / union.clamp(min=1)).amax(1)
