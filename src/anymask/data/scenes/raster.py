"""From outlines to pixels, with the same result on every machine.

Only additions, multiplications, divisions and comparisons of float32 arrays are used, one array
operation each: these are exact by IEEE 754 wherever numpy runs. Sines come from a rounded table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# cos of 0..359 degrees, rounded to 20 bits: no library's last bit survives the rounding.
_COSINES = tuple(round(math.cos(math.radians(d)) * (1 << 20)) / (1 << 20) for d in range(360))


def cosine(degrees: int) -> float:
    """cos of a whole number of degrees."""
    return _COSINES[degrees % 360]


def sine(degrees: int) -> float:
    """sin of a whole number of degrees."""
    return _COSINES[(degrees - 90) % 360]


@dataclass(frozen=True)
class Ellipse:
    """An axis-parallel ellipse of the unit square [-1, 1] x [-1, 1] (y points down)."""

    x: float
    y: float
    rx: float
    ry: float

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return (self.x - self.rx, self.y - self.ry, self.x + self.rx, self.y + self.ry)

    def inside(self, u: Floats, v: Floats) -> NDArray[np.bool_]:
        """Which points lie inside: two arrays of one shape -> bool of that shape."""
        a = (u - np.float32(self.x)) / np.float32(self.rx)
        b = (v - np.float32(self.y)) / np.float32(self.ry)
        a *= a
        b *= b
        a += b
        return a <= np.float32(1)


@dataclass(frozen=True)
class Polygon:
    """A polygon of the unit square; crossing outlines follow the even-odd rule."""

    points: tuple[tuple[float, float], ...]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        xs, ys = zip(*self.points)
        return (min(xs), min(ys), max(xs), max(ys))

    def inside(self, u: Floats, v: Floats) -> NDArray[np.bool_]:
        """Which points lie inside: two arrays of one shape -> bool of that shape."""
        result = np.zeros(u.shape, bool)
        previous = self.points[-1]
        above_previous = v < np.float32(previous[1])
        for point in self.points:
            above = v < np.float32(point[1])
            if point[1] != previous[1]:
                # An edge is crossed by the ray to the right when its ends lie on two sides and
                # the crossing lies to the right of the point.
                slope = np.float32((point[0] - previous[0]) / (point[1] - previous[1]))
                crossing = (v - np.float32(previous[1])) * slope
                crossing += np.float32(previous[0])
                result ^= (above != above_previous) & (u < crossing)
            previous, above_previous = point, above
        return result


Outline = Ellipse | Polygon


@dataclass(frozen=True)
class Pose:
    """Where a shape stands in the picture.

    Attributes:
        x, y: centre in half pixels, so that whole and half pixels are exact.
        width, height: of the unit square's half in half pixels.
        angle: clockwise, in whole degrees.
        mirrored: left and right are exchanged before the rotation.
    """

    x: int
    y: int
    width: int
    height: int
    angle: int = 0
    mirrored: bool = False

    def to_picture(self, u: float, v: float) -> tuple[float, float]:
        """A point of the unit square -> x, y in pixels."""
        u = -u if self.mirrored else u
        a, b = u * self.width / 2, v * self.height / 2
        c, s = cosine(self.angle), sine(self.angle)
        return self.x / 2 + c * a - s * b, self.y / 2 + s * a + c * b

    def window(self, bounds: tuple[float, float, float, float], size: int) -> tuple[slice, slice]:
        """The pixels that a box of the unit square can touch, cut to the picture."""
        x0, y0, x1, y1 = bounds
        corners = [self.to_picture(u, v) for u in (x0, x1) for v in (y0, y1)]
        xs, ys = zip(*corners)
        left, right = max(0, math.floor(min(xs)) - 1), min(size, math.ceil(max(xs)) + 1)
        top, bottom = max(0, math.floor(min(ys)) - 1), min(size, math.ceil(max(ys)) + 1)
        return slice(top, max(top, bottom)), slice(left, max(left, right))

    def to_unit(self, window: tuple[slice, slice]) -> tuple[Floats, Floats]:
        """Unit coordinates of the pixel centres of a window: u and v, each (h, w)."""
        rows, columns = window
        dx = np.arange(2 * columns.start + 1 - self.x, 2 * columns.stop + 1 - self.x, 2)
        dy = np.arange(2 * rows.start + 1 - self.y, 2 * rows.stop + 1 - self.y, 2)
        x, y = dx.astype(np.float32), dy.astype(np.float32)
        c, s = np.float32(cosine(self.angle)), np.float32(sine(self.angle))
        wide = np.float32(-self.width if self.mirrored else self.width)
        tall = np.float32(self.height)
        u = (x * c / wide)[None, :] + (y * s / wide)[:, None]
        v = (y * c / tall)[:, None] - (x * s / tall)[None, :]
        return u, v
