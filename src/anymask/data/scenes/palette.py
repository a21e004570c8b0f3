"""Colours, materials, patterns and stuff of the scenes world, as pixel arithmetic.

Everything is whole-number arithmetic on uint8/int16 arrays, so pictures are equal everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from anymask.data.scenes.dice import Dice

Rgb = tuple[int, int, int]
Weights = NDArray[np.int16]  # (h, w), 0..256: how much of the second colour

# The basic colour words of English (Berlin and Kay), each with its typical value.
COLORS: dict[str, Rgb] = {
    "red": (205, 38, 42),
    "orange": (236, 130, 28),
    "yellow": (240, 212, 52),
    "green": (58, 158, 62),
    "blue": (48, 92, 206),
    "purple": (128, 62, 172),
    "pink": (242, 142, 186),
    "brown": (128, 80, 44),
    "black": (38, 37, 42),
    "white": (240, 239, 236),
    "grey": (142, 142, 147),
}

MATERIALS: dict[str, Rgb] = {
    "dark": (34, 32, 36),
    "light": (246, 245, 240),
    "wood": (120, 82, 52),
    "leaf": (70, 130, 52),
    "glass": (176, 214, 232),
    "metal": (168, 172, 180),
    "flame": (250, 176, 40),
}

PATTERNS = ("plain", "striped", "spotted", "checked")

TILE = 512


def jitter(color: Rgb, dice: Dice, amount: int = 12) -> Rgb:
    """The colour, moved a little."""
    return tuple(min(255, max(0, c + dice.between(-amount, amount))) for c in color)  # type: ignore[return-value]


def pattern_color(color: Rgb) -> Rgb:
    """The second colour of a pattern: clearly lighter, or darker when the first one is light."""
    if sum(color) > 480:
        return tuple(c * 9 // 20 for c in color)  # type: ignore[return-value]
    return tuple(255 - (255 - c) * 3 // 8 for c in color)  # type: ignore[return-value]


def pattern_cells(
    pattern: str, u: NDArray[np.float32], v: NDArray[np.float32], density: int
) -> NDArray[np.bool_]:
    """Where the second colour of a pattern shows, in coordinates of the thing.

    Args:
        pattern: one of ``PATTERNS`` but plain.
        u, v: unit coordinates, one shape.
        density: periods per unit.
    """
    x = (u + np.float32(8)) * np.float32(2 * density)
    if pattern == "striped":
        return (x.astype(np.int32) & 1).astype(bool)
    y = (v + np.float32(8)) * np.float32(2 * density)
    if pattern == "checked":
        return ((x.astype(np.int32) + y.astype(np.int32)) & 1).astype(bool)
    if pattern != "spotted":
        raise ValueError(f"no pattern is called {pattern!r}: use one of {', '.join(PATTERNS)}")
    x = x * np.float32(0.5)
    y = y * np.float32(0.5)
    x = x - x.astype(np.int32).astype(np.float32) - np.float32(0.5)
    y = y - y.astype(np.int32).astype(np.float32) - np.float32(0.5)
    x = x * x
    y = y * y
    return x + y < np.float32(0.085)


# ------------------------------------------------------------------------------------- noise


@lru_cache(maxsize=8)
def noise(coarseness: int) -> NDArray[np.uint8]:
    """Smooth noise that wraps around, (TILE, TILE) uint8; its grains are 2**coarseness pixels."""
    cells = TILE >> coarseness
    words = np.random.PCG64(np.random.SeedSequence((977, coarseness))).random_raw(cells * cells)
    values = (words >> np.uint64(56)).astype(np.int32).reshape(cells, cells)
    for _ in range(coarseness):
        # Double the size by linear interpolation, one axis after the other.
        for axis in (0, 1):
            between = (values + np.roll(values, -1, axis)) >> 1
            values = np.stack([values, between], axis + 1)
            shape = list(values.shape)
            shape[axis : axis + 2] = [2 * shape[axis]]
            values = values.reshape(shape)
    return values.astype(np.uint8)


def patch(
    dice: Dice, size: int, coarseness: int, across: int = 1, down: int = 1
) -> NDArray[np.int16]:
    """A (size, size) piece of noise, 0..255; larger pictures show the same features larger.

    Args:
        across, down: how many times the noise is squeezed along x and y.
    """
    y0, x0 = dice.below(TILE), dice.below(TILE)
    steps = np.arange(size) * 256 // size
    rows = (y0 + steps * down) % TILE
    columns = (x0 + steps * across) % TILE
    return noise(coarseness)[rows][:, columns].astype(np.int16)


# ------------------------------------------------------------------------------------- stuff


@dataclass(frozen=True)
class Stuff:
    """A background category.

    Attributes:
        name, synonyms: words for it.
        where: ``"above"`` (sky, walls), ``"below"`` (grounds and floors) or ``"between"``.
        indoor: it belongs to rooms.
        dark, light: the two colours it is mixed of.
        weights: draws how much of the light colour every pixel has.
    """

    name: str
    synonyms: tuple[str, ...]
    where: str
    indoor: bool
    dark: Rgb
    light: Rgb
    weights: Callable[[Dice, int], Weights]

    def paint(self, dice: Dice, size: int) -> NDArray[np.uint8]:
        """A (size, size, 3) uint8 picture full of it."""
        mix = self.weights(dice, size)
        levels = np.arange(257, dtype=np.int32)[:, None]
        dark = np.array(jitter(self.dark, dice), np.int32)
        light = np.array(jitter(self.light, dice), np.int32)
        table = ((dark * (256 - levels) + light * levels) >> 8).astype(np.uint8)
        return table[mix]


def _steps(size: int) -> NDArray[np.int16]:
    """Pixel number in a picture of 256, for features that grow with the picture."""
    return (np.arange(size) * 256 // size).astype(np.int16)


def _sky(dice: Dice, size: int) -> Weights:
    clouds = patch(dice, size, 6)
    clouds = clouds + (patch(dice, size, 4) >> 1) - 190
    np.maximum(clouds, 0, out=clouds)
    clouds *= 2
    clouds += (_steps(size) >> 1)[:, None]
    return np.minimum(clouds, 256)


def _grass(dice: Dice, size: int) -> Weights:
    return (patch(dice, size, 3, across=4) + patch(dice, size, 5)) >> 1


def _sand(dice: Dice, size: int) -> Weights:
    return (patch(dice, size, 0) + 3 * patch(dice, size, 5)) >> 2


def _water(dice: Dice, size: int) -> Weights:
    ripples = patch(dice, size, 4, down=4)
    return np.minimum(ripples + (patch(dice, size, 6) >> 2), 256)


def _snow(dice: Dice, size: int) -> Weights:
    return (patch(dice, size, 6) >> 1) + (patch(dice, size, 1) >> 3) + 90


def _road(dice: Dice, size: int) -> Weights:
    return (patch(dice, size, 0) + patch(dice, size, 1)) >> 1


def _gravel(dice: Dice, size: int) -> Weights:
    stones = patch(dice, size, 3)
    return np.where(stones > 140, stones, stones >> 1)


def _hedge(dice: Dice, size: int) -> Weights:
    leaves = patch(dice, size, 2)
    return np.where(leaves > 128, np.int16(230), np.int16(40)) - (patch(dice, size, 5) >> 3)


def _brick(dice: Dice, size: int) -> Weights:
    rows, columns = _steps(size)[:, None], _steps(size)[None, :]
    shifted = columns + 12 * ((rows // 12) & 1)
    joint = (rows % 12 < 2) | (shifted % 24 < 2)
    bricks = (patch(dice, size, 4) >> 1) & 120
    return np.where(joint, np.int16(250), bricks)


def _wood(dice: Dice, size: int) -> Weights:
    rows, columns = _steps(size)[:, None], _steps(size)[None, :]
    plank = rows // 22
    grain = (patch(dice, size, 4, down=6) >> 1) + ((plank * 53) % 64).astype(np.int16)
    gap = (rows % 22 < 1) | ((columns + plank * 71) % 128 < 1)
    return np.where(gap, np.int16(0), grain + 30)


def _tiles(dice: Dice, size: int) -> Weights:
    rows, columns = _steps(size)[:, None], _steps(size)[None, :]
    joint = (rows % 28 < 2) | (columns % 28 < 2)
    odd = (((rows // 28) + (columns // 28)) & 1).astype(np.int16) * 60
    return np.where(joint, np.int16(20), 120 + odd + (patch(dice, size, 3) >> 3))


def _carpet(dice: Dice, size: int) -> Weights:
    rows, columns = _steps(size)[:, None], _steps(size)[None, :]
    weave = ((rows + columns) % 14 < 7).astype(np.int16) * 70
    return weave + (patch(dice, size, 0) >> 1)


def _plaster(dice: Dice, size: int) -> Weights:
    return (patch(dice, size, 5) >> 1) + (patch(dice, size, 0) >> 3)


STUFF: tuple[Stuff, ...] = (
    Stuff("sky", ("heavens",), "above", False, (96, 156, 226), (232, 240, 248), _sky),
    Stuff("grass", ("lawn", "meadow"), "below", False, (58, 112, 40), (136, 178, 84), _grass),
    Stuff("sand", ("beach",), "below", False, (200, 168, 112), (238, 214, 164), _sand),
    Stuff("water", ("sea", "lake"), "between", False, (28, 84, 136), (104, 172, 204), _water),
    Stuff("snow", (), "below", False, (196, 210, 228), (252, 253, 255), _snow),
    Stuff("road", ("asphalt",), "below", False, (72, 72, 78), (116, 116, 120), _road),
    Stuff("gravel", ("pebbles",), "below", False, (92, 86, 80), (186, 178, 166), _gravel),
    Stuff("hedge", ("bushes",), "between", False, (24, 62, 28), (78, 124, 52), _hedge),
    Stuff("brick wall", ("bricks",), "above", True, (140, 62, 46), (206, 196, 184), _brick),
    Stuff("wooden floor", ("floorboards",), "below", True, (96, 62, 36), (190, 140, 92), _wood),
    Stuff("tiles", ("tiled floor",), "below", True, (120, 132, 140), (226, 232, 234), _tiles),
    Stuff("carpet", ("rug",), "below", True, (104, 44, 66), (186, 132, 120), _carpet),
    Stuff("plaster wall", ("wall",), "above", True, (196, 188, 166), (240, 236, 222), _plaster),
)
