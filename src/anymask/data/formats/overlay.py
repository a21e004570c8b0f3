"""The picture with its regions drawn on it, as JPEG."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from anymask.data.formats.atomic import atomic_write
from anymask.draw import annotate, annotate_by_label
from anymask.image import Image
from anymask.segments import Segments

_JPEG_MAX_SIDE: Final = 65_500


def write_overlay(
    path: str | Path,
    image: Image,
    segments: Segments,
    *,
    quality: int = 90,
    legend: bool = False,
    **options: Any,
) -> None:
    """Draw the regions and write the result as JPEG.

    Args:
        path: where the file goes (see `atomic_write`).
        image: the picture.
        segments: its regions.
        quality: of the JPEG, 1..95.
        legend: one colour a label, and a legend below the picture.
        options: passed on to `anymask.annotate`.

    A picture with a side longer than JPEG allows (65,500 pixels) is scaled down to it.

    Raises:
        SegmentsError: the regions belong to a picture of another size.
        OSError: the file cannot be written.
    """
    draw = annotate_by_label if legend else annotate
    drawn = draw(image, segments, **options)
    if max(drawn.size) > _JPEG_MAX_SIDE:
        drawn.thumbnail((_JPEG_MAX_SIDE, _JPEG_MAX_SIDE))
    with atomic_write(path) as stream:
        drawn.save(stream, format="JPEG", quality=quality)
