"""Masks for clicks and boxes by SAM ("Segment Anything", 2023) and SAM-HQ ("Segment Anything in
High Quality", 2023), as Hugging Face has them: one more source of masks, not made faster here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anymask.errors import InputError
from anymask.image import Image
from anymask.methods.sam2.prompting import clicks_of, corners_of
from anymask.nn.device import pick_device
from anymask.nn.remembered import Remembered
from anymask.ops.rle import encode
from anymask.segments import Segments

AT_ONCE = 64  # prompts
NO_POINT = -10


class SamPrompter:
    """Answers clicks and boxes on pictures; a picture is encoded once.

    Args:
        model: a transformers ``SamModel`` or ``SamHQModel``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
    """

    def __init__(self, model: Any, device: str = "auto") -> None:
        from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        side = int(model.config.vision_config.image_size)
        self.processor = SamImageProcessorPil(
            size={"longest_edge": side}, pad_size={"height": side, "width": side}
        )
        self.look = Remembered(self._look)

    @torch.inference_mode()
    def _look(self, image: Image) -> tuple[dict[str, Any], tuple[int, int]]:
        given = self.processor(image.pixels, return_tensors="pt")
        pixels = given["pixel_values"].to(self.device)
        size = given["reshaped_input_sizes"][0]
        found = self.model.get_image_embeddings(pixels)
        if isinstance(found, tuple):  # SAM-HQ also hands out what its vision layers saw
            seen = {"image_embeddings": found[0], "intermediate_embeddings": found[1]}
        else:
            seen = {"image_embeddings": found}
        return seen, (int(size[0]), int(size[1]))

    @torch.inference_mode()
    def __call__(
        self,
        image: Image,
        points: Any = None,
        point_labels: Any = None,
        boxes: Any = None,
        masks: Any = None,
        *,
        multimask: bool = False,
    ) -> Segments:
        """One segment for every prompt, in their order.

        Args:
            image: the picture.
            points: (Q, n, 2) x, y in pixels, n clicks for each of Q things; (n, 2) for one thing.
            point_labels: (Q, n) or (n,): 1 inside (default), 0 outside.
            boxes: (Q, 4) x1, y1, x2, y2 in pixels, or (4,).
            masks: not offered; SAM 2 refines masks.
            multimask: return three masks a prompt instead of one.

        Returns:
            Unlabelled segments; a score is the predicted IoU.

        Raises:
            InputError: nothing was asked, a shape is wrong, or points and boxes or masks are mixed.
        """
        if masks is not None or (points is None) == (boxes is None):
            raise InputError("SAM is asked with points or with boxes; SAM 2 takes more")
        seen, size = self.look(image)
        scale = torch.tensor([size[1] / image.width, size[0] / image.height])
        asked = {
            name: value.to(self.device)
            for name, value in _prompts(points, point_labels, boxes, scale).items()
        }
        rles, scores = [], []
        count = len(next(iter(asked.values())))
        for start in range(0, count, AT_ONCE):
            part = {name: value[None, start : start + AT_ONCE] for name, value in asked.items()}
            found = self.model(**seen, **part, multimask_output=multimask)
            large = self.processor.post_process_masks(
                [found.pred_masks[0].cpu()], [list(image.size)], [list(size)]
            )[0]
            rles += [encode(mask) for mask in large.flatten(0, 1).numpy()]
            scores += found.iou_scores[0].flatten().float().cpu().tolist()
        return Segments(image.size, rles, scores=scores)


def _prompts(points: Any, labels: Any, boxes: Any, scale: Tensor) -> dict[str, Tensor]:
    """(Q, n, 2) and (Q, n), or (Q, 4), on the scaled picture."""
    corners = corners_of(boxes)
    if corners is not None:
        return {"input_boxes": torch.from_numpy(corners).float().flatten(1) * scale.repeat(2)}
    places, kinds = clicks_of(points, labels)
    assert places is not None
    # SAM calls a point that is none -10 where SAM 2 says -1.
    said = torch.from_numpy(np.where(kinds == -1, NO_POINT, kinds))
    return {"input_points": torch.from_numpy(places).float() * scale, "input_labels": said}


def load_sam(source: str | Path, kind: str, device: str = "auto") -> SamPrompter:
    """A SAM (``"sam"``) or SAM-HQ (``"sam_hq"``) from its folder or hub id."""
    from transformers import SamHQModel, SamModel

    model: Any = SamHQModel if kind == "sam_hq" else SamModel
    return SamPrompter(model.from_pretrained(source, dtype=torch.float32), device)
