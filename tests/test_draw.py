"""Drawings: what is tinted, what is outlined, where labels go, at any picture size."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import ndimage

from anymask import draw
from anymask.draw import annotate, annotate_by_label, distinct_colors, erode
from anymask.errors import InputError, SegmentsError
from anymask.segments import Segments


def two_squares() -> tuple[np.ndarray[Any, Any], Segments]:
    masks = np.zeros((2, 60, 80), bool)
    masks[0, 10:50, 10:70] = True
    masks[1, 20:40, 30:60] = True
    return np.full((60, 80, 3), 100, np.uint8), Segments.from_masks(masks)


def test_tint_outline_and_background() -> None:
    pixels, segments = two_squares()
    red, green = (255, 0, 0), (0, 200, 0)
    drawn = np.asarray(annotate(pixels, segments, colors=[red, green], opacity=0.5))
    assert (drawn[0, 0] == 100).all()
    assert drawn[12, 12].tolist() == [177, 50, 50]
    assert drawn[10, 40].tolist() == list(red)
    # The smaller region is tinted once, not on top of the larger one.
    assert drawn[30, 45].tolist() == [50, 150, 50]
    assert drawn[20, 45].tolist() == list(green)
    assert (pixels == 100).all()


def test_without_outline_and_with_full_opacity() -> None:
    pixels, segments = two_squares()
    drawn = np.asarray(annotate(pixels, segments, opacity=1, outline=False))
    colors = distinct_colors(2)
    assert drawn[10, 10].tolist() == list(colors[0])
    assert drawn[20, 30].tolist() == list(colors[1])
    assert np.array_equal(np.asarray(annotate(pixels, segments, opacity=0, outline=False)), pixels)


def test_strips_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    image = skimage.data.coffee()[::2, ::2]
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    circles = [
        (y - cy) ** 2 + (x - cx) ** 2 < r * r for cy, cx, r in [(90, 100, 70), (60, 200, 90)]
    ]
    segments = Segments.from_masks(circles, labels=["cup", "spoon"])
    whole = np.asarray(annotate(image, segments))
    monkeypatch.setattr(draw, "_STRIP_PIXELS", 1000)
    assert np.array_equal(np.asarray(annotate(image, segments)), whole)


@settings(max_examples=50)
@given(npst.arrays(bool, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.integers(0, 8))
def test_erode(mask: np.ndarray[Any, Any], radius: int) -> None:
    diagonal = round(radius * (1 - np.sqrt(0.5)))
    straight = radius - 2 * diagonal
    expected = mask
    for dy, dx, reach in [(0, 1, straight), (1, 0, straight), (1, 1, diagonal), (1, -1, diagonal)]:
        line = np.zeros((2 * reach + 1, 2 * reach + 1), bool)
        for step in range(-reach, reach + 1):
            line[reach + step * dy, reach + step * dx] = True
        expected = ndimage.binary_erosion(expected, line, border_value=1)
    assert np.array_equal(erode(mask, radius), expected)


def test_colors_are_distinct_and_fixed() -> None:
    colors = distinct_colors(30)
    assert colors == distinct_colors(40)[:30]
    assert len(set(distinct_colors(200))) > 190
    assert all(0 <= value <= 255 for color in colors for value in color)
    for first, second in itertools.pairwise(colors):
        assert np.abs(np.subtract(first, second)).sum() > 100


def test_labels_are_written_inside_and_apart() -> None:
    pixels, segments = two_squares()
    big = np.kron(pixels, np.ones((6, 6, 1), np.uint8))
    masks = np.kron(segments.masks, np.ones((1, 6, 6), bool))
    named = Segments.from_masks(masks, labels=["table", "cup"], scores=[0.5, 0.25])
    plain = np.asarray(annotate(big, named.with_labels([None, None])))
    drawn = np.asarray(annotate(big, named))
    changed = (plain != drawn).any(axis=2)
    assert changed.any()
    parts, count = ndimage.label(ndimage.binary_closing(changed, np.ones((9, 9))))
    assert count == 2, ndimage.find_objects(parts)
    longer = np.asarray(annotate(big, named, scores=True))
    assert (plain != longer).any(axis=2).sum() > changed.sum()
    other = np.asarray(annotate(big, named, texts=["x", None]))
    assert 0 < (plain != other).any(axis=2).sum() < changed.sum()


def test_a_small_thing_is_not_hidden_by_its_label() -> None:
    mask = np.zeros((1, 300, 400), bool)
    mask[0, 150:158, 200:206] = True
    image = np.full((300, 400, 3), 50, np.uint8)
    segments = Segments.from_masks(mask, labels=["person"])
    bare = np.asarray(annotate(image, segments.with_labels([None])))
    drawn = np.asarray(annotate(image, segments))
    assert (drawn != bare).any()
    assert np.array_equal(drawn[mask[0]], bare[mask[0]])


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 3), (12, 40), (700, 9)])
def test_extreme_shapes(shape: tuple[int, int]) -> None:
    masks = np.ones((3, *shape), bool)
    masks[1, :, shape[1] // 2 :] = False
    masks[2] = False
    named = Segments.from_masks(masks, labels=["a very long label indeed", "b", "nothing"])
    drawn = annotate(np.zeros((*shape, 3), np.uint8), named)
    assert drawn.size == (shape[1], shape[0])
    assert np.asarray(drawn).any()


def test_sizes_grow_with_the_picture() -> None:
    assert draw.line_width((480, 640)) == 1
    assert draw.line_width((6000, 8000)) == 17
    assert draw.font_size((480, 640)) == 15
    assert draw.font_size((6000, 8000)) == 182
    assert draw.font_size((1, 1)) == 9


def test_no_regions() -> None:
    image = skimage.data.chelsea()
    assert np.array_equal(np.asarray(annotate(image, Segments.empty(image.shape[:2]))), image)


def test_many_regions() -> None:
    masks = np.zeros((300, 20, 30), bool)
    masks[np.arange(300), np.arange(300) // 15, np.arange(300) % 30] = True
    assert annotate(np.zeros((20, 30, 3), np.uint8), Segments.from_masks(masks)).size == (30, 20)


def test_plot_and_a_font_of_ones_own() -> None:
    pixels, segments = two_squares()
    assert isinstance(segments.plot(pixels), PIL.Image.Image)
    with pytest.raises(InputError, match="font"):
        annotate(pixels, segments.with_labels(["a", "b"]), font="no-such-font.ttf")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"texts": ["a"]}, "1 texts for 2 regions"),
        ({"colors": [(1, 2, 3)]}, "1 colors for 2 regions"),
        ({"opacity": 1.5}, "opacity"),
    ],
)
def test_malformed_options(options: dict[str, Any], message: str) -> None:
    pixels, segments = two_squares()
    with pytest.raises(InputError, match=message):
        annotate(pixels, segments, **options)


def test_another_picture() -> None:
    _, segments = two_squares()
    with pytest.raises(SegmentsError, match="this one has"):
        annotate(np.zeros((80, 60, 3), np.uint8), segments)


def test_one_colour_a_label_and_a_legend() -> None:
    masks = np.zeros((3, 60, 80), bool)
    masks[0, :, :20], masks[1, :, 20:40], masks[2, :, 60:] = True, True, True
    segments = Segments.from_masks(masks).with_labels(["cat", "dog", "cat"])
    drawn = np.asarray(annotate_by_label(np.full((60, 80, 3), 128, np.uint8), segments))
    assert drawn.shape[1] == 80
    assert drawn.shape[0] > 60
    assert (drawn[30, 10] == drawn[30, 70]).all()
    assert (drawn[30, 10] != drawn[30, 30]).any()
    below = drawn[60:].reshape(-1, 3)
    assert (below == 255).all(1).mean() > 0.3  # white ground
    colors = {tuple(color) for color in below.tolist()}
    assert {tuple(c) for c in distinct_colors(2)} <= colors
    nothing = annotate_by_label(np.zeros((20, 30, 3), np.uint8), Segments.empty((20, 30)))
    assert nothing.size == (30, 20)
