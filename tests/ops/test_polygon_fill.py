"""OpenCV's polygon rule: cases worked out by hand, and what must hold for any polygon."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from anymask.ops.polygon_fill import fill_polygons


def shown(mask: np.ndarray) -> list[str]:
    return ["".join(".#"[int(v)] for v in row) for row in mask]


def test_by_hand() -> None:
    # The outline belongs to the inside, on every side.
    assert shown(fill_polygons([[(1, 1), (3, 1), (3, 2), (1, 2)]], (4, 5))) == [
        ".....", ".###.", ".###.", ".....",
    ]  # fmt: skip
    # Coordinates are cut off, not rounded; half a pixel is not yet the next one.
    assert shown(fill_polygons([[(0.9, 0.9), (4.9, 2.2), (0.2, 2.9)]], (3, 5))) == [
        "##...", "####.", "#####",
    ]  # fmt: skip
    # Two rings are joined; a single point is one pixel; corners outside are cut off.
    assert shown(fill_polygons([[(0, 0)], [(3, -5), (9, -5), (9, 1), (3, 1)]], (3, 5))) == [
        "#..##", "...##", ".....",
    ]  # fmt: skip


corner = st.tuples(st.integers(0, 23), st.integers(0, 17))


@given(st.lists(corner, min_size=3, max_size=9), st.integers(0, 8))
def test_any_polygon(ring: list[tuple[int, int]], turn: int) -> None:
    size = (18, 24)
    mask = fill_polygons([ring], size)
    for x, y in ring:
        assert mask[y, x]
    turned = ring[turn % len(ring) :] + ring[: turn % len(ring)]
    np.testing.assert_array_equal(fill_polygons([turned], size), mask)
    np.testing.assert_array_equal(fill_polygons([ring, ring], size), mask)
    # Pillow's rule for lines differs by pixels of the outline only.
    other = Image.new("L", size[::-1])
    ImageDraw.Draw(other).polygon(ring, fill=1, outline=1)
    line = Image.new("L", size[::-1])
    ImageDraw.Draw(line).line([*ring, ring[0]], fill=1, width=3)
    differs = mask != (np.asarray(other) > 0)
    assert not (differs & ~(np.asarray(line) > 0)).any()
