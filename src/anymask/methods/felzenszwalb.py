"""The classical baseline: graph-based segmentation (Felzenszwalb & Huttenlocher 2004).

No learning: what a discoverer must beat to be worth its weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anymask.errors import MissingExtraError
from anymask.image import Image
from anymask.ops.rle import encode, place
from anymask.segments import Segments


class Felzenszwalb:
    """Segments of several scales, the largest first.

    Args:
        scales: of the graph cut; a larger one gives larger segments.
        sigma: width of the Gaussian that smooths the picture, in pixels.
        min_size: smallest segment in pixels.
        max_segments: the largest so many segments over all scales are kept; a segment found at two
            scales counts once.

    Raises:
        MissingExtraError: scikit-image is not installed.
    """

    def __init__(
        self,
        scales: Sequence[float] = (100, 300, 700, 1500),
        sigma: float = 0.8,
        min_size: int = 60,
        max_segments: int = 100,
    ) -> None:
        try:
            from skimage.segmentation import felzenszwalb
        except ImportError as error:
            raise MissingExtraError("The classical baseline", "classical") from error
        self._cut = felzenszwalb
        self.scales = tuple(scales)
        self.sigma = sigma
        self.min_size = min_size
        self.max_segments = max_segments

    def __call__(
        self, image: Image, *, min_score: float = 0.0, max_segments: int | None = None
    ) -> Segments:
        """Segments of one picture; the score is the share of the picture they cover."""
        seen = set()
        parts = []
        for scale in self.scales:
            labels = self._cut(image.pixels, scale=scale, sigma=self.sigma, min_size=self.min_size)
            order = np.argsort(labels, axis=None, kind="stable")
            counts = np.bincount(labels.ravel())
            for pixels in np.split(order, np.cumsum(counts)[:-1]):
                rows, columns = np.divmod(pixels, image.width)
                top, left = int(rows.min()), int(columns.min())
                window = np.zeros((int(rows.max()) - top + 1, int(columns.max()) - left + 1), bool)
                window[rows - top, columns - left] = True
                rle = place(encode(window), image.size, top, left)
                if rle["counts"] not in seen:
                    seen.add(rle["counts"])
                    parts.append((len(pixels), rle))
        parts.sort(key=lambda part: -part[0])
        keep = parts[: min(self.max_segments, max_segments or self.max_segments)]
        share = np.array([area for area, _ in keep], np.float32) / (image.height * image.width)
        found = Segments(image.size, [rle for _, rle in keep], scores=share)
        return found[found.scores >= min_score]
