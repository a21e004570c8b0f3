"""Wrong names to look at: the worst of small, of large and of rare regions, each drawn in red."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
from numpy.typing import NDArray

from anymask.benchmarks.naming_protocol import NamedPair, groups
from anymask.data.formats.atomic import atomic_write
from anymask.errors import InputError
from anymask.image import Image
from anymask.ops.marking import marked_part

SIDE, TEXT, GAP = 220, 44, 8  # pixels: of a picture, of the words below it, between pictures
SHOWN = ("small", "large", "rare")
Look = Callable[[NamedPair], tuple[Image, NDArray[np.bool_]]]


def draw_gallery(
    pairs: Sequence[NamedPair],
    similarity: NDArray[np.float64],
    look: Look,
    path: Path,
    columns: int = 6,
) -> None:
    """Draw a row for each kind of region, its worst names first.

    Args:
        pairs: names and truths.
        similarity: (N,) of each.
        look: the picture and mask of a pair.
        path: of the picture to write; the suffix decides the format.
        columns: pictures a row.

    Raises:
        InputError: no pair is of any of these kinds.
    """
    members = groups(pairs, Counter(pair.truth for pair in pairs))
    rows = []
    for kind in SHOWN:
        mine = np.flatnonzero(members[kind])
        order = mine[np.argsort(similarity[mine], kind="stable")][:columns]
        if len(order):
            rows.append((kind, order.tolist()))
    if not rows:
        raise InputError("there is nothing to draw: no region is small, large or rare")
    titled = [(f"{kind} regions, the worst names first", order) for kind, order in rows]
    draw_sheet(titled, pairs, look, path, columns)


def draw_sheet(
    rows: Sequence[tuple[str, Sequence[int]]],
    pairs: Sequence[NamedPair],
    look: Look,
    path: Path,
    columns: int,
) -> None:
    """Draw rows of regions, each with its name above the true one.

    Args:
        rows: a title and which pairs.
        pairs, look, path, columns: as of :func:`draw_gallery`.
    """
    font = PIL.ImageFont.load_default(14)
    head = 26
    sheet = PIL.Image.new(
        "RGB",
        (GAP + columns * (SIDE + GAP), GAP + len(rows) * (head + SIDE + TEXT + GAP)),
        "white",
    )
    pen = PIL.ImageDraw.Draw(sheet)
    for number, (title, order) in enumerate(rows):
        top = GAP + number * (head + SIDE + TEXT + GAP)
        pen.text((GAP, top), title, fill="#222", font=font)
        for column, k in enumerate(order):
            left = GAP + column * (SIDE + GAP)
            image, mask = look(pairs[k])
            part = marked_part(image, mask, SIDE)
            place = left + (SIDE - part.width) // 2, top + head + (SIDE - part.height) // 2
            sheet.paste(part, place)
            below = top + head + SIDE + 4
            wrong, right = pairs[k].found or "(no name)", pairs[k].truth
            pen.text((left, below), _fit(pen, wrong, font), fill="#b00020", font=font)
            pen.text((left, below + 18), _fit(pen, right, font), fill="#1b7f3b", font=font)
    with atomic_write(path) as stream:
        sheet.save(stream, format=PIL.Image.registered_extensions().get(path.suffix.lower(), "PNG"))


def _fit(pen: PIL.ImageDraw.ImageDraw, text: str, font: Any) -> str:
    """A text cut to the width of a picture."""
    if pen.textlength(text, font=font) <= SIDE:
        return text
    while text and pen.textlength(text + "…", font=font) > SIDE:
        text = text[:-1]
    return text + "…"
