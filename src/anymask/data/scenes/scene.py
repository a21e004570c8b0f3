"""One scene: what stands where, the picture, and the exact truth.

Things are placed from the front to the back, and a pixel belongs to the first thing that claims
it. So every mask is exact by construction, occlusion is known, and nothing is painted twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anymask.data.scenes.categories import THINGS, Thing, frequency_weights
from anymask.data.scenes.dice import Dice
from anymask.data.scenes.palette import (
    COLORS,
    MATERIALS,
    PATTERNS,
    STUFF,
    jitter,
    patch,
    pattern_cells,
    pattern_color,
)
from anymask.data.scenes.raster import Pose
from anymask.errors import InputError
from anymask.image import Image
from anymask.ops.rle import encode
from anymask.segments import Segments
from anymask.vocabulary import Group

Split = Literal["train", "val"]
SPLITS: dict[str, tuple[Group, ...]] = {
    "train": ("known", "seen"),
    "val": ("known", "seen", "unseen"),
}
SMALLEST, LARGEST = 32, 1024
LEAST_VISIBLE = 45  # percent of a thing that must show
LEAST_PIXELS = 24  # of a 256-pixel picture, and never fewer than 4


@dataclass(frozen=True)
class SceneObject:
    """A thing that stands in a scene.

    Attributes:
        thing: its category.
        color, pattern: of its ``main`` paint, as words.
        pose: where it stands.
        visible: share of its pixels inside the picture that nothing covers, 0..1.
        area: visible pixels.
        box: x0, y0, x1, y1 of its visible pixels; x1 and y1 lie behind the last pixel.
    """

    thing: Thing
    color: str
    pattern: str
    pose: Pose
    visible: float
    area: int
    box: tuple[int, int, int, int]

    @property
    def center(self) -> tuple[float, float]:
        """Middle of the box, x and y in pixels."""
        x0, y0, x1, y1 = self.box
        return (x0 + x1) / 2, (y0 + y1) / 2


@dataclass(frozen=True, eq=False)
class Scene:
    """A picture with everything there is to know about it.

    Attributes:
        seed, index, split: what it was made from.
        image: (S, S, 3) uint8.
        objects: front first.
        instance_map: (S, S) uint8; k + 1 where objects[k] shows, 0 on stuff.
        part_map: (S, S) uint8; k + 1 where part ``thing.parts[k]`` shows, 0 on stuff.
        stuff_map: (S, S) uint8; position in ``STUFF`` of what lies behind everything.
    """

    seed: int
    index: int
    split: Split
    image: NDArray[np.uint8]
    objects: tuple[SceneObject, ...]
    instance_map: NDArray[np.uint8]
    part_map: NDArray[np.uint8]
    stuff_map: NDArray[np.uint8]

    @property
    def size(self) -> int:
        """Side in pixels."""
        return len(self.image)

    def mask(self, index: int) -> NDArray[np.bool_]:
        """(S, S) bool: where objects[index] shows."""
        return self.instance_map == index + 1

    def parts(self, index: int) -> dict[str, NDArray[np.bool_]]:
        """Name -> (S, S) bool of the visible parts of objects[index]."""
        shown = np.where(self.mask(index), self.part_map, 0)
        names = self.objects[index].thing.parts
        return {names[k - 1]: shown == k for k in np.unique(shown).tolist() if k}

    def stuff(self) -> dict[str, NDArray[np.bool_]]:
        """Name -> (S, S) bool of the stuff that shows between the things."""
        shown = np.where(self.instance_map == 0, self.stuff_map, 255)
        return {STUFF[k].name: shown == k for k in np.unique(shown).tolist() if k != 255}

    def segments(self, groups: tuple[str, ...] = ("known", "seen", "unseen")) -> Segments:
        """The things of some groups, labelled with their categories, front first."""
        kept = [k for k, found in enumerate(self.objects) if found.thing.group in groups]
        return Segments(
            (self.size, self.size),
            [encode(self.mask(k)) for k in kept],
            labels=[self.objects[k].thing.name for k in kept],
        )

    def as_image(self) -> Image:
        """The picture as :class:`~anymask.image.Image`."""
        return Image(self.image)


def make_scene(seed: int, index: int, size: int = 256, split: Split = "train") -> Scene:
    """Make scene number ``index`` of a world.

    The same arguments give the same bytes everywhere.

    Args:
        seed: of the world.
        index: of the scene, 0, 1, ...
        size: side of the square picture in pixels, 32 to 1024. Larger pictures show more detail.
        split: ``"train"`` has known and seen things, ``"val"`` unseen ones as well; the two never
            show the same scene.

    Raises:
        InputError: size, split, seed or index are out of range.
    """
    if split not in SPLITS:
        raise InputError(f"there is no split {split!r}: use {' or '.join(SPLITS)}.")
    if not SMALLEST <= size <= LARGEST:
        raise InputError(f"scenes have a side of {SMALLEST} to {LARGEST} pixels, not {size}.")
    if seed < 0 or index < 0:
        raise InputError(f"seed and index are 0 or larger, not {seed} and {index}.")
    dice = Dice(seed, index, list(SPLITS).index(split))
    image, stuff_map = _background(dice, size)
    instance_map = np.zeros((size, size), np.uint8)
    part_map = np.zeros((size, size), np.uint8)
    objects: list[SceneObject] = []
    for thing in _cast(dice, split):
        for _ in range(6):  # a place that shows enough of it
            pose = _pose(dice, thing, size)
            placed = _place(thing, pose, dice, len(objects), image, instance_map, part_map)
            if placed is not None:
                objects.append(placed)
                break
    _light(dice, image)
    return Scene(seed, index, split, image, tuple(objects), instance_map, part_map, stuff_map)


# ------------------------------------------------------------------------------- background


def _background(dice: Dice, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two or three bands of stuff (one now and then), from the top to the bottom."""
    indoor = dice.chance(40)
    fitting = [k for k, stuff in enumerate(STUFF) if stuff.indoor == indoor]
    above = dice.pick([k for k in fitting if STUFF[k].where == "above"])
    below = dice.pick([k for k in fitting if STUFF[k].where == "below"])
    between = [k for k in fitting if STUFF[k].where == "between"]
    bands = [above, below]
    if dice.chance(15):
        bands = [below]
    elif between and dice.chance(50):
        bands.insert(1, dice.pick(between))
    image = STUFF[bands[0]].paint(dice, size)
    stuff_map = np.full((size, size), bands[0], np.uint8)
    start = 15
    for k in bands[1:]:
        start += dice.between(8, 60 // (len(bands) - 1))
        inside = np.arange(size)[:, None] >= _horizon(dice, size, start, indoor)[None, :]
        top = int(inside.any(1).argmax())
        painted = STUFF[k].paint(dice, size)
        np.copyto(image[top:], painted[top:], where=inside[top:, :, None])
        stuff_map[inside] = k
    return image, stuff_map


def _horizon(dice: Dice, size: int, percent: int, straight: bool) -> NDArray[np.int64]:
    """(size,) first row below a border at about this percentage of the height."""
    level = percent * size // 100
    if straight:
        return np.full(size, level)
    # Two waves of whole numbers: smooth noise read along a line.
    wave = patch(dice, size, 6)[0].astype(np.int64) - 128
    return level + wave * size // 2560


# ----------------------------------------------------------------------------------- things


def _cast(dice: Dice, split: Split) -> list[Thing]:
    """Who appears: 4 to 14 things, long-tailed, some in company of their like."""
    weights = frequency_weights()
    allowed = [thing for thing in THINGS if thing.group in SPLITS[split]]
    table = [weights[thing.name] for thing in allowed]
    wanted = dice.between(4, 14)
    cast: list[Thing] = []
    while len(cast) < wanted:
        thing = dice.weighted(allowed, table)
        cast += [thing] * (dice.between(2, 4) if dice.chance(20) else 1)
    return cast[:14]


def _pose(dice: Dice, thing: Thing, size: int) -> Pose:
    # The area is spread evenly on a logarithmic scale: radius 2**-4.2 to 2**-2 of the side.
    exponent = dice.between(0, 110)
    radius = max(3, (size * (1 << 16) >> 4) * _power(exponent) >> 32)
    stretch = dice.between(85, 115)
    angle = dice.below(360) if thing.turns else dice.between(-18, 18)
    # The centre lies inside, so that about half of a thing at the border shows.
    x, y = dice.between(2, 2 * size - 2), dice.between(2, 2 * size - 2)
    return Pose(
        x, y, 2 * radius * stretch // 100, 2 * radius * 100 // stretch, angle, dice.chance(50)
    )


def _power(hundredths: int) -> int:
    """2**(hundredths / 50) as a 16-bit fixed-point number."""
    value = 1 << 16
    for _ in range(hundredths):
        value = value * 66451 >> 16  # 2**(1/50)
    return value


def _place(
    thing: Thing,
    pose: Pose,
    dice: Dice,
    number: int,
    image: NDArray[np.uint8],
    instance_map: NDArray[np.uint8],
    part_map: NDArray[np.uint8],
) -> SceneObject | None:
    """Paint a thing behind what is there already; None when too little of it would show."""
    size = len(image)
    window = pose.window(thing.bounds, size)
    u, v = pose.to_unit(window)
    if not u.size:
        return None
    layer_map = np.zeros(u.shape, np.uint8)
    for k, layer in enumerate(thing.layers, 1):
        np.putmask(layer_map, layer.outline.inside(u, v), 0 if layer.paint == "cut" else k)
    whole = int(np.count_nonzero(layer_map))
    free = instance_map[window] == 0
    layer_map *= free
    shown = layer_map > 0
    area = int(np.count_nonzero(shown))
    if area * 100 < whole * LEAST_VISIBLE or area < max(4, LEAST_PIXELS * size * size // 65536):
        return None

    color = dice.pick(thing.colors) if dice.chance(50) else dice.pick(tuple(COLORS))
    # Patterns need room to be seen.
    patterned = pose.width * 256 >= 36 * size and dice.chance(45)
    pattern = dice.pick(PATTERNS[1:]) if patterned else "plain"
    main = jitter(COLORS[color], dice)
    others = [c for c in COLORS if c != color]
    second = jitter(COLORS[dice.pick(others)], dice)
    names = thing.parts
    paints = np.zeros((len(thing.layers) + 2, 3), np.uint8)
    parts = np.zeros(len(thing.layers) + 1, np.uint8)
    is_main = np.zeros(len(thing.layers) + 1, bool)
    for k, layer in enumerate(thing.layers, 1):
        if layer.paint == "cut":
            continue
        parts[k] = names.index(layer.part) + 1
        is_main[k] = layer.paint == "main"
        own = {"main": main, "second": second}.get(layer.paint)
        paints[k] = own or jitter(MATERIALS[layer.paint], dice, 6)
    part_map[window][shown] = parts[layer_map[shown]]
    instance_map[window][shown] = number + 1
    if pattern != "plain":
        paints[-1] = pattern_color(main)
        marked = pattern_cells(pattern, u, v, dice.between(2, 3)) & is_main[layer_map]
        layer_map[marked] = len(thing.layers) + 1
    image[window][shown] = _shaded(paints[layer_map[shown]], v[shown])
    ys, xs = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    top, left = window[0].start, window[1].start
    edges = (left + xs[0], top + ys[0], left + xs[-1] + 1, top + ys[-1] + 1)
    box = tuple(int(edge) for edge in edges)
    return SceneObject(thing, color, pattern, pose, area / whole, area, box)  # type: ignore[arg-type]


def _shaded(pixels: NDArray[np.uint8], v: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Darker towards the foot: (n, 3) pixels at heights v (n,)."""
    strength = 256 - ((v + np.float32(1)) * np.float32(28)).astype(np.int32)
    shaded = (pixels * strength[:, None]) >> 8
    return np.minimum(shaded, 255).astype(np.uint8)


def _light(dice: Dice, image: NDArray[np.uint8]) -> None:
    """Uneven light, the sensor's noise and the exposure, in place."""
    size = len(image)
    gain = (patch(dice, size, 6) >> 2) + (patch(dice, size, 0) >> 4) + dice.between(190, 222)
    np.minimum(gain, 256, out=gain)  # 255 * 256 is the most that 16 bits hold
    lit = image * gain.astype(np.uint16)[:, :, None]
    lit >>= 8
    image[...] = lit
