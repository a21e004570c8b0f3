"""Masks, scores and phrases of queries -> semantic, instance, panoptic and referring results.

The rules are the released code's (specification 4); where it is at odds with the paper the
configuration says which one is used.

Shape legend: N queries, C phrases, (h, w) the decoder's masks, (H, W) the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymask.ops import boxes as box_ops
from anymask.ops import rle as rle_ops
from anymask.ops.mask_classification import Canvas, PanopticSegment, panoptic
from anymask.ops.masks import nms as mask_nms
from anymask.ops.rle import RLE

OVERLAP = 0.5  # a panoptic segment owns at least this share of its mask


@dataclass(frozen=True)
class Answers:
    """Queries of one picture.

    Attributes:
        canvas: their masks, (N, h, w) logits.
        scores: (N,) in 0..1.
        labels: (N,) int64, which phrase each belongs to.
    """

    canvas: Canvas
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Tensor) -> Answers:
        canvas = Canvas(self.canvas.logits[rows], self.canvas.scaled_size, self.canvas.size)
        return Answers(canvas, self.scores[rows], self.labels[rows])


def class_shares(scores: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """What each query adds to each class: (N, C + 1), last column "none of them".

    The softmax over a vector of zeros with the score at the query's class (specification 4.1).
    """
    table = scores.new_zeros(len(scores), num_classes + 1)
    table[torch.arange(len(scores)), labels] = scores
    return table.softmax(-1)


def class_weight(scores: Tensor, num_classes: int) -> Tensor:
    """The same up to a map that all classes share: (e^s - 1) / (e^s + C), (N,).

    A phrase's map then needs that phrase's queries only, so phrases can be done a few at a time.
    """
    return scores.expm1() / (scores.exp() + num_classes)


@dataclass(frozen=True)
class Found:
    """Instances, best first.

    Attributes:
        rows: (M,) which queries.
        rles: M masks (H, W).
    """

    rows: NDArray[np.intp]
    rles: tuple[RLE, ...]


@torch.no_grad()
def instances(answers: Answers, min_score: float, nms_iou: float | None, by: str = "mask") -> Found:
    """Queries that score at least ``min_score``, without doubles.

    Args:
        answers: of a picture.
        min_score: in 0..1.
        nms_iou: see the configuration; None = doubles stay, in the queries' order.
        by: ``"mask"``: masks of one phrase; ``"box"``: boxes of all phrases together.
    """
    rows = np.flatnonzero(answers.scores.cpu().numpy() >= min_score)
    rles = [answers.canvas.rle(int(row))[0] for row in rows]
    if nms_iou is None or not len(rows):
        return Found(rows, tuple(rles))
    scores = answers.scores.cpu().numpy()[rows]
    if by == "box":
        kept = box_ops.nms(rle_ops.boxes(rles), scores, nms_iou)
    else:
        labels = answers.labels.cpu().numpy()[rows]
        kept = np.concatenate(
            [_nms_of(label, labels, rles, scores, nms_iou) for label in np.unique(labels).tolist()]
        )
        kept = kept[np.argsort(-scores[kept], kind="stable")]
    return Found(rows[kept], tuple(rles[int(k)] for k in kept))


def _nms_of(
    label: int,
    labels: NDArray[np.int64],
    rles: Sequence[RLE],
    scores: NDArray[np.float32],
    iou: float,
) -> NDArray[np.intp]:
    mine = np.flatnonzero(labels == label)
    return mine[mask_nms([rles[int(k)] for k in mine], scores[mine], iou)]


@torch.no_grad()
def panoptic_map(
    answers: Answers, is_thing: Sequence[bool], min_score: float, nms_iou: float
) -> tuple[NDArray[np.int32], list[PanopticSegment]]:
    """Every pixel to at most one segment: those above ``min_score``, doubles of a phrase removed,
    then as Mask2Former.

    Args:
        answers: of a picture.
        is_thing: per phrase.
        min_score: a query must score more.
        nms_iou: of the masks of one phrase.

    Returns:
        (H, W) int32 map, 0 where nothing is, and its segments.
    """
    rows = np.flatnonzero(answers.scores.cpu().numpy() > min_score)
    solid = {int(row): answers.canvas.rle(int(row))[0] for row in rows}
    labels, scores = answers.labels.cpu().numpy(), answers.scores.cpu().numpy()
    kept: list[int] = []
    for label in np.unique(labels[rows]):
        mine = rows[labels[rows] == label]
        kept += mine[mask_nms([solid[int(k)] for k in mine], scores[mine], nms_iou)].tolist()
    survivors = answers[torch.tensor(sorted(kept), dtype=torch.int64)]
    table = torch.zeros(len(survivors), len(is_thing) + 1)
    table[torch.arange(len(survivors)), survivors.labels.cpu()] = survivors.scores.cpu().float()
    return panoptic(survivors.canvas, table, is_thing, min_score, OVERLAP)


def best_of_each(scores: Tensor, labels: Tensor) -> Tensor:
    """The best query of every phrase that has one, in the order of the phrases: (M,) rows."""
    found = []
    for label in labels.unique(sorted=True):
        mine = (labels == label).nonzero()[:, 0]
        found.append(mine[scores[mine].argmax()])
    return torch.stack(found) if found else labels.new_zeros(0)
