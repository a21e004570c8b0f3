"""Set-of-mark naming: every mask gets a number on the picture, and a vision model behind a server
is asked once what they all are (OSM, supplement: the comparison with GPT-4V)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray
from scipy import ndimage

from anymask.draw import distinct_colors, font_size
from anymask.errors import SegmentsError
from anymask.image import Image
from anymask.methods.named import Named, labelled
from anymask.ops.rle import decode
from anymask.segments import Segments
from anymask.vision_server import VisionServer

SOURCE = "set-of-mark"
AT_ONCE = 24  # marks a picture: more are hard to read
TOKENS = 16  # of an answer, a mark
QUESTION = (
    "The picture shows regions, each outlined and marked with a number from 1 to {}. What is each "
    "of them? Answer with one line for every number, and nothing else: NUMBER: NAME, the name a "
    "short noun phrase."
)
_LINE = re.compile(r"^\W*(\d+)\W*[:.)-]\s*(.+?)\s*$", re.MULTILINE)


class SetOfMarkNamer:
    """Names masks by asking a server about a numbered picture.

    Args:
        server: an OpenAI-compatible one with a model that sees pictures.
    """

    def __init__(self, server: VisionServer) -> None:
        self.server = server

    def __call__(self, image: Image, segments: Segments) -> Segments:
        """The same segments with names; a name has no probability (its score is 1), because servers
        do not tell.

        Raises:
            SegmentsError: the masks belong to a picture of another size.
            ServerError: the server gave no usable answer.
        """
        return labelled(segments, self.names(image, segments), SOURCE)

    def names(self, image: Image, segments: Segments) -> Iterator[Named]:
        """Names as they come, some masks a question; what the answer leaves out gets none."""
        if segments.size != image.size:
            raise SegmentsError(
                f"the masks belong to a picture of {segments.size}, but this one has {image.size}"
            )
        rows = [k for k, pixels in enumerate(segments.areas) if pixels]
        for row in sorted(set(range(len(segments))) - set(rows)):
            yield Named(row, "", "", float("nan"), "empty_mask")
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            shown = numbered(image, [decode(segments.rles[k]) for k in part])
            tokens = TOKENS * len(part)
            answer = self.server.ask(shown, QUESTION.format(len(part)), longest=tokens)
            said = parse(answer)
            for number, row in enumerate(part, 1):
                name = said.get(number, "")
                yield Named(row, name, answer, 0.0 if name else float("nan"))


def parse(answer: str) -> dict[int, str]:
    """Number -> name, of an answer's lines; the first line about a number counts."""
    found: dict[int, str] = {}
    for number, name in _LINE.findall(answer):
        found.setdefault(int(number), name.strip(" .*_`\"'").lower())
    return {number: name for number, name in found.items() if name}


def numbered(image: Image, masks: Sequence[NDArray[np.bool_]]) -> Image:
    """The picture with masks outlined and numbered, each number on the deepest place of its mask.

    Args:
        image: the picture.
        masks: (H, W) bool each, none empty.
    """
    pixels = image.pixels.copy()
    colors = [tuple(int(v) for v in color) for color in distinct_colors(len(masks))]
    width = max(1, round(max(image.size) / 300))
    for mask, color in zip(masks, colors, strict=True):
        edge = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)
        pixels[edge] = color
    picture = PIL.Image.fromarray(pixels)
    pen = PIL.ImageDraw.Draw(picture)
    font = PIL.ImageFont.load_default(font_size(image.size))
    taken = np.zeros(image.size, bool)
    for number, (mask, color) in enumerate(zip(masks, colors, strict=True), 1):
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
        free = np.where(taken, 0, depth)  # numbers of nested masks shall not cover each other
        depth = free if free.any() else depth
        deep = np.argwhere(depth >= 0.95 * depth.max())
        y, x = deep[((deep - deep.mean(0)) ** 2).sum(1).argmin()].tolist()
        left, top, right, bottom = pen.textbbox((x, y), str(number), font=font, anchor="mm")
        wide, high = int(right - left) + 4, int(bottom - top) + 4
        taken[max(0, y - high) : y + high, max(0, x - wide) : x + wide] = True
        pen.rectangle((left - 2, top - 2, right + 2, bottom + 2), fill="black", outline=color)
        pen.text((x, y), str(number), fill="white", font=font, anchor="mm")
    return Image(np.array(picture))
