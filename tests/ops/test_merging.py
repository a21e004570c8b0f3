"""Maps from masks that overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anymask.errors import InputError
from anymask.methods.named_map import as_map
from anymask.ops.merging import mask_wise, merged
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary


def span(begin: int, end: int, pixels: int = 400) -> np.ndarray:
    mask = np.zeros(pixels, bool)
    mask[begin:end] = True
    return mask.reshape(20, -1)


O13 = [span(0, 200), span(150, 350), span(190, 400), span(0, 400)]


def test_o13_the_demonstrations_rule() -> None:
    numbers, kept = merged(O13, [0.9, 0.8, 0.5, 0.1])
    assert kept == [0, 2]
    assert (numbers.ravel()[:200] == 1).all()
    assert (numbers.ravel()[200:] == 2).all()


def test_kmax_joins_stuff_and_not_things() -> None:
    masks = [span(0, 100), span(100, 200), span(90, 190), span(300, 380)]
    stuff = [False] * 4
    numbers, kept = mask_wise(masks, [0.9, 0.8, 0.7, 0.6], [5, 5, 5, 7], stuff)
    assert kept == [0, 3]
    assert (numbers.ravel()[:200] == 1).all()  # the third lost all but nothing
    assert (numbers.ravel()[300:380] == 2).all()
    _, kept = mask_wise(masks, [0.9, 0.8, 0.7, 0.6], [5, 5, 5, 7], [True] * 4)
    assert kept == [0, 1, 3]
    # More than the share must be left, not just as much: 80 of 100.
    _, kept = mask_wise([span(0, 20), span(0, 100)], [0.9, 0.8], [1, 2], [True] * 2)
    assert kept == [0]
    _, kept = mask_wise([span(0, 19), span(0, 100)], [0.9, 0.8], [1, 2], [True] * 2)
    assert kept == [0, 1]
    assert mask_wise([], [], [], [])[1] == []


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_every_pixel_has_one_owner_who_covers_it(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((12, 15)) < rng.uniform(0.05, 0.9) for _ in range(count)]
    classes = rng.integers(0, 3, count).tolist()
    things = [c == 0 for c in classes]
    numbers, kept = mask_wise(masks, rng.random(count).tolist(), classes, things)
    for number, row in enumerate(kept, 1):
        same = [k for k in range(count) if classes[k] == classes[row]]
        allowed = masks[row] if things[row] else np.any([masks[k] for k in same], 0)
        assert not (numbers == number)[~allowed].any()
        assert (numbers == number).any() or not masks[row].any()
    stuff = [classes[row] for row in kept if not things[row]]
    assert len(stuff) == len(set(stuff))


def named() -> Segments:
    return Segments.from_masks(
        np.stack([span(0, 200), span(150, 350), span(200, 300), span(300, 400), span(0, 400)]),
        scores=[0.9, 0.9, 0.8, 0.7, 0.9],
        labels=["sky", "cup", "sky", "cup", None],
        label_scores=[0.9, 0.3, 0.8, 0.7, 0.9],
        label_sources=["m", "m", "m", "m", None],
    )


def test_maps_of_names() -> None:
    words = Vocabulary.of(["cup"])
    assert as_map(named(), "objects") is not None
    free = as_map(named(), "panoptic")
    assert free.labels == ("sky", "sky", "cup")
    assert sum(free.areas) == 400
    words = Vocabulary.from_names(["sky", "cup"])
    from dataclasses import replace

    kinds = tuple(replace(c, is_thing=c.name == "cup") for c in words.categories)
    words = replace(words, categories=kinds)
    found = as_map(named(), "panoptic", words)
    assert found.labels == ("sky", "cup")
    assert found.areas.tolist() == [300, 100]
    assert found.label_scores[0] == pytest.approx(0.9)
    assert as_map(named(), "semantic", words).labels == ("cup", "sky")
    assert as_map(named(), "semantic").areas.tolist() == [100, 300]
    # Names outside of the vocabulary and very unsure ones are left out.
    only = as_map(named(), "panoptic", Vocabulary.of(["sky"]))
    assert set(only.labels) == {"sky"}
    unsure = named().with_labels(["sky"] * 5, [0.05] * 5)
    assert len(as_map(unsure, "panoptic", words)) == 0
    assert len(as_map(Segments.empty((5, 6)), "semantic", words)) == 0
    with pytest.raises(InputError, match="panoptic"):
        as_map(named(), "pan")  # type: ignore[arg-type]
