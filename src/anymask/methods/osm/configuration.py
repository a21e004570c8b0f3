"""Configuration of OSM."""

from __future__ import annotations

from typing import Any

from transformers import InstructBlipConfig, PreTrainedConfig

MODES = (
    "coco", "lvis", "v3det", "a847", "pc459", "partimagenet", "pascal_part", "ade20k", "cityscapes",
    "any",
)  # fmt: skip
LOSSES = ("full_text", "answer_only")


class OSMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Everything needed to build an :class:`~anymask.methods.osm.model.OSMModel`.

    Attributes:
        base_config: of the InstructBLIP it stands on.
        canvas: S, side of the square canvas in pixels; 1120 in the final model.
        stride: T, between windows; the window is the size the eye was trained at.
        windows: False = the whole canvas at once with stretched positions (Table 2b, "Global").
        context_ratio: how much larger the context is on every side, of the mask's box; below 0 =
            the whole canvas.
        modes: data sets, and ``"any"`` for any words; each has a pair of mode queries. Empty = a
            model without modes (Table 2c).
        pos_init_std: of the global positional embedding's initial values; the released code has 1,
            as large as the features themselves, which hurts short trainings.
        loss_on: ``"answer_only"``, or ``"full_text"``, which also teaches the question as the
            released code does.
    """

    model_type = "anymask_osm"
    sub_configs = {"base_config": InstructBlipConfig}  # noqa: RUF012 - the transformers convention

    base_config: dict[str, Any] | InstructBlipConfig | None = None
    canvas: int = 1120
    stride: int = 224
    windows: bool = True
    context_ratio: float = 0.5
    modes: list[str] | tuple[str, ...] = MODES
    pos_init_std: float = 0.02
    loss_on: str = "answer_only"

    def __post_init__(self, **kwargs: Any) -> None:
        if self.base_config is None:
            self.base_config = vicuna_7b()
        elif isinstance(self.base_config, dict):
            self.base_config = InstructBlipConfig(**self.base_config)
        if self.loss_on not in LOSSES:
            raise ValueError(f"loss_on is {self.loss_on!r}: use one of {', '.join(LOSSES)}")
        base: Any = self.base_config
        vision = base.vision_config
        patch, window = int(vision.patch_size), int(vision.image_size)
        for name, value in (("canvas", self.canvas), ("stride", self.stride)):
            if value % patch:
                raise ValueError(f"{name} is {value}: give a multiple of the patch, {patch}")
        if self.canvas < window:
            raise ValueError(f"canvas is {self.canvas}, smaller than a window of {window}")
        super().__post_init__(**kwargs)


def vicuna_7b() -> InstructBlipConfig:
    """``Salesforce/instructblip-vicuna-7b``."""
    return InstructBlipConfig(
        vision_config={
            "hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 39,
            "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "layer_norm_eps": 1e-6,
        },
        qformer_config={
            "vocab_size": 30523, "hidden_size": 768, "num_hidden_layers": 12,
            "num_attention_heads": 12, "intermediate_size": 3072, "encoder_hidden_size": 1408,
            "cross_attention_frequency": 2,
        },
        text_config={
            "model_type": "llama", "vocab_size": 32001, "hidden_size": 4096,
            "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
        },
        num_query_tokens=32,
    )  # fmt: skip
