"""A region drawn on its picture in red: what a vision model is asked about (RR-7K), and what people
look at."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageOps
from numpy.typing import NDArray
from scipy import ndimage

from anymask.image import Image

RED = np.array([255, 0, 0], np.float32)
OPACITY = 0.4  # of the fill
CONTOUR = 3  # pixels at a long side of 1000


def marked(image: Image, mask: NDArray[np.bool_], opacity: float = OPACITY) -> Image:
    """The picture with a mask filled and outlined in red.

    Args:
        image: the picture.
        mask: (H, W) bool.
        opacity: of the fill, 0..1; the outline is solid.
    """
    width = max(1, round(CONTOUR * max(image.size) / 1000))
    edge = mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=0)
    pixels = image.pixels.astype(np.float32)
    pixels[mask] = (1 - opacity) * pixels[mask] + opacity * RED
    pixels[edge] = RED
    return Image(pixels.round().astype(np.uint8))


def marked_part(
    image: Image, mask: NDArray[np.bool_], side: int, context: float = 1.0
) -> PIL.Image.Image:
    """A marked mask with its surroundings, made to fit a square.

    Args:
        image: the picture.
        mask: (H, W) bool; the whole picture is shown when it is empty.
        side: of the square in pixels; the part is scaled to it.
        context: how much is shown on each side of the mask, as a share of its longer side.
    """
    drawn = PIL.Image.fromarray(marked(image, mask).pixels)
    if mask.any():
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        around = context * max(rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        drawn = drawn.crop(
            (
                max(0, int(columns[0] - around)),
                max(0, int(rows[0] - around)),
                min(drawn.width, int(columns[-1] + 1 + around)),
                min(drawn.height, int(rows[-1] + 1 + around)),
            )
        )
    return PIL.ImageOps.contain(drawn, (side, side), PIL.Image.Resampling.LANCZOS)
