"""From a picture to the model's input, and from its output to ranked proposals (specification 4.1).

Nothing here builds a dense stack of masks at picture size: every mask is resized alone, inside
its own box, and leaves as a run-length code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.feature_extraction_utils import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor

from anymask.image import read_image
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptOutput
from anymask.nn.picture_input import PictureInput, padded_batch
from anymask.ops.masks import greedy_nms
from anymask.ops.resize import resize_matrix, resized_rle
from anymask.ops.rle import RLE
from anymask.segments import Segments


class SegPromptImageProcessor(PictureInput, BaseImageProcessor):
    """Resize, normalise and pad pictures; turn outputs into :class:`~anymask.Segments`.

    Args:
        short_side, long_side: the picture is scaled so that its short side has the first length
            (pixels), unless its long side would exceed the second; ``short_side=0`` scales by
            the long side alone.
        image_mean, image_std: of RGB values 0..255.
    """

    model_input_names = ["pixel_values"]  # noqa: RUF012 - the transformers convention

    def __init__(
        self,
        short_side: int = 800,
        long_side: int = 1333,
        image_mean: Sequence[float] = (123.675, 116.28, 103.53),
        image_std: Sequence[float] = (58.395, 57.12, 57.375),
        **kwargs: Any,
    ) -> None:
        BaseImageProcessor.__init__(self, **kwargs)
        PictureInput.__init__(self, short_side, long_side, image_mean, image_std)

    @classmethod
    def for_config(cls, config: SegPromptConfig) -> SegPromptImageProcessor:
        """The processor that a model of this configuration expects."""
        return cls(
            config.image_short_side, config.image_long_side, config.image_mean, config.image_std
        )

    def __call__(self, images: Any, *_: Any, **__: Any) -> BatchFeature:
        """One picture or a list (anything ``read_image`` takes) -> a batch.

        Returns:
            ``pixel_values`` (B, 3, H, W) float32, padded with zeros to the largest picture and to
            a multiple of 32; ``scaled_sizes`` (B, 2) int64, the (height, width) of each picture
            inside it; ``original_sizes`` (B, 2) int64.
        """
        many = images if isinstance(images, (list, tuple)) else [images]
        read = [read_image(image) for image in many]
        scaled = [self.scale(image) for image in read]
        batch = padded_batch(scaled)
        return BatchFeature(
            {
                "pixel_values": batch,
                "scaled_sizes": torch.tensor([p.shape[1:] for p in scaled]),
                "original_sizes": torch.tensor([image.size for image in read]),
            }
        )

    preprocess = __call__

    def post_process_instance_segmentation(
        self,
        outputs: SegPromptOutput,
        scaled_sizes: Sequence[tuple[int, int]] | Tensor,
        original_sizes: Sequence[tuple[int, int]] | Tensor,
        *,
        min_score: float = 0.0,
        max_segments: int = 100,
        nms_iou: float | None = None,
    ) -> list[Segments]:
        """Ranked proposals of every picture of a batch; see :func:`proposals`."""
        assert outputs.class_logits is not None
        assert outputs.mask_logits is not None
        quality = outputs.quality_logits
        return [
            proposals(
                outputs.class_logits[b],
                outputs.mask_logits[b],
                None if quality is None else quality[b],
                scaled_size=(int(scaled_sizes[b][0]), int(scaled_sizes[b][1])),
                original_size=(int(original_sizes[b][0]), int(original_sizes[b][1])),
                min_score=min_score,
                max_segments=max_segments,
                nms_iou=nms_iou,
            )
            for b in range(len(outputs.mask_logits))
        ]


@torch.no_grad()
def proposals(
    class_logits: Tensor,
    mask_logits: Tensor,
    quality_logits: Tensor | None,
    *,
    scaled_size: tuple[int, int],
    original_size: tuple[int, int],
    min_score: float = 0.0,
    max_segments: int = 100,
    nms_iou: float | None = None,
) -> Segments:
    """Unlabelled segments of one picture, best first.

    Score = p(object) x mean mask probability inside the mask (specification 4.1), times the
    predicted IoU when the model has a quality head. With several class columns p(object) is the
    probability of being any of them.

    Args:
        class_logits: (N, K + 1), last column "no object".
        mask_logits: (N, h, w) at stride 4 of the padded input.
        quality_logits: (N,) or None.
        scaled_size: (height, width) of the picture inside the padded input.
        original_size: (height, width) of the picture; the masks get this size.
        min_score: proposals below are dropped.
        max_segments: at most so many.
        nms_iou: drop a proposal whose mask IoU with a better one exceeds this; None keeps all.
    """
    mask_logits = mask_logits.float()
    objectness = 1 - class_logits.float().softmax(-1)[:, -1]
    if quality_logits is not None:
        objectness = objectness * quality_logits.float().sigmoid()
    # The final score is at most this one, so what falls below now need not be resized.
    order = objectness.argsort(descending=True, stable=True)
    order = order[objectness[order] >= min_score]
    if nms_iou is None:
        order = order[:max_segments]  # the paper's rule: the best by class, empty masks included
    else:
        rank = objectness * certainty(mask_logits)
        order = order[rank[order].argsort(descending=True, stable=True)]
        order = order[greedy_nms(dense_iou(mask_logits[order] > 0), nms_iou)]
    rows = resize_matrix(mask_logits.shape[1], scaled_size[0], original_size[0])
    columns = resize_matrix(mask_logits.shape[2], scaled_size[1], original_size[1])
    rles: list[RLE] = []
    scores: list[float] = []
    for query in order.tolist():
        if len(rles) == max_segments:
            break
        # A mask that lies in the padding alone is empty, and its place goes to the next one.
        rle, inside = resized_rle(mask_logits[query].cpu().numpy(), rows, columns)
        score = float(objectness[query]) * inside
        if inside > 0 and score >= min_score:
            rles.append(rle)
            scores.append(score)
    return Segments(original_size, rles, scores=np.array(scores, np.float32)).sorted_by_score()


def certainty(mask_logits: Tensor) -> Tensor:
    """Mean probability inside each mask: (N, h, w) -> (N,)."""
    inside = mask_logits > 0
    total = (mask_logits.sigmoid() * inside).flatten(1).sum(1)
    return total / (inside.flatten(1).sum(1) + 1e-6)


def dense_iou(masks: Tensor) -> NDArray[np.float32]:
    """(N, h, w) bool -> (N, N) IoU."""
    flat = masks.flatten(1).float()
    overlap = flat @ flat.T
    area = flat.sum(1)
    union = area[:, None] + area[None] - overlap
    return (overlap / union.clamp(min=1)).cpu().numpy()  # type: ignore[no-any-return]
