"""A region drawn on its picture in red: what a vision model is asked about (RR-7K)."""

from __future__ import annotations

import numpy as np
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
