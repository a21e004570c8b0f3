"""Drawing regions on a picture so that people can read it, at any picture size.

Every pixel is tinted once, by the smallest region that covers it: overlapping regions do not
mix to mud. Line width and letters grow with the picture. Regions are drawn one by one, in vertical
strips of their boxes, so that the memory needed does not depend on their number.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from anymask.errors import InputError, SegmentsError
from anymask.image import read_image
from anymask.ops import rle as rle_ops
from anymask.segments import Segments

Color = tuple[int, int, int]
Font = PIL.ImageFont.ImageFont | PIL.ImageFont.FreeTypeFont

_STRIP_PIXELS: Final = 1 << 22
_GRID: Final = 64
_SMALLEST_FONT: Final = 9
_GOLDEN_ANGLE: Final = math.pi * (3 - math.sqrt(5))


def annotate(
    image: Any,
    segments: Segments,
    *,
    texts: Sequence[str | None] | None = None,
    colors: Sequence[Color] | None = None,
    opacity: float = 0.45,
    outline: bool = True,
    scores: bool = False,
    font: str | Path | None = None,
) -> PIL.Image.Image:
    """Draw regions on a picture: a translucent tint, an outline, and a label each.

    Args:
        image: the picture, anything `read_image` takes; it is not changed.
        segments: its regions.
        texts: what to write on each region, or None for nothing; by default its label.
        colors: an RGB colour (0..255) per region; by default :func:`distinct_colors`.
        opacity: of the tint, 0..1.
        outline: whether to draw outlines.
        scores: whether to write the score behind the label.
        font: a TrueType file for scripts beyond Latin; by default Pillow's own font.

    Returns:
        A new picture of the same size, mode RGB. Labels that do not fit into the picture even when
        shortened are left out.

    Raises:
        ImageError: the picture cannot be read.
        SegmentsError: the regions belong to a picture of another size, or there are not as many
            texts or colours as regions.
        InputError: the opacity is outside 0..1, or the font cannot be read.
    """
    picture = read_image(image)
    if picture.size != segments.size:
        raise SegmentsError(
            f"the regions belong to a picture of {segments.size} (height, width), but this one "
            f"has {picture.size}."
        )
    if not 0 <= opacity <= 1:
        raise InputError(f"opacity lies in 0..1, not at {opacity}.")
    written = _texts(segments, texts, scores)
    palette = distinct_colors(len(segments)) if colors is None else list(colors)
    for name, column in (("texts", written), ("colors", palette)):
        if len(column) != len(segments):
            raise SegmentsError(f"{len(column)} {name} for {len(segments)} regions.")
    # What each pixel shows: 0 nothing, row + 1 the tint of a region, N + row + 1 its outline.
    shown = np.zeros(picture.size, np.min_scalar_type(2 * len(segments)))
    width = line_width(picture.size) if outline else 0
    centers: dict[int, tuple[float, float]] = {}
    for row in np.argsort(segments.areas, kind="stable").tolist():
        center = _claim(shown, segments, row, width)
        if center is not None and written[row]:
            centers[row] = center
    result = PIL.Image.fromarray(_mix(picture.pixels, shown, palette, opacity))
    del shown
    _write_labels(result, segments, written, palette, centers, font)
    return result


def line_width(size: tuple[int, int]) -> int:
    """Width of outlines in pixels for a picture of (H, W): 2 at 640x480, 12 at 48 megapixels."""
    return max(1, round(math.sqrt(size[0] * size[1]) / 400))


def font_size(size: tuple[int, int]) -> int:
    """Height of letters in pixels for a picture of (H, W): 15 at 640x480."""
    return max(_SMALLEST_FONT, round(math.sqrt(size[0] * size[1]) / 38))


def write_line(
    text: str,
    width: int,
    size: tuple[int, int],
    marked: Sequence[tuple[str, Color]] = (),
    font: str | Path | None = None,
) -> PIL.Image.Image:
    """A strip of text to stand above or below a picture.

    Args:
        text: shortened when it is wider than the strip.
        width: of the strip in pixels.
        size: (H, W) of the picture it belongs to, which decides the size of the letters.
        marked: words behind it, each with a square of its colour; those that do not fit are left
            out.
        font: as for :func:`annotate`.
    """
    letters = _font(font, font_size(size))
    height = round(1.5 * font_size(size))
    strip = PIL.Image.new("RGB", (width, height), "white")
    pen = PIL.ImageDraw.Draw(strip)
    pad = height // 4
    while len(text) > 1 and pen.textlength(text, letters) > width - 2 * pad:
        text = text[:-2].rstrip() + "…"
    middle = height // 2
    pen.text((pad, middle), text, fill="black", font=letters, anchor="lm")
    x = pad + pen.textlength(text, letters) + 3 * pad
    side = height // 2
    for word, color in marked:
        needed = side + pad + pen.textlength(word, letters)
        if x + needed > width:
            break
        pen.rectangle((x, middle - side // 2, x + side, middle + side // 2), fill=color)
        pen.text((x + side + pad, middle), word, fill="black", font=letters, anchor="lm")
        x += needed + 3 * pad
    return strip


# ------------------------------------------------------------------------------------- colours


def annotate_by_label(
    image: Any, segments: Segments, *, font: str | Path | None = None, **options: Any
) -> PIL.Image.Image:
    """Draw regions in one colour a label, and a legend with each label's share below.

    Args:
        image, segments: as for :func:`annotate`.
        font: as there.
        options: more of its options.

    Returns:
        A picture of the same width and a larger height.
    """
    names = list(dict.fromkeys(segments.labels))
    shades = dict(zip(names, distinct_colors(len(names)), strict=True))
    colors = [shades[label] for label in segments.labels]
    drawn = annotate(image, segments, colors=colors, font=font, **options)
    pixels = segments.size[0] * segments.size[1]
    shares = {
        name: sum(int(a) for a, own in zip(segments.areas, segments.labels) if own == name) / pixels
        for name in names
    }
    entries = [
        (f"{name or 'no label'} {_percent(shares[name])}", shades[name])
        for name in sorted(names, key=lambda name: -shares[name])
    ]
    below = _legend(entries, drawn.width, segments.size, font)
    whole = PIL.Image.new("RGB", (drawn.width, drawn.height + below.height), "white")
    whole.paste(drawn, (0, 0))
    whole.paste(below, (0, drawn.height))
    return whole


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "<1 %"


def _legend(
    entries: Sequence[tuple[str, Color]],
    width: int,
    size: tuple[int, int],
    font: str | Path | None,
) -> PIL.Image.Image:
    """Words with squares of their colours, in as many lines as it takes."""
    letters = _font(font, font_size(size))
    side = font_size(size)
    height, pad = round(1.6 * side), side // 2
    probe = PIL.ImageDraw.Draw(PIL.Image.new("RGB", (1, 1)))
    lines: list[list[tuple[float, str, Color]]] = [[]]
    x: float = pad
    for word, color in entries:
        need = 1.4 * side + probe.textlength(word, letters) + 2 * pad
        if x + need > width and lines[-1]:
            lines.append([])
            x = pad
        lines[-1].append((x, word, color))
        x += need
    strip = PIL.Image.new("RGB", (width, height * len(lines) if entries else 0), "white")
    pen = PIL.ImageDraw.Draw(strip)
    for number, line in enumerate(lines if entries else []):
        middle = number * height + height // 2
        for x, word, color in line:
            pen.rectangle((x, middle - side // 2, x + side, middle + side // 2), fill=color)
            pen.text((x + 1.4 * side, middle), word, fill="black", font=letters, anchor="lm")
    return strip


def distinct_colors(count: int) -> list[Color]:
    """Colours that are easy to tell apart, the same ones every time, as RGB 0..255.

    Hues advance by the golden angle, which keeps any number of them well spread; lightness
    alternates between three values, which separates hues that come close.
    """
    lightness = (0.70, 0.80, 0.60)
    return [_oklch(lightness[row % 3], 0.19, 0.5 + row * _GOLDEN_ANGLE) for row in range(count)]


def _oklch(lightness: float, chroma: float, hue: float) -> Color:
    """OKLCH -> sRGB; chroma is reduced until the colour exists (Ottosson, "A perceptual color
    space for image processing", 2020)."""
    while True:
        a, b = chroma * math.cos(hue), chroma * math.sin(hue)
        long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
        middle = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
        short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
        linear = (
            4.0767416621 * long - 3.3077115913 * middle + 0.2309699292 * short,
            -1.2684380046 * long + 2.6097574011 * middle - 0.3413193965 * short,
            -0.0041960863 * long - 0.7034186147 * middle + 1.7076147010 * short,
        )
        if all(-1e-4 <= value <= 1 + 1e-4 for value in linear):
            red, green, blue = (_gamma(min(max(value, 0.0), 1.0)) for value in linear)
            return red, green, blue
        chroma *= 0.95


def _gamma(linear: float) -> int:
    encoded = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    return round(255 * encoded)


def _luminance(color: Color) -> float:
    """Perceived brightness, 0..1 (Rec. 601 weights)."""
    return (0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]) / 255


# -------------------------------------------------------------------------------------- regions


def _claim(
    shown: NDArray[Any], segments: Segments, row: int, width: int
) -> tuple[float, float] | None:
    """Give a region the pixels that no region before it has claimed.

    Returns:
        The point (x, y) deepest inside what can be seen of the region, in pixels; None if nothing
        can.
    """
    rle = segments.rles[row]
    left, top, right, bottom = rle_ops.boxes([rle])[0].astype(int).tolist()
    if right <= left or bottom <= top:
        return None
    step = max(1, -(-max(right - left, bottom - top) // _GRID))
    coarse = np.zeros((-(-(bottom - top) // step), -(-(right - left) // step)), bool)
    strip = max(step, _STRIP_PIXELS // (bottom - top) // step * step)
    for start in range(left, right, strip):
        end = min(start + strip, right)
        # A margin of one line width lets the outline see its neighbours across strips.
        begin, stop = max(start - width, 0), min(end + width, shown.shape[1])
        upper, lower = max(top - width, 0), min(bottom + width, shown.shape[0])
        window = np.ascontiguousarray(rle_ops.decode_window(rle, upper, begin, lower, stop))
        inner = (slice(top - upper, bottom - upper), slice(start - begin, end - begin))
        area = shown[top:bottom, start:end]
        free = window[inner] & (area == 0)
        coarse[:, (start - left) // step : -(-(end - left) // step)] = free[::step, ::step]
        np.copyto(area, row + 1, where=free)
        if width:
            edge = free & ~erode(window, width)[inner]
            np.copyto(area, len(segments) + row + 1, where=edge)
    if not coarse.any():
        return None
    x, y = _deepest(coarse)
    return left + (x + 0.5) * step, top + (y + 0.5) * step


def _mix(
    pixels: NDArray[np.uint8], shown: NDArray[Any], palette: Sequence[Color], opacity: float
) -> NDArray[np.uint8]:
    """Tint every pixel as `shown` says: keep * pixel + add, in 256ths."""
    count = len(palette)
    weight = round(opacity * 256)
    colors = np.array(palette, np.uint16).reshape(count, 3)
    keep = np.full(2 * count + 1, 256 - weight, np.uint16)
    keep[0], keep[count + 1 :] = 256, 0
    add = np.concatenate([np.zeros((1, 3), np.uint16), colors * np.uint16(weight), colors << 8])
    result = np.empty_like(pixels)
    rows = max(1, _STRIP_PIXELS // pixels.shape[1])
    for start in range(0, len(pixels), rows):
        strip = slice(start, start + rows)
        kept = keep.take(shown[strip])
        for channel in range(3):
            mixed = pixels[strip, :, channel] * kept
            mixed += add[:, channel].take(shown[strip])
            mixed >>= 8
            result[strip, :, channel] = mixed
    return result


def erode(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Take a margin off a mask; what lies beyond the array counts as inside.

    The structuring element is an octagon, made of line segments in four directions, each in
    a number of passes logarithmic in its length.

    Args:
        mask: (H, W) bool.
        radius: of the octagon, in pixels.

    Returns:
        (H, W) bool.
    """
    diagonal = round(radius * (1 - math.sqrt(0.5)))
    straight = radius - 2 * diagonal
    result = mask
    for dy, dx, reach in ((0, 1, straight), (1, 0, straight), (1, 1, diagonal), (1, -1, diagonal)):
        for sign in (1, -1):
            result = _erode_along(result, sign * dy, sign * dx, reach)
    return result


def _erode_along(mask: NDArray[np.bool_], dy: int, dx: int, reach: int) -> NDArray[np.bool_]:
    """Keep pixels whose next `reach` neighbours in one direction are inside as well."""
    result, covered = mask, 0
    while covered < reach:
        # The result covers `covered` neighbours: a shift by one more doubles that.
        hop = min(covered + 1, reach - covered)
        shifted = result.copy()
        height, width = mask.shape
        y, x = hop * dy, hop * dx
        if abs(y) < height and abs(x) < width:
            to = (_overlap(height, -y), _overlap(width, -x))
            shifted[to] &= result[_overlap(height, y), _overlap(width, x)]
        result, covered = shifted, covered + hop
    return result


def _overlap(length: int, shift: int) -> slice:
    return slice(max(shift, 0), length + min(shift, 0))


def _deepest(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The cell (x, y) farthest from the outside of a small mask."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), depth.shape)
    return float(x), float(y)


# ---------------------------------------------------------------------------------------- labels


def _texts(
    segments: Segments, texts: Sequence[str | None] | None, scores: bool
) -> list[str | None]:
    chosen = list(segments.labels if texts is None else texts)
    if not scores:
        return chosen
    numbers = ["" if np.isnan(score) else f"{score:.2f}" for score in segments.scores]
    return [" ".join(part for part in (text, n) if part) for text, n in zip(chosen, numbers)]


def _write_labels(
    picture: PIL.Image.Image,
    segments: Segments,
    texts: Sequence[str | None],
    palette: Sequence[Color],
    centers: dict[int, tuple[float, float]],
    font: str | Path | None,
) -> None:
    """Write the labels of the largest regions first; later ones keep off those before."""
    draw = PIL.ImageDraw.Draw(picture)
    placed = np.zeros((0, 4))
    for row in sorted(centers, key=lambda row: -int(segments.areas[row])):
        chip = _fit(str(texts[row]), picture.size, font)
        if chip is None:
            continue
        text, letters, pad, (width, height) = chip
        spots = _spots(centers[row], segments.boxes[row], (width, height), picture.size)
        overlap = _overlaps(spots, placed)
        # A little overlap is better than a label far from its region.
        cost = overlap / (width * height) + 0.08 * np.arange(len(spots))
        x, y = spots[int(np.argmin(cost)), :2].round().astype(int).tolist()
        placed = np.vstack([placed, [x, y, x + width, y + height]])
        color = palette[row]
        draw.rounded_rectangle(
            (x, y, x + width - 1, y + height - 1), radius=height // 4, fill=color
        )
        ink = (0, 0, 0) if _luminance(color) > 0.5 else (255, 255, 255)
        draw.text((x + pad, y + height / 2), text, fill=ink, font=letters, anchor="lm")


def _fit(
    text: str, picture_size: tuple[int, int], font: str | Path | None
) -> tuple[str, Font, int, tuple[int, int]] | None:
    """Make a label fit into the picture: smaller letters first, then fewer of them.

    Returns:
        The text, its font, the margin and the (width, height) of the label in pixels; None where
        nothing fits.
    """
    width, height = picture_size
    text = " ".join(text.split())
    size = font_size((height, width))
    while True:
        letters = _font(font, size)
        pad = max(2, round(size * 0.3))
        box = (math.ceil(letters.getlength(text)) + 2 * pad, round(size * 1.35) + 2)
        if box[0] <= width and box[1] <= height:
            return text, letters, pad, box
        if size > _SMALLEST_FONT:
            size = max(_SMALLEST_FONT, int(size * 0.85))
        elif box[1] <= height and len(text) > 2:
            text = text[: len(text) // 2].rstrip(" .…") + "…"
        else:
            return None


@functools.lru_cache(maxsize=64)
def _font(font: str | Path | None, size: int) -> Font:
    if font is None:
        return PIL.ImageFont.load_default(size)
    try:
        return PIL.ImageFont.truetype(str(font), size)
    except OSError as error:
        raise InputError(f"the font {font} cannot be read: {error}.") from error


def _spots(
    center: tuple[float, float],
    box: NDArray[np.float32],
    label: tuple[int, int],
    picture: tuple[int, int],
) -> NDArray[np.float64]:
    """Places for a label, best first, inside the picture: (P, 4) x1, y1, x2, y2 in pixels."""
    width, height = label
    x, y = center[0] - width / 2, center[1] - height / 2
    left, top, right, bottom = (float(value) for value in box)
    beside = [(x, top - height), (x, bottom)]
    inside = [(x, y), (x, y - 1.15 * height), (x, y + 1.15 * height)]
    # A label must not hide the thing it names.
    small = (right - left) * (bottom - top) < 3 * width * height
    corners = [
        *(beside + inside if small else inside + beside),
        (left, top),
        (right - width, top),
        (left, bottom - height),
        (right - width, bottom - height),
        (x, y - 2.3 * height),
        (x, y + 2.3 * height),
    ]
    spots = np.array(corners)
    spots[:, 0] = spots[:, 0].clip(0, picture[0] - width)
    spots[:, 1] = spots[:, 1].clip(0, picture[1] - height)
    return np.concatenate([spots, spots + np.array([width, height])], axis=1)


def _overlaps(spots: NDArray[np.float64], placed: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many square pixels of labels each place would cover: (P,)."""
    sides = np.minimum(spots[:, None, 2:], placed[None, :, 2:]) - np.maximum(
        spots[:, None, :2], placed[None, :, :2]
    )
    return np.asarray(sides.clip(0).prod(axis=2).sum(axis=1), np.float64)
