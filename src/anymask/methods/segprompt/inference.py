"""The class-agnostic discoverer: a picture in, ranked proposals out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from anymask.errors import CheckpointError
from anymask.image import Image
from anymask.methods.segprompt.model import SegPromptModel, SegPromptOutput
from anymask.methods.segprompt.processing import SegPromptImageProcessor, proposals
from anymask.nn.device import pick_device
from anymask.nn.picture_input import padded
from anymask.ops.mask_classification import Canvas, instances
from anymask.segments import Segments


class SegPromptDiscoverer:
    """Finds the objects of pictures with a :class:`SegPromptModel`.

    Args:
        model: the model; it is moved to ``device`` and set to evaluation.
        processor: prepares pictures; None = the one the model's configuration describes.
        device: ``"auto"`` (CUDA, then MPS, then CPU) or a torch device.
        nms_iou: drop a proposal whose mask IoU with a better one exceeds this; None = as the
            model's configuration says (the paper: no suppression).
    """

    def __init__(
        self,
        model: SegPromptModel,
        processor: SegPromptImageProcessor | None = None,
        device: str | torch.device = "auto",
        nms_iou: float | None = None,
    ) -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.processor = processor or SegPromptImageProcessor.for_config(model.config)
        self.nms_iou = model.config.nms_iou if nms_iou is None else nms_iou

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "auto", **kwargs: object
    ) -> SegPromptDiscoverer:
        """Load a model saved with ``save_pretrained``; ``kwargs`` go to ``from_pretrained``."""
        return cls(SegPromptModel.from_pretrained(folder_or_id, **kwargs), device=device)

    def __call__(
        self, image: Image, *, min_score: float = 0.0, max_segments: int = 100
    ) -> Segments:
        """Unlabelled segments of one picture, best first; scores in 0..1."""
        return self.discover_batch([image], min_score=min_score, max_segments=max_segments)[0]

    def labelled(
        self, image: Image, *, min_score: float = 0.0, max_segments: int = 300
    ) -> Segments:
        """What a class-aware model calls things: the best pairs of a proposal and a class.

        A proposal may come with several classes, as in Mask2Former's instance inference; LVIS
        measures the best 300.

        Args:
            image: the picture.
            min_score: pairs below are dropped; a score is the class's probability times the mean
                probability inside of the mask.
            max_segments: pairs.

        Raises:
            CheckpointError: the model has no names for classes.
        """
        names = self.model.config.class_names
        if not names:
            raise CheckpointError(
                "this model is class-agnostic and has no labels to give: name what it finds with "
                "anymask segment, or give a class-aware model"
            )
        (view,) = self._look([image], self.model.config.views[0])
        canvas = Canvas(view.mask_logits.cpu(), view.scaled_size, image.size)
        shares = view.class_logits.float().softmax(-1)
        every = [True] * len(names)
        found = [i for i in instances(canvas, shares, every, max_segments) if i.score >= min_score]
        return Segments(
            image.size,
            [one.rle for one in found],
            scores=[one.score for one in found],
            labels=[names[one.category] for one in found],
            label_scores=[one.score for one in found],
            label_sources=["segprompt"] * len(found),
        )

    def discover_batch(
        self, images: Sequence[Image], *, min_score: float = 0.0, max_segments: int = 100
    ) -> list[Segments]:
        """Segments of several pictures of any sizes.

        Pictures share a batch only when they need the same padding, so the answer for a picture
        never depends on its neighbours.
        """
        views = [self._look(images, view) for view in self.model.config.views]
        return [
            proposals(
                *merge_views(seen),
                scaled_size=seen[0].scaled_size,
                original_size=image.size,
                min_score=min_score,
                max_segments=max_segments,
                nms_iou=self.nms_iou,
            )
            for image, *seen in zip(images, *views, strict=True)
        ]

    def _look(self, images: Sequence[Image], view: float) -> list[View]:
        """One pass over all pictures, scaled by ``|view|`` and mirrored when it is negative."""
        scaled = [self.processor.scale(image, abs(view)) for image in images]
        if view < 0:
            scaled = [pixels.flip(-1) for pixels in scaled]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index, pixels in enumerate(scaled):
            groups[padded(pixels.shape[1]), padded(pixels.shape[2])].append(index)
        seen: dict[int, View] = {}
        for (height, width), members in groups.items():
            batch = torch.zeros(len(members), 3, height, width)
            for slot, index in zip(batch, members, strict=True):
                pixels = scaled[index]
                slot[:, : pixels.shape[1], : pixels.shape[2]] = pixels
            output = self.forward(batch)
            assert output.class_logits is not None
            assert output.mask_logits is not None
            for slot_index, index in enumerate(members):
                quality = output.quality_logits
                seen[index] = View(
                    output.class_logits[slot_index],
                    output.mask_logits[slot_index].float(),
                    None if quality is None else quality[slot_index],
                    (scaled[index].shape[1], scaled[index].shape[2]),
                    mirrored=view < 0,
                )
        return [seen[index] for index in range(len(images))]

    @torch.inference_mode()
    def forward(self, pixel_values: torch.Tensor) -> SegPromptOutput:
        """The model's output for a prepared batch (B, 3, H, W)."""
        with self._precision():
            return self.model(pixel_values.to(self.device))  # type: ignore[no-any-return]

    def _precision(self) -> AbstractContextManager[object]:
        # bf16 pays where there are matrix units for it; on other processors it is slower.
        if self.device.type == "cuda" and torch.cuda.is_bf16_supported():
            return torch.autocast("cuda", torch.bfloat16)
        return nullcontext()


@dataclass(frozen=True)
class View:
    """What one pass says about one picture; masks (N, h, w) at stride 4 of the padded input."""

    class_logits: Tensor
    mask_logits: Tensor
    quality_logits: Tensor | None
    scaled_size: tuple[int, int]
    mirrored: bool = False


def merge_views(views: Sequence[View]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Proposals of several passes over one picture, on the mask grid of the first.

    Returns:
        Class logits (M, K + 1), mask logits (M, h, w) and quality logits (M,) or None, where M is
        the number of proposals of all passes.
    """
    first = views[0]
    height, width = first.mask_logits.shape[-2:]
    masks = [first.mask_logits]
    for view in views[1:]:
        # Centres of the first grid's cells, as shares of the picture's sides ...
        y = (torch.arange(height, device=view.mask_logits.device) + 0.5) * 4 / first.scaled_size[0]
        x = (torch.arange(width, device=view.mask_logits.device) + 0.5) * 4 / first.scaled_size[1]
        if view.mirrored:
            x = 1 - x
        # ... and their places on the other grid, from -1 to 1 over its padded input.
        y = y * view.scaled_size[0] / (4 * view.mask_logits.shape[-2]) * 2 - 1
        x = x * view.scaled_size[1] / (4 * view.mask_logits.shape[-1]) * 2 - 1
        grid = torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)[None]
        moved = nn.functional.grid_sample(
            view.mask_logits[None], grid, padding_mode="border", align_corners=False
        )
        masks.append(moved[0])
    qualities = [view.quality_logits for view in views if view.quality_logits is not None]
    return (
        torch.cat([view.class_logits for view in views]),
        torch.cat(masks),
        torch.cat(qualities) if qualities else None,
    )
