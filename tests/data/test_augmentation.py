"""Augmentation keeps pictures and masks together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import ellipses
from scipy.ndimage import binary_dilation, binary_erosion

from anymask.data.augmentation import (
    PAD_VALUE,
    Sample,
    color_jitter,
    copy_paste,
    drop_small,
    large_scale_jitter,
)

CROSS = np.ones((3, 3), bool)


def sample_of(seed: int, height: int = 60, width: int = 80) -> Sample:
    """The masks are painted in pure colours, so that pixels tell where they went."""
    _, masks = ellipses(seed, height, width, objects=2)
    image = np.zeros((height, width, 3), np.uint8)
    image[masks[0]] = (255, 0, 0)
    if len(masks) > 1:
        image[masks[1]] = (0, 255, 0)
    labels = np.arange(len(masks), dtype=np.int64)
    return Sample(image, masks, labels, masks.any(0))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 50),
    draw=st.integers(0, 1000),
    anchor=st.sampled_from(["corner", "anywhere"]),
    size=st.sampled_from([32, 64, 96]),
)
def test_masks_stay_on_their_objects(seed: int, draw: int, anchor: str, size: int) -> None:
    rng = np.random.default_rng(draw)
    out = large_scale_jitter(sample_of(seed), size, rng, scale=(0.5, 2.0), anchor=anchor)
    assert out.image.shape == (size, size, 3)
    assert out.masks.shape == (len(out.labels), size, size)
    painted = [(out.image[..., channel] > 127) & (out.image[..., 2] < 60) for channel in (0, 1)]
    for mask, colour in zip(out.masks, painted, strict=False):
        # Bilinear pixels and nearest masks differ along the outline only. The outline of what lies
        # just outside of the canvas is not known, so its margin does not count.
        inner, outer = binary_erosion(mask, CROSS, 3), binary_dilation(mask, CROSS, 3)
        margin = binary_erosion(np.ones_like(mask), CROSS, 3)
        assert colour[inner].all()
        assert not colour[margin & ~outer].any()
    padding = (out.image == PAD_VALUE).all(-1)
    assert out.labelled[padding].all()
    assert not out.masks[:, padding].any()


def test_jitter_is_a_function_of_its_generator() -> None:
    one, two = (
        large_scale_jitter(sample_of(1), 64, np.random.default_rng(5), anchor="anywhere")
        for _ in range(2)
    )
    assert (one.image == two.image).all()
    assert (one.masks == two.masks).all()


def test_the_papers_jitter_pads_right_and_below() -> None:
    out = large_scale_jitter(sample_of(1), 64, np.random.default_rng(0), scale=(0.5, 0.5), flip=0.0)
    assert (out.image[24:] == PAD_VALUE).all()
    assert (out.image[:, 32:] == PAD_VALUE).all()
    assert not (out.image[:24, :32] == PAD_VALUE).all()


def test_copy_paste_covers_and_counts_as_labelled() -> None:
    below, above = sample_of(1), sample_of(2)
    out = copy_paste(below, above, np.random.default_rng(0), share=1.0)
    covered = above.masks.any(0)
    pasted = out.masks[-len(above.masks) :]
    assert (pasted == above.masks).all()
    assert not out.masks[: -len(above.masks)][:, covered].any()
    assert (out.image[covered] == above.image[covered]).all()
    assert (out.image[~covered] == below.image[~covered]).all()
    assert (out.labelled == (below.labelled | covered)).all()


def test_copy_paste_without_objects_changes_nothing() -> None:
    below = sample_of(1)
    empty = Sample(below.image, below.masks[:0], below.labels[:0], below.labelled)
    assert copy_paste(below, empty, np.random.default_rng(0)) is below
    assert copy_paste(below, below, np.random.default_rng(0), share=0.0) is below


@pytest.mark.parametrize("strength", [0.1, 0.9])
def test_colour_leaves_the_masks_alone(strength: float) -> None:
    before = sample_of(3)
    after = color_jitter(before, np.random.default_rng(1), strength)
    assert after.image.dtype == np.uint8
    assert (after.masks == before.masks).all()
    assert (after.image != before.image).any()


def test_small_masks_are_dropped_and_their_place_stays_as_it_was() -> None:
    before = sample_of(4)
    areas = before.masks.sum((1, 2))
    after = drop_small(before, int(areas.max()))
    assert len(after.masks) == (areas == areas.max()).sum()
    assert (after.labelled == before.labelled).all()
