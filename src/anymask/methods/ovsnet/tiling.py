"""Matching large pictures in overlapping tiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from anymask.image import Image
from anymask.ops.rle import encode_label_map
from anymask.ops.tiles import merge_tiles, plan_tiles
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

if TYPE_CHECKING:
    from anymask.methods.ovsnet.inference import OVSNetMatcher


def match_in_tiles(
    matcher: OVSNetMatcher,
    image: Image,
    vocabulary: Vocabulary,
    task: str,
    side: int,
    *,
    min_score: float,
    max_segments: int,
    void_threshold: float | None,
) -> Segments:
    """Semantic: every pixel as the tile says in whose middle it lies most. Instances: merged.

    Args:
        matcher: the model.
        image: the picture.
        vocabulary: the words.
        task: ``"semantic"`` or ``"instance"``.
        side: of the tiles in pixels.
        min_score, max_segments, void_threshold: of the matcher.
    """
    tiles = plan_tiles(image.size, side)
    windows = [
        Image(np.ascontiguousarray(image.pixels[t.top : t.bottom, t.left : t.right])) for t in tiles
    ]
    if task == "instance":
        pieces = [matcher(w, vocabulary, "instance", max_segments=max_segments) for w in windows]
        parts = []
        # One word at a time, so that only pieces of the same word are joined.
        for word in dict.fromkeys(label for piece in pieces for label in piece.labels):
            mine = [p[np.array([label == word for label in p.labels], bool)] for p in pieces]
            joined = merge_tiles(image.size, tiles, mine)
            parts.append(joined.with_labels([word] * len(joined), joined.scores, "ovsnet"))
        found = Segments.concat(parts).sorted_by_score() if parts else Segments.empty(image.size)
        return found[found.scores >= min_score][:max_segments]
    classes = np.full(image.size, -1, np.int64)
    nearest = np.full(image.size, -1.0, np.float32)
    for tile, window in zip(tiles, windows, strict=True):
        rows, columns = slice(tile.top, tile.bottom), slice(tile.left, tile.right)
        labels = matcher.label_map(window, vocabulary, void_threshold)
        height, width = labels.shape
        depth = np.minimum(_depth(height)[:, None], _depth(width)[None])
        better = depth > nearest[rows, columns]
        classes[rows, columns][better] = labels[better]
        nearest[rows, columns][better] = depth[better]
    masks: dict[int, Any] = encode_label_map(classes)
    masks.pop(-1, None)
    order = sorted(masks)
    return Segments(
        image.size,
        [masks[k] for k in order],
        labels=[vocabulary.names[k] for k in order],
        label_sources=["ovsnet"] * len(order),
        ids=[vocabulary.ids[k] for k in order],
    )


def _depth(length: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """How far each pixel lies inside: (length,)."""
    place = np.arange(length, dtype=np.float32)
    return np.minimum(place, length - 1 - place)
