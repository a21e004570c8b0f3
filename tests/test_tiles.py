"""Every object comes out of the tiles once and whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anymask.errors import InputError
from anymask.image import Image
from anymask.ops.rle import encode, iou
from anymask.ops.tiles import Tile, discover_in_tiles, merge_tiles, plan_tiles
from anymask.segments import Segments


def in_tiles(masks: np.ndarray, side: int, overlap: float = 0.25) -> Segments:
    """What an oracle that sees each tile alone says: every mask cropped to the tile."""
    size = masks.shape[1:]
    tiles = plan_tiles(size, side, overlap)
    found = []
    for tile in tiles:
        cropped = masks[:, tile.top : tile.bottom, tile.left : tile.right]
        cropped = cropped[cropped.any((1, 2))]
        found.append(Segments.from_masks(cropped, scores=np.ones(len(cropped))))
    return merge_tiles(size, tiles, found)


def disc(size: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    side=st.integers(1, 120),
    overlap=st.floats(0, 0.8),
)
@settings(max_examples=100, deadline=None)
def test_tiles_cover_the_picture(height: int, width: int, side: int, overlap: float) -> None:
    tiles = plan_tiles((height, width), side, overlap)
    seen = np.zeros((height, width), bool)
    for tile in tiles:
        assert 0 <= tile.top < tile.bottom <= height
        assert 0 <= tile.left < tile.right <= width
        assert tile.bottom - tile.top <= side
        seen[tile.top : tile.bottom, tile.left : tile.right] = True
    assert seen.all()


def test_an_object_across_four_tiles_comes_out_once() -> None:
    size = (200, 200)
    tiles = plan_tiles(size, 116)
    assert len(tiles) == 4
    mask = disc(size, 100, 100, 60)
    merged = in_tiles(mask[None], 116)
    assert len(merged) == 1
    assert iou(merged.rles, [encode(mask)])[0, 0] >= 0.9


@given(
    y=st.floats(20, 280),
    x=st.floats(20, 280),
    radius=st.floats(3, 110),
    side=st.sampled_from([96, 128, 160]),
)
@settings(max_examples=60, deadline=None)
def test_one_disc_anywhere_of_any_size(y: float, x: float, radius: float, side: int) -> None:
    mask = disc((300, 300), y, x, radius)
    merged = in_tiles(mask[None], side)
    assert len(merged) == 1
    assert iou(merged.rles, [encode(mask)])[0, 0] >= 0.9


@given(
    middle=st.integers(60, 240),
    y=st.integers(90, 210),
    reach=st.integers(25, 80),
)
@settings(max_examples=40, deadline=None)
def test_touching_objects_stay_two(middle: int, y: int, reach: int) -> None:
    masks = np.zeros((2, 300, 300), bool)
    masks[0, y - reach : y + reach, max(0, middle - 2 * reach) : middle] = True
    masks[1, y - reach : y + reach, middle : middle + 2 * reach] = True
    merged = in_tiles(masks, 128)
    overlap = iou(merged.rles, [encode(mask) for mask in masks])
    assert len(merged) == 2
    assert (overlap.max(0) >= 0.9).all()


def test_the_whole_pass_adds_what_is_larger_than_a_tile() -> None:
    image = Image(np.zeros((256, 256, 3), np.uint8), None)
    large = disc((256, 256), 128, 128, 120)

    def discover(picture: Image) -> Segments:
        if picture.size == (256, 256):
            return Segments.from_masks(large[None], scores=np.array([0.5]))
        return Segments.empty(picture.size)

    found = discover_in_tiles(discover, image, 64)
    assert len(found) == 1
    assert iou(found.rles, [encode(large)])[0, 0] == 1.0


def test_what_both_passes_find_comes_out_once() -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    mask = disc((256, 256), 100, 120, 30)
    pixels[mask] = 255

    def discover(picture: Image) -> Segments:
        inside = picture.pixels[..., 0] > 0
        if not inside.any():
            return Segments.empty(picture.size)
        return Segments.from_masks(inside[None], scores=np.array([0.9]))

    found = discover_in_tiles(discover, Image(pixels, None), 128)
    assert len(found) == 1
    assert iou(found.rles, [encode(mask)])[0, 0] >= 0.99
    assert found.scores[0] == pytest.approx(0.9)


def test_bad_plans_are_refused() -> None:
    with pytest.raises(InputError):
        plan_tiles((10, 10), 0)
    with pytest.raises(InputError):
        plan_tiles((10, 10), 5, overlap=0.95)
    assert Tile(0, 0, 5, 5).common(Tile(5, 5, 9, 9)) is None
