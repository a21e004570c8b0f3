"""``transformers.pipeline("open-world-segmentation")``: for people who know that interface."""

from __future__ import annotations

from typing import Any

from transformers import Pipeline

from anymask.image import read_image
from anymask.segments import Segments


class OpenWorldSegmentationPipeline(Pipeline):
    """A picture (path, PIL or array) -> a list of ``{"score", "label", "mask"}``, best first.

    ``mask`` is a (H, W) bool array at the picture's size and ``label`` is None: nothing is named
    here. ``min_score`` and ``max_segments`` may be given at the call.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def _sanitize_parameters(
        self, min_score: float | None = None, max_segments: int | None = None, **_: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        asked = {"min_score": min_score, "max_segments": max_segments}
        return {}, {}, {name: value for name, value in asked.items() if value is not None}

    def preprocess(self, input_: Any, **_: Any) -> dict[str, Any]:
        """Read and prepare one picture."""
        return dict(self.image_processor(read_image(input_)))

    def _forward(self, input_tensors: dict[str, Any], **_: Any) -> dict[str, Any]:
        output = self.model(pixel_values=input_tensors["pixel_values"])
        return {**input_tensors, "output": output}

    def postprocess(self, model_outputs: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
        """Masks at picture size."""
        segments: Segments = self.image_processor.post_process_instance_segmentation(
            model_outputs["output"],
            model_outputs["scaled_sizes"],
            model_outputs["original_sizes"],
            nms_iou=self.model.config.nms_iou,
            **{"min_score": self.model.config.min_score, **options},
        )[0]
        return [
            {"score": float(segment.scores[0]), "label": None, "mask": segment.mask(0)}
            for segment in segments
        ]
