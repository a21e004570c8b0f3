"""From classified masks to semantic, panoptic and instance results (Mask2Former, FC-CLIP).

Every rule works in stripes of the picture, so that neither all masks at picture size nor a score
map of every class (3.6 GB for 847 words at 800 x 1333) is ever in memory.

Shape legend: N queries, C classes, (h, w) mask logits at stride 4, (H, W) the picture.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

from anymask.ops.resize import bilinear_matrix, resize_matrix, resized_rle
from anymask.ops.rle import RLE

TASKS = ("semantic", "panoptic", "instance")
VALUES_AT_ONCE = 1 << 24  # floats of the largest array of a stripe


@dataclass(frozen=True)
class Canvas:
    """Mask logits and the picture they belong to.

    Attributes:
        logits: (N, h, w) float32 at stride 4 of the padded input, or of the whole picture.
        scaled_size: (height, width) of the picture inside of the padded input; None = the masks
            cover the picture, stretched to their shape.
        size: (H, W).
    """

    logits: Tensor
    scaled_size: tuple[int, int] | None
    size: tuple[int, int]

    @cached_property
    def axes(self) -> tuple[csr_array, csr_array]:
        """The matrices that resize rows (H, h) and columns (W, w)."""
        if self.scaled_size is None:
            return (
                bilinear_matrix(self.logits.shape[1], self.size[0]),
                bilinear_matrix(self.logits.shape[2], self.size[1]),
            )
        return (
            resize_matrix(self.logits.shape[1], self.scaled_size[0], self.size[0]),
            resize_matrix(self.logits.shape[2], self.scaled_size[1], self.size[1]),
        )

    def stripes(self, queries: Tensor, width: int) -> Iterator[tuple[slice, Tensor]]:
        """Columns of the picture, some at a time: (columns, mask logits (columns, H, n)).

        Args:
            queries: (n,) which masks.
            width: further floats a pixel that the caller is going to make of a stripe.
        """
        rows, columns = self.axes
        chosen = self.logits[queries].float().cpu().numpy()
        count = len(chosen)
        height = self.size[0]
        # rows: (H, h) @ (h, n w) -> (w, H n)
        tall = rows @ chosen.transpose(1, 0, 2).reshape(chosen.shape[1], -1)
        wide = np.ascontiguousarray(
            tall.reshape(height, count, -1).transpose(2, 0, 1).reshape(chosen.shape[2], -1)
        )
        step = max(1, VALUES_AT_ONCE // max(1, height * max(count, width)))
        for start in range(0, self.size[1], step):
            part = columns[start : start + step] @ wide
            yield slice(start, start + len(part)), torch.from_numpy(part).view(-1, height, count)

    def rle(self, query: int) -> tuple[RLE, float]:
        """One mask at picture size, and the mean probability inside of it (0 for an empty one)."""
        rows, columns = self.axes
        return resized_rle(self.logits[query].float().cpu().numpy(), rows, columns)


@torch.no_grad()
def semantic(
    canvas: Canvas, probabilities: Tensor, void_threshold: float | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The class of every pixel: arg max of sum_n P[n, c] sigmoid(mask_n).

    Args:
        canvas: the masks.
        probabilities: (N, C + 1), last column "no object".
        void_threshold: a pixel stays without a class (-1) where its best score is below this, or
            below the sum of what says "no object" there; None = every pixel gets a class.

    Returns:
        (H, W) class numbers and (H, W) scores of the winners.
    """
    height, width = canvas.size
    classes = np.empty((height, width), np.int64)
    scores = np.empty((height, width), np.float32)
    weights = probabilities[:, :-1].float().cpu()
    void = probabilities[:, -1].float().cpu()
    everything = torch.arange(len(weights))
    for columns, logits in canvas.stripes(everything, weights.shape[1]):
        inside = logits.sigmoid()
        best, which = (inside @ weights).max(-1)
        if void_threshold is not None:
            nothing = (best < void_threshold) | (best < inside @ void)
            which = which.masked_fill(nothing, -1)
        classes[:, columns] = which.T.numpy()
        scores[:, columns] = best.T.numpy()
    return classes, scores


@torch.no_grad()
def semantic_scores(canvas: Canvas, probabilities: Tensor) -> Tensor:
    """All class scores: (C, H, W) float32. For small pictures and few classes; see `semantic`."""
    out = torch.empty(probabilities.shape[1] - 1, *canvas.size)
    weights = probabilities[:, :-1].float().cpu()
    for columns, logits in canvas.stripes(torch.arange(len(weights)), weights.shape[1]):
        out[:, :, columns] = (logits.sigmoid() @ weights).permute(2, 1, 0)
    return out


@dataclass(frozen=True)
class PanopticSegment:
    """One segment of a panoptic map.

    Attributes:
        id: its number in the map, from 1 on.
        category: class number.
        is_thing: countable.
        score: of its best query.
    """

    id: int
    category: int
    is_thing: bool
    score: float


@torch.no_grad()
def panoptic(
    canvas: Canvas,
    probabilities: Tensor,
    is_thing: Sequence[bool],
    object_threshold: float = 0.8,
    overlap_threshold: float = 0.8,
) -> tuple[NDArray[np.int32], list[PanopticSegment]]:
    """Every pixel to at most one segment.

    A query is kept if its best column is a class and scores above ``object_threshold``; every
    pixel goes to the kept query of highest score x sigmoid; a query survives if it won at least
    ``overlap_threshold`` of its own area. Stuff of one class is one segment.

    Args:
        canvas: the masks.
        probabilities: (N, C + 1), last column "no object".
        is_thing: per class.
        object_threshold, overlap_threshold: see above.

    Returns:
        (H, W) int32 map, 0 where nothing is, and its segments.
    """
    scores, labels = probabilities.float().cpu().max(-1)
    kept = ((labels != probabilities.shape[-1] - 1) & (scores > object_threshold)).nonzero()[:, 0]
    height, width = canvas.size
    found = np.zeros((height, width), np.int32)
    if len(kept) == 0:
        return found, []
    weight = scores[kept]
    winner = np.empty((height, width), np.int32)
    solid = np.empty((height, width), bool)
    own = torch.zeros(len(kept), dtype=torch.int64)
    for columns, logits in canvas.stripes(kept, 0):
        inside = logits.sigmoid()
        own += (inside >= 0.5).sum((0, 1))
        which = (inside * weight).argmax(-1)
        winner[:, columns] = which.T.numpy()
        solid[:, columns] = (inside.gather(-1, which[..., None])[..., 0] >= 0.5).T.numpy()
    won = np.bincount(winner.ravel(), minlength=len(kept))
    both = np.bincount(winner[solid], minlength=len(kept))
    segments: list[PanopticSegment] = []
    stuff: dict[int, int] = {}
    numbers = np.zeros(len(kept), np.int32)
    for k, query in enumerate(kept.tolist()):
        category = int(labels[query])
        if min(int(won[k]), int(own[k]), int(both[k])) == 0:
            continue
        if won[k] / int(own[k]) < overlap_threshold:
            continue
        thing = bool(is_thing[category])
        if not thing and category in stuff:
            numbers[k] = stuff[category]
            continue
        numbers[k] = len(segments) + 1
        segments.append(PanopticSegment(len(segments) + 1, category, thing, float(scores[query])))
        if not thing:
            stuff[category] = len(segments)
    # Only where the winning mask itself is more likely than not.
    found = np.where(solid, numbers[winner], 0).astype(np.int32)
    return found, segments


@dataclass(frozen=True)
class Instance:
    """One mask with a class.

    Attributes:
        rle: the mask.
        category: class number.
        score: probability of the class times mean probability inside of the mask.
    """

    rle: RLE
    category: int
    score: float


@torch.no_grad()
def instances(
    canvas: Canvas, probabilities: Tensor, wanted: Sequence[bool], top: int = 100
) -> list[Instance]:
    """The best pairs of a query and a class, best first.

    The ``top`` pairs of highest probability are taken first and of them those with a wanted class,
    as the published code does; empty masks score 0 and are dropped.

    Args:
        canvas: the masks.
        probabilities: (N, C + 1), last column "no object".
        wanted: per class, usually whether it is a thing.
        top: pairs.
    """
    pairs = probabilities[:, :-1].float().cpu()
    best = pairs.flatten().topk(min(top, pairs.numel()))
    masks: dict[int, tuple[RLE, float]] = {}
    found = []
    for value, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        query, category = divmod(place, pairs.shape[1])
        if not wanted[category]:
            continue
        if query not in masks:
            masks[query] = canvas.rle(query)
        rle, inside = masks[query]
        if inside > 0:
            found.append(Instance(rle, category, value * inside))
    return sorted(found, key=lambda one: -one.score)
