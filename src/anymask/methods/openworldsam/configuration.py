"""Configuration of OpenWorldSAM."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig, Sam2Config

from anymask.nn.beit3 import Beit3Config

READERS = ("beit3", "clip", "siglip2", "florence2", "blip2", "kosmos2")
LAYOUTS = ("single", "all_pairs")
FUSIONS = ("none", "concat", "cross_attention")


class OpenWorldSAMConfig(PreTrainedConfig):  # type: ignore[misc]
    """Everything needed to build an :class:`~anymask.methods.openworldsam.model.OpenWorldSAMModel`.

    The defaults are the paper's where it speaks; ``released()`` is what the released code does.

    Attributes:
        sam2_config: of the frozen SAM 2.
        reader: who reads phrases: ``"beit3"`` (the paper), ``"clip"``, ``"siglip2"``,
            ``"florence2"``, ``"blip2"`` or ``"kosmos2"``.
        reader_config: of that model.
        reader_picture_size: side in pixels of the picture that Florence-2 sees; the other readers'
            own configuration says it.
        use_picture: whether the reader sees the picture as well (Table 4: text only).
        fusion: how the picture of readers that see it apart from the text comes in: ``"none"``,
            ``"concat"`` (Table 4: late) or ``"cross_attention"`` (the advice of Table 10).
        projector_dim: hidden width of the projector; 0 = the width of a phrase's vector.
        num_tie_breakers: K; 0 = a single query a phrase (E1 of Table 5).
        num_layers: of the soft-prompting transformer; 0 = without it (E3 of Table 5).
        num_heads, mlp_ratio, dropout: of it.
        prompt_layout: ``"single"`` or ``"all_pairs"``, see ``adapter.py``.
        isolate_prompts: a phrase's answer does not depend on the phrases asked with it.
        train_reader: tune the reader too (E4 and E6 of Table 5).
        mask_weight, dice_weight, iou_weight, no_object_weight, presence_weight: see ``loss.py``.
        presence_threshold: a phrase whose best object probability is below it is absent; 0 = no
            phrase ever is, because the weights were trained without absent ones.
        score_threshold: queries below are no instances and no panoptic segments.
        nms_iou: of two masks of a phrase that overlap more the worse goes.
        instance_nms: ``"mask"`` a phrase, or ``"box"`` over all phrases (the released code).
        antialias: of the picture's resizing; the released code's is without.
    """

    model_type = "anymask_openworldsam"
    sub_configs = {"sam2_config": Sam2Config}  # noqa: RUF012 - the transformers convention

    sam2_config: dict[str, Any] | Sam2Config | None = None
    reader: str = "beit3"
    reader_config: dict[str, Any] | PreTrainedConfig | None = None
    reader_picture_size: int = 768
    use_picture: bool = True
    fusion: str = "none"
    projector_dim: int = 0
    num_tie_breakers: int = 20
    num_layers: int = 3
    num_heads: int = 8
    mlp_ratio: float = 4.0
    dropout: float = 0.1
    prompt_layout: str = "single"
    isolate_prompts: bool = True
    train_reader: bool = False
    mask_weight: float = 20.0
    dice_weight: float = 0.0
    iou_weight: float = 0.0
    no_object_weight: float = 0.0
    presence_weight: float = 0.0
    presence_threshold: float = 0.0
    score_threshold: float = 0.7
    nms_iou: float = 0.5
    instance_nms: str = "mask"
    antialias: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.sam2_config is None:
            self.sam2_config = large_sam2()
        elif isinstance(self.sam2_config, dict):
            self.sam2_config = Sam2Config(**self.sam2_config)
        if self.reader_config is None:
            self.reader_config = Beit3Config()
        elif isinstance(self.reader_config, dict):
            settings = dict(self.reader_config)
            kind = settings.pop("model_type", Beit3Config.model_type)
            self.reader_config = (
                Beit3Config(**settings)
                if kind == Beit3Config.model_type
                else AutoConfig.for_model(kind, **settings)
            )
        for name, allowed in (
            ("reader", READERS),
            ("prompt_layout", LAYOUTS),
            ("fusion", FUSIONS),
            ("instance_nms", ("mask", "box")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}: use one of {', '.join(allowed)}")
        super().__post_init__(**kwargs)

    @classmethod
    def released(cls, **changes: Any) -> OpenWorldSAMConfig:
        """As the released code computes and the released weights were trained."""
        settings = {
            "prompt_layout": "all_pairs",
            "isolate_prompts": False,
            "instance_nms": "box",
        }
        return cls(**{**settings, **changes})


def large_sam2(**changes: Any) -> Sam2Config:
    """SAM 2 with Hiera-L, the paper's."""
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 144,
        "num_attention_heads": 2,
        "blocks_per_stage": [2, 6, 36, 4],
        "embed_dim_per_stage": [144, 288, 576, 1152],
        "num_attention_heads_per_stage": [2, 4, 8, 16],
        "window_size_per_stage": [8, 4, 16, 8],
        "global_attention_blocks": [23, 33, 43],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [1152, 576, 288, 144],
    }
    return Sam2Config(**{"vision_config": vision, **changes})
