"""Tuning CLIP's trunk as MAFT+ does (Jiao et al., ECCV 2024, sections 3.2 and 3.4).

The trunk learns from two losses of its own, never from mask losses: CLIP's probability of a class
should follow how well a mask fits (mask-aware), and its features should stay near the teacher's,
a frozen copy (compensation).

Shape legend: B pictures, N queries, C classes, G objects of all pictures, (h, w) CLIP's last map.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.nn.targets import Targets

SCALES = (1, 2, 4)


def tuning_losses(
    model: Any,
    output: Any,
    words: Any,
    masks: Tensor,
    targets: list[Targets],
    pixel_values: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Both losses, weighted and by name.

    Args:
        model: with a ``teacher``.
        output: of its last prediction, with ``clip_features``.
        words: the training words.
        masks: (B, N, H/4, W/4) logits of the last prediction.
        targets: the truth.
        pixel_values: what the teacher looks at.
    """
    by_clip = model.clip_logits(output.clip_embeds, words, output.clip_map)
    aware = mask_aware_loss(by_clip, masks, [t.labels for t in targets], [t.masks for t in targets])
    with torch.no_grad():
        taught = model.teacher(pixel_values).last_hidden_state
    kept = compensation_loss(output.clip_features, taught)
    config = model.config
    total = config.mask_aware_weight * aware + config.compensation_weight * kept
    return total, {"mask_aware": aware.detach(), "compensation": kept.detach()}


def mask_aware_loss(
    class_logits: Tensor, mask_logits: Tensor, labels: list[Tensor], masks: list[Tensor]
) -> Tensor:
    """Smooth L1 between every query's probability of an object's class and how well it covers it.

    Args:
        class_logits: (B, N, C + 1) of CLIP's branch; the last column is not looked at.
        mask_logits: (B, N, h, w).
        labels: per picture (n,).
        masks: per picture (n, H, W) in 0..1.

    Returns:
        Scalar; 0 without objects.
    """
    probability = class_logits[..., :-1].softmax(-1)
    said = [p[:, own].T for p, own in zip(probability, labels, strict=True)]
    fits = [
        normalised(soft_iou(logits, truth))
        for logits, truth in zip(mask_logits.detach(), masks, strict=True)
    ]
    said_all, fits_all = torch.cat(said), torch.cat(fits)
    if not len(said_all):
        return said_all.sum()
    return F.smooth_l1_loss(said_all, fits_all.to(said_all.dtype))


def soft_iou(mask_logits: Tensor, masks: Tensor) -> Tensor:
    """IoU of probabilities with truth: (N, h, w) logits and (n, H, W) in 0..1 -> (n, N)."""
    predicted = F.interpolate(
        mask_logits.sigmoid()[None], masks.shape[-2:], mode="bilinear", align_corners=False
    )[0].flatten(1)
    truth = masks.to(predicted.dtype).flatten(1)
    both = truth @ predicted.T
    return both / (truth.sum(1)[:, None] + predicted.sum(1) - both)


def normalised(iou: Tensor) -> Tensor:
    """Every object's row over the queries, from 0 (its worst) to 1 (its best)."""
    low, high = iou.amin(1, keepdim=True), iou.amax(1, keepdim=True)
    return (iou - low) / (high - low)


def compensation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 between strips of both maps (B, C, h, w), after ReLU, at three scales: scalar.

    At scale s the map is averaged in squares of w // s, and these are summed along rows and along
    columns. As released, maps are first made square, but the squares keep the side that follows
    from the original width.
    """
    width, side = student.shape[-1], max(student.shape[-2:])
    maps = [
        F.interpolate(m.relu(), (side, side), mode="bilinear", align_corners=False)
        for m in (student, teacher)
    ]
    total = student.new_zeros(())
    for scale in SCALES:
        ours, theirs = (F.avg_pool2d(m, max(1, width // scale)) for m in maps)
        both = sum(F.smooth_l1_loss(ours.sum(d), theirs.sum(d)) for d in (-1, -2))
        total = total + scale / sum(SCALES) / 2 * both
    return total
