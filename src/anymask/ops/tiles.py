"""Large pictures in overlapping tiles, and one object out of its pieces.

Tiles overlap by a band, so that every object smaller than the band lies whole in some tile, and
pieces of a larger one can be compared where two tiles see the same pixels. All comparing and
joining happens on run lengths; nothing of the size of the picture is ever decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from anymask.errors import InputError
from anymask.image import Image
from anymask.ops import rle as rle_ops
from anymask.ops.masks import nms
from anymask.ops.rle import RLE
from anymask.segments import Segments

OVERLAP = 0.25  # of a tile's side
SAME = 0.5  # IoU inside the common band from which two pieces are one object
DUPLICATE = 0.7  # IoU from which two whole proposals are one object
CUT = 2  # pixels: a mask this close to an inner border of its tile may be cut there


@dataclass(frozen=True)
class Tile:
    """A window of a picture in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    def common(self, other: Tile) -> Tile | None:
        """What both see, or None."""
        top, left = max(self.top, other.top), max(self.left, other.left)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        return Tile(top, left, bottom, right) if top < bottom and left < right else None


def plan_tiles(size: tuple[int, int], side: int, overlap: float = OVERLAP) -> list[Tile]:
    """Tiles that cover a picture, evenly spread.

    Args:
        size: (height, width) of the picture.
        side: of a tile in pixels.
        overlap: least overlap of neighbours, as a share of ``side``, in 0..0.9.

    Raises:
        InputError: ``side`` is below 1 or ``overlap`` out of range.
    """
    if side < 1 or not 0 <= overlap <= 0.9:
        raise InputError(
            f"a tile has a side of at least 1 and an overlap of 0 to 0.9, not {side}, {overlap}"
        )
    rows, columns = (_starts(length, side, overlap) for length in size)
    return [
        Tile(top, left, min(top + side, size[0]), min(left + side, size[1]))
        for top in rows
        for left in columns
    ]


def _starts(length: int, side: int, overlap: float) -> list[int]:
    if length <= side:
        return [0]
    step = max(1, int(side * (1 - overlap)))
    count = -(-(length - side) // step) + 1
    return [round(k * (length - side) / (count - 1)) for k in range(count)]


def merge_tiles(size: tuple[int, int], tiles: list[Tile], found: list[Segments]) -> Segments:
    """Segments of all tiles as segments of the picture, every object once.

    Two proposals of different tiles are pieces of one object when one of them is cut by its tile's
    border and, within the band both tiles see, their masks agree (IoU of at least 0.5). Pieces are
    united; the score is the mean over pieces, weighted by area. What several tiles saw whole is
    kept once, from the tile with the best score.

    Args:
        size: (height, width) of the picture.
        tiles: the windows.
        found: per tile its segments, of the tile's size.
    """
    pieces: list[tuple[int, RLE]] = []  # tile and mask, in picture coordinates
    rows: list[Segments] = []
    for number, (tile, segments) in enumerate(zip(tiles, found, strict=True)):
        for row, rle in enumerate(segments.rles):
            placed = rle_ops.place(rle, size, tile.top, tile.left)
            pieces.append((number, placed))
            rows.append(segments[row])
    if not pieces:
        return Segments.empty(size)
    boxes = rle_ops.boxes([rle for _, rle in pieces])
    cut = [
        _is_cut(box, tiles[number], size) for box, (number, _) in zip(boxes, pieces, strict=True)
    ]
    owner = list(range(len(pieces)))

    def root(index: int) -> int:
        while owner[index] != index:
            owner[index] = owner[owner[index]]
            index = owner[index]
        return index

    # The best agreement first, and never two proposals of one tile in one object: that tile saw
    # them apart.
    links = []
    for a in range(len(pieces)):
        for b in range(a + 1, len(pieces)):
            if pieces[a][0] != pieces[b][0] and (cut[a] or cut[b]):
                agreement = _agreement(pieces[a], pieces[b], boxes[a], boxes[b], tiles)
                if agreement >= SAME:
                    links.append((agreement, a, b))
    members = {index: {pieces[index][0]} for index in owner}
    for _, a, b in sorted(links, key=lambda link: (-link[0], link[1], link[2])):
        one, two = root(a), root(b)
        if one != two and not members[one] & members[two]:
            owner[two] = one
            members[one] |= members[two]
    groups: dict[int, list[int]] = {}
    for index in range(len(pieces)):
        groups.setdefault(root(index), []).append(index)
    masks, scores = [], []
    for group in groups.values():
        # A piece that some tile saw whole needs no help from those that saw it cut.
        masks.append(rle_ops.merge([pieces[index][1] for index in group]))
        areas = np.array([max(1, int(rows[index].areas[0])) for index in group], float)
        own = np.array([float(rows[index].scores[0]) for index in group])
        scores.append(float((areas * np.nan_to_num(own, nan=1.0)).sum() / areas.sum()))
    united = Segments(size, masks, scores=scores)
    return united[nms(united, iou_threshold=DUPLICATE)]


def _is_cut(box: np.ndarray, tile: Tile, size: tuple[int, int]) -> bool:
    left, top, right, bottom = box
    return bool(
        (tile.top > 0 and top < tile.top + CUT)
        or (tile.left > 0 and left < tile.left + CUT)
        or (tile.bottom < size[0] and bottom > tile.bottom - CUT)
        or (tile.right < size[1] and right > tile.right - CUT)
    )


def _agreement(
    one: tuple[int, RLE],
    two: tuple[int, RLE],
    box_one: np.ndarray,
    box_two: np.ndarray,
    tiles: list[Tile],
) -> float:
    """IoU of two masks within what both tiles see; 0 when they do not meet there."""
    if min(box_one[2], box_two[2]) <= max(box_one[0], box_two[0]) or min(
        box_one[3], box_two[3]
    ) <= max(box_one[1], box_two[1]):
        return 0.0
    band = tiles[one[0]].common(tiles[two[0]])
    if band is None:
        return 0.0
    shape = (band.bottom - band.top, band.right - band.left)
    inside = [rle_ops.place(rle, shape, -band.top, -band.left) for _, rle in (one, two)]
    return float(rle_ops.iou(inside[:1], inside[1:])[0, 0])


def discover_in_tiles(
    discover: Callable[[Image], Segments], image: Image, side: int, overlap: float = OVERLAP
) -> Segments:
    """Search the whole picture and every tile, and join what was found.

    The whole picture finds what is larger than a tile, the tiles find what is small. An object of
    the whole pass is dropped when the tiles found it too, because they see it sharper.

    Args:
        discover: picture -> segments.
        image: the picture.
        side: of a tile in pixels.
        overlap: see :func:`plan_tiles`.

    Returns:
        Segments of the picture, best first.
    """
    tiles = plan_tiles(image.size, side, overlap)
    found = []
    for tile in tiles:
        window = image.pixels[tile.top : tile.bottom, tile.left : tile.right]
        found.append(discover(Image(window, image.path)))
    fine = merge_tiles(image.size, tiles, found)
    whole = discover(image)
    if len(whole) and len(fine):
        overlap_of = rle_ops.iou(whole.rles, fine.rles)
        whole = whole[overlap_of.max(1) <= DUPLICATE]
    return (fine + whole).sorted_by_score()
