"""Everything in a picture by SAM: its answers to a grid of clicks, for the rules of
:mod:`anymask.methods.sam2.automatic`, which SAM 2 took over from it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anymask.errors import InputError
from anymask.image import Image
from anymask.methods.sam.prompting import SamPrompter
from anymask.methods.sam2.automatic import Box, Clicked


class SamClicker:
    """Clicks on a SAM or SAM-HQ.

    Args:
        prompter: the model.
    """

    def __init__(self, prompter: SamPrompter) -> None:
        self.prompter = prompter
        self.side = int(prompter.model.config.vision_config.image_size)

    def look(self, image: Image, crop: Box) -> None:
        """See :class:`~anymask.methods.sam2.automatic.Clicker`."""
        left, top, right, bottom = crop
        part = Image(np.ascontiguousarray(image.pixels[top:bottom, left:right]))
        self._seen, self._size = self.prompter.look(part)
        self._scale = np.array([self._size[1] / part.width, self._size[0] / part.height])

    @torch.inference_mode()
    def click(self, points: NDArray[np.float64], multimask: bool, min_iou: float) -> Clicked:
        """See :class:`~anymask.methods.sam2.automatic.Clicker`; logits are those of the scaled
        picture, without the border that fills it up to a square."""
        places = torch.from_numpy(points * self._scale).float()[None, :, None]
        device = self.prompter.device
        found = self.prompter.model(
            **self._seen,
            input_points=places.to(device),
            input_labels=torch.ones(places.shape[:3], dtype=torch.int64, device=device),
            multimask_output=multimask,
        )
        iou = found.iou_scores[0].float()
        good = iou >= min_iou  # few are, and only those are enlarged
        low = found.pred_masks[0][good][None].float()
        large = F.interpolate(low, (self.side, self.side), mode="bilinear", align_corners=False)
        logits = large[0, :, : self._size[0], : self._size[1]]
        return Clicked(good.nonzero()[:, 0], logits, iou[good])

    def refine(self, points: NDArray[np.float64], logits: Tensor) -> tuple[Tensor, Tensor]:
        """Not SAM's."""
        raise InputError("use_m2m belongs to SAM 2: SAM's automatic masks are not refined")
