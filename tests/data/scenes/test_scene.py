"""The truth of a scene is exact, complete and the same everywhere."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from anymask.data.scenes import Scene, make_scene
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.dice import Dice
from anymask.data.scenes.palette import COLORS, PATTERNS, STUFF, noise
from anymask.data.scenes.raster import Ellipse, Outline, Polygon, Pose
from anymask.data.scenes.scene import LEAST_VISIBLE, SceneObject
from anymask.errors import InputError


def digest(scene: Scene) -> str:
    sha = hashlib.sha256(scene.image.tobytes())
    for values in (scene.instance_map, scene.part_map, scene.stuff_map):
        sha.update(values.tobytes())
    return sha.hexdigest()[:16]


@pytest.mark.parametrize(
    ("seed", "index", "size", "split", "expected"),
    [
        (0, 0, 256, "train", "6f3486878d70031c"),
        (0, 1, 256, "val", "93dc69d6dc46551e"),
        (7, 3, 97, "val", "ec7b5427d481e6a1"),
        (7, 3, 1024, "train", "d65203967c843473"),
    ],
)
def test_same_seed_same_bytes_on_every_machine(
    seed: int, index: int, size: int, split: str, expected: str
) -> None:
    assert digest(make_scene(seed, index, size, split)) == expected  # type: ignore[arg-type]


def test_other_numbers_give_other_scenes() -> None:
    scenes = [make_scene(*key) for key in [(0, 0), (0, 1), (1, 0)]]  # type: ignore[arg-type]
    scenes.append(make_scene(0, 0, split="val"))
    assert len({digest(scene) for scene in scenes}) == 4


def test_the_world_is_as_rich_as_it_says() -> None:
    assert len(THINGS) >= 60
    assert len({thing.name for thing in THINGS}) == len(THINGS)
    assert len(STUFF) >= 8
    assert sum(len(thing.parts) > 1 for thing in THINGS) >= 40
    words = [word for thing in THINGS for word in (thing.name, *thing.synonyms)]
    assert not [word for word, count in Counter(words).items() if count > 1]
    for thing in THINGS:
        assert set(thing.colors) <= set(COLORS), thing.name
        assert any(layer.paint == "main" for layer in thing.layers), thing.name


def test_groups_and_long_tail() -> None:
    train = [make_scene(3, k, 32, "train") for k in range(400)]
    val = [make_scene(3, k, 32, "val") for k in range(400)]
    groups = [{o.thing.group for s in scenes for o in s.objects} for scenes in (train, val)]
    assert groups == [{"known", "seen"}, {"known", "seen", "unseen"}]
    counts = Counter(o.thing.name for s in val for o in s.objects)
    assert set(counts) == {thing.name for thing in THINGS}
    ranked = sorted(counts.values())
    assert ranked[-1] > 5 * ranked[0]
    stuff = {name for s in val for name in s.stuff()}
    assert stuff == {kind.name for kind in STUFF}
    looks = {(o.color, o.pattern) for s in val for o in s.objects}
    assert {color for color, _ in looks} == set(COLORS)
    assert {pattern for _, pattern in looks} == set(PATTERNS)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**9),
    index=st.integers(0, 10**6),
    size=st.integers(32, 200),
    split=st.sampled_from(["train", "val"]),
)
def test_every_pixel_has_one_owner(seed: int, index: int, size: int, split: str) -> None:
    scene = make_scene(seed, index, size, split)  # type: ignore[arg-type]
    masks = [scene.mask(k) for k in range(len(scene.objects))]
    everything = np.stack([*masks, *scene.stuff().values()])
    assert (everything.sum(0) == 1).all()
    for k, found in enumerate(scene.objects):
        parts = scene.parts(k)
        assert set(parts) <= set(found.thing.parts)
        assert (np.stack(list(parts.values())).sum(0) == masks[k]).all()
        assert masks[k].sum() == found.area
        ys, xs = np.nonzero(masks[k])
        assert found.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        assert LEAST_VISIBLE / 100 <= found.visible <= 1
    segments = scene.segments()
    assert list(segments.labels) == [found.thing.name for found in scene.objects]
    assert segments.areas.tolist() == [found.area for found in scene.objects]


# ------------------------------------------------------------ a second way from outline to pixels

FINE = 5  # samples a pixel and axis; the middle one decides


def outline_points(outline: Outline) -> list[tuple[float, float]]:
    if isinstance(outline, Polygon):
        return list(outline.points)
    angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
    return [
        (outline.x + outline.rx * np.cos(a), outline.y + outline.ry * np.sin(a)) for a in angles
    ]


def drawn(found: SceneObject, size: int) -> NDArray[np.bool_]:
    """The whole thing by Pillow's scan lines, with the pose applied by real sines."""
    canvas = PIL.Image.new("1", (size * FINE, size * FINE))
    draw = PIL.ImageDraw.Draw(canvas)
    pose, angle = found.pose, np.radians(found.pose.angle)
    for layer in found.thing.layers:
        points = []
        for u, v in outline_points(layer.outline):
            a = (-u if pose.mirrored else u) * pose.width / 2
            b = v * pose.height / 2
            x = pose.x / 2 + np.cos(angle) * a - np.sin(angle) * b
            y = pose.y / 2 + np.sin(angle) * a + np.cos(angle) * b
            points.append((x * FINE - 0.5, y * FINE - 0.5))
        draw.polygon(points, fill=0 if layer.paint == "cut" else 1)
    return np.asarray(canvas)[FINE // 2 :: FINE, FINE // 2 :: FINE]


def near_outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(binary_dilation(mask & ~binary_erosion(mask, border_value=1)))


@pytest.mark.parametrize("index", range(8))
def test_masks_agree_with_a_second_rasterisation(index: int) -> None:
    scene = make_scene(21, index, 256, "val")
    covered = np.zeros((256, 256), bool)
    for k, found in enumerate(scene.objects):
        other = drawn(found, 256) & ~covered
        mask = scene.mask(k)
        covered |= mask
        border = near_outline(mask) | near_outline(other)
        assert not (mask ^ other)[~border].any(), found.thing.name
        if found.area > 400:
            assert (mask & other).sum() / (mask | other).sum() > 0.9, found.thing.name


def test_a_disc_has_the_area_of_a_disc() -> None:
    pose = Pose(201, 201, 160, 160, 30)
    window = pose.window((-1, -1, 1, 1), 256)
    inside = Ellipse(0, 0, 1, 1).inside(*pose.to_unit(window))
    assert inside.sum() == pytest.approx(np.pi * 80**2, rel=0.005)


# ----------------------------------------------------------------------------------- arguments


@pytest.mark.parametrize(
    "arguments",
    [(0, 0, 31), (0, 0, 1025), (-1, 0, 64), (0, -1, 64), (0, 0, 64, "test")],
)
def test_bad_arguments_say_what_is_allowed(arguments: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"32 to 1024|0 or larger|train or val"):
        make_scene(*arguments)  # type: ignore[arg-type]


def test_dice_are_fair() -> None:
    dice = Dice(5)
    counts = np.bincount([dice.below(6) for _ in range(6000)], minlength=6)
    assert counts.min() > 880
    assert counts.max() < 1120
    drawn_ = Counter(dice.weighted("abc", [1, 2, 7]) for _ in range(5000))
    assert 0.66 < drawn_["c"] / 5000 < 0.74
    assert sorted(dice.some(range(5), 9)) == [0, 1, 2, 3, 4]
    assert {dice.between(3, 5) for _ in range(100)} == {3, 4, 5}


def test_noise_is_smooth_and_wraps() -> None:
    for coarseness in (0, 3, 6):
        field = noise(coarseness).astype(int)
        steps = np.abs(np.diff(np.concatenate([field, field[:1]]), axis=0))
        assert field.std() > 20
        assert steps.max() <= 256 >> coarseness or coarseness == 0
