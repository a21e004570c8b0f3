"""A picture as a model's input: scaled, normalised, padded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from anymask.image import Image

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of RGB in 0..1
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
STRIDE = 32  # the coarsest level of the backbones


class PictureInput:
    """Scales and normalises pictures.

    Args:
        short_side, long_side: the picture is scaled so that its short side has the first length
            (pixels), unless its long side would exceed the second; ``short_side=0`` scales by
            the long side alone.
        image_mean, image_std: of RGB values 0..255.
    """

    def __init__(
        self,
        short_side: int,
        long_side: int,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        self.short_side = short_side
        self.long_side = long_side
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels after scaling; never below 1."""
        factor = self.long_side / max(height, width)
        if self.short_side:
            factor = min(factor, self.short_side / min(height, width))
        return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))

    def scale(self, image: Image, factor: float = 1.0) -> Tensor:
        """A picture -> (3, h, w) float32, scaled (times ``factor``) and normalised."""
        height, width = (max(1, round(s * factor)) for s in self.scaled_size(*image.size))
        picture = PIL.Image.fromarray(image.pixels)
        # Shrinking a huge picture in two steps costs a tenth of the memory and looks the same.
        picture = picture.resize((width, height), PIL.Image.Resampling.BILINEAR, reducing_gap=3.0)
        pixels = torch.from_numpy(np.array(picture, dtype=np.float32))
        mean, std = torch.tensor(self.image_mean), torch.tensor(self.image_std)
        return ((pixels - mean) / std).permute(2, 0, 1)


def normalised(
    values: Tensor,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> Tensor:
    """(..., 3, H, W) RGB in 0..1 -> less the mean, over the deviation of each channel."""
    shift, scale = (torch.tensor(x, device=values.device).view(3, 1, 1) for x in (mean, std))
    return (values - shift) / scale


def padded_batch(pictures: Sequence[Tensor]) -> Tensor:
    """(3, h, w) each -> (B, 3, H, W), zeros to the right and below, sides multiples of 32."""
    height, width = (padded(max(p.shape[i] for p in pictures)) for i in (1, 2))
    batch = torch.zeros(len(pictures), 3, height, width)
    for slot, pixels in zip(batch, pictures, strict=True):
        slot[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return batch


def padded(length: int) -> int:
    """The next multiple of the stride."""
    return -(-length // STRIDE) * STRIDE
