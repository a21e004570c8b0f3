"""Matching and losses of OpenWorldSAM (paper, section 3.4; specification 3.2 and 3.3).

Shape legend: K queries of one phrase, G things it means, (h, w) the decoder's masks, (H, W) the
picture's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.nn.distributed import mean_over_processes
from anymask.nn.losses import best_iou, dice_loss, focal_entropy
from anymask.nn.matching import assign, pairwise_dice

ALPHA, GAMMA = 0.25, 2.0
Match = tuple[Tensor, Tensor]


def focal_cost(logits: Tensor, masks: Tensor) -> Tensor:
    """Mean focal cross-entropy of every pair: (K, n) logits, (G, n) in 0..1 -> (K, G)."""
    probability = logits.sigmoid()
    inside = ALPHA * (1 - probability) ** GAMMA * F.softplus(-logits)
    outside = (1 - ALPHA) * probability**GAMMA * F.softplus(logits)
    return (inside @ masks.T + outside @ (1 - masks).T) / logits.shape[1]


@dataclass(frozen=True)
class PhraseLoss:
    """Matching and losses of phrases, each for itself.

    Attributes:
        mask_weight: of the focal loss; the only one that is on in the released configurations.
        dice_weight: of the Dice loss.
        iou_weight: of 1 - predicted IoU of what is matched.
        no_object_weight: of the predicted IoU of what is not (within the term above).
        presence_weight: of the cross-entropy of SAM 2's object score with the IoU of a query's mask
            and the thing that it fits best: the score then says how much of what is meant a query
            has found, which ranks the queries of a phrase and tells that it means nothing; 0 = off,
            as in the paper, whose weights never say "absent".
    """

    mask_weight: float = 20.0
    dice_weight: float = 0.0
    iou_weight: float = 0.0
    no_object_weight: float = 0.0
    presence_weight: float = 0.0

    @torch.no_grad()
    def cost(self, logits: Tensor, iou: Tensor, masks: Tensor) -> Tensor:
        """Cost table of one phrase.

        Args:
            logits: (K, h, w).
            iou: (K,) predicted.
            masks: (G, H, W) bool or 0/1; resized to (h, w) by nearest neighbour.

        Returns:
            (K, G) float32.
        """
        with torch.autocast(logits.device.type, enabled=False):
            wanted = F.interpolate(masks[:, None].float(), logits.shape[-2:])[:, 0].flatten(1)
            found = logits.float().flatten(1)
            table = self.mask_weight * focal_cost(found, wanted)
            if self.dice_weight:
                table = table + self.dice_weight * pairwise_dice(found, wanted)
            return table - self.iou_weight * iou.float()[:, None]

    def match(
        self, logits: Sequence[Tensor], iou: Sequence[Tensor], masks: Sequence[Tensor]
    ) -> list[Match]:
        """The cheapest pairs of every phrase: matched queries and things, min(K, G) of each."""
        return assign([self.cost(*one) for one in zip(logits, iou, masks, strict=True)])

    def parts(
        self,
        logits: Tensor,
        iou: Tensor,
        object_logits: Tensor,
        masks: Sequence[Tensor],
        matches: Sequence[Match],
    ) -> dict[str, Tensor]:
        """Weighted losses, each the mean over the phrases of all processes.

        The mask losses of a phrase are means over pixels at the truth's size, summed over its
        pairs and divided by max(1, G), also where G > K.

        Args:
            logits: (P, K, h, w).
            iou: (P, K).
            object_logits: (P, K).
            masks: P x (G, H, W) bool.
            matches: of :meth:`match`.

        Returns:
            ``mask``, and the others that are switched on.
        """
        phrases = mean_over_processes(logits.new_tensor(float(len(masks)))).clamp(min=1.0)
        zero = logits.sum() * 0  # a process without phrases still takes part in every gradient
        parts = {"mask": zero}
        parts |= {"dice": zero} if self.dice_weight else {}
        for row, (truth, (query, thing)) in enumerate(zip(masks, matches, strict=True)):
            if not len(query):
                continue
            wanted = truth[thing].to(logits)
            found = F.interpolate(
                logits[row, query][None], wanted.shape[-2:], mode="bilinear", align_corners=False
            )[0]
            size = max(1, len(truth))
            focal = focal_entropy(found, wanted, ALPHA, GAMMA).mean((-2, -1)).sum()
            parts["mask"] = parts["mask"] + self.mask_weight * focal / size / phrases
            if self.dice_weight:
                dice = dice_loss(found.flatten(1), wanted.flatten(1), size * phrases)
                parts["dice"] = parts["dice"] + self.dice_weight * dice
        if self.iou_weight:
            each = [self._iou(row, match) for row, match in zip(iou, matches, strict=True)]
            total = sum(each, zero)
            parts["iou"] = self.iou_weight * total / phrases
        if self.presence_weight:
            goal = torch.stack(
                [iou_at_full_size(*pair) for pair in zip(logits, masks, strict=True)]
            )
            entropy = F.binary_cross_entropy_with_logits(
                object_logits, goal.to(object_logits), reduction="none"
            )
            parts["presence"] = self.presence_weight * entropy.mean(1).sum() / phrases + zero
        return parts

    def _iou(self, iou: Tensor, match: Match) -> Tensor:
        """Means of 1 - IoU where matched and of the weighted IoU elsewhere; 0 without a match."""
        if not len(match[0]):
            return iou.sum() * 0
        free = torch.ones_like(iou, dtype=torch.bool)
        free[match[0]] = False
        rest = iou[free].mean() if bool(free.any()) else iou.sum() * 0
        return (1 - iou[match[0]]).mean() + self.no_object_weight * rest


@torch.no_grad()
def iou_at_full_size(logits: Tensor, masks: Tensor) -> Tensor:
    """Highest IoU of each mask with any thing, at the picture's size.

    Args:
        logits: (K, h, w).
        masks: (G, H, W) bool.

    Returns:
        (K,) float32 in 0..1; zeros where there is no thing.
    """
    full = F.interpolate(logits[None].float(), masks.shape[-2:], mode="bilinear")[0]
    return best_iou(full.flatten(1), masks.flatten(1).float())
