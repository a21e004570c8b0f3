"""Label pictures: one number per pixel, as PNG."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.data.formats.atomic import atomic_write
from anymask.errors import DataError, SegmentsError
from anymask.image import MAX_PIXELS
from anymask.segments import Segments


def write_label_png(path: str | Path, segments: Segments) -> None:
    """Write the regions as a label picture: row number + 1 per pixel, 0 where no region is.

    8 bits a pixel for up to 255 regions, 16 bits for more. One pixel holds one number: where
    regions overlap, the higher score wins, and among equal scores the later row.

    Args:
        path: where the file goes (see `atomic_write`).
        segments: at most 65,535 regions.

    Raises:
        SegmentsError: there are more regions than 16 bits can number.
        OSError: the file cannot be written.
    """
    if len(segments) > 65535:
        raise SegmentsError(
            f"{len(segments)} regions do not fit into a 16-bit label picture (65,535): keep the "
            "best, or write COCO JSON."
        )
    numbers = segments.to_label_map().astype(np.uint8 if len(segments) <= 255 else np.uint16)
    with atomic_write(path) as stream:
        PIL.Image.fromarray(numbers).save(stream, format="PNG")


def read_label_png(
    path: str | Path,
    ignore: Iterable[int] = (0,),
    names: Mapping[int, str] | None = None,
) -> Segments:
    """Read a label picture: one region per number, in ascending order.

    Args:
        path: a grey (8 or 16 bit) or palette picture whose values are numbers.
        ignore: values that mean "nothing here".
        names: number -> label, where the numbers mean classes.

    Returns:
        The regions; `ids` are the numbers.

    Raises:
        DataError: the file is missing, broken, too large, or a colour picture.
    """
    return Segments.from_label_map(read_numbers(path), ignore=ignore, names=names)


def read_numbers(path: str | Path) -> NDArray[Any]:
    """The values of a label picture: (H, W) of whole numbers; palette entries are not looked up.

    Raises:
        DataError: the file is missing, broken, larger than `anymask.image.MAX_PIXELS`, or a
            colour picture.
    """
    try:
        with PIL.Image.open(path, formats=["PNG", "TIFF", "BMP", "GIF"]) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise DataError(f"{path} is {picture.width}x{picture.height}: too large.")
            if picture.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
                raise DataError(
                    f"{path} is a colour picture (mode {picture.mode}); a label picture has one "
                    "number per pixel (grey or palette)."
                )
            values = np.array(picture)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except Exception as error:
        # Decoders raise nearly anything on broken bytes; to the caller they all mean the same.
        raise DataError(f"{path} cannot be read as a label picture: {error}.") from error
    return values.astype(np.uint8) if values.dtype == np.bool_ else values
