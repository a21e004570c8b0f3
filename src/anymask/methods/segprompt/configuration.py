"""Configuration of the SegPrompt model (Zhu et al., ICCV 2023)."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig, ResNetConfig, SwinConfig

STAGES = ["stage1", "stage2", "stage3", "stage4"]


class SegPromptConfig(PreTrainedConfig):
    """Everything needed to build a :class:`SegPromptModel`.

    The defaults are the paper's (ResNet-50 Mask2Former, class-agnostic). :meth:`pocket`,
    :meth:`resnet50` and :meth:`swin_tiny` are the three sizes we use.

    Attributes:
        backbone_config: configuration of a Hugging Face backbone with four stages at strides 4,
            8, 16 and 32, or None for the pocket backbone.
        pocket_widths, pocket_depths: channels and blocks of the pocket backbone.
        frozen_norm: batch normalisation of the backbone keeps its statistics and does not learn
            (detectron2's ResNets).
        pixel_decoder: ``"deformable"`` (Mask2Former) or ``"pyramid"`` (cheap on a CPU).
        queries: ``"learned"`` (Mask2Former) or ``"grid"``: a query per cell of a square grid,
            its content drawn from the picture at that point; ``num_queries`` is then a square.
        quality_head: predict the IoU of every mask with the object it covers.
        num_classes: columns of the class head before "no object". 1 for a class-agnostic model;
            the released SegPrompt configurations keep 80 of which only the first is used.
        class_names: of the class columns, for a class-aware model; empty = it gives no labels.
        dense_loss: compare masks on every stride-4 cell; otherwise on ``num_points`` sampled
            points (Mask2Former, section 3.3).
        federated: an unlabelled area is not a negative: weigh "no object" by how much of the
            query's mask lies in labelled area.
        objects_per_query_group: in the inner predictions every object may be matched with this
            many queries, which speeds learning up (Jia et al. 2023, "DETRs with Hybrid
            Matching"). 1 is plain Mask2Former.
        views: at test time, the passes over a picture: each is a scale relative to the test-time
            size, mirrored when negative. The first sets the size of the masks. More than one pass
            finds more small objects and needs ``nms_iou``.
        nms_iou: at test time, drop a proposal whose mask IoU with a better one exceeds this; None
            keeps all (the paper).
        min_score: the lowest score worth showing to people, used when they name none.
        image_short_side, image_long_side: test-time size in pixels: the picture is scaled so that
            its short side has the first length, unless its long side would exceed the second.
            ``image_short_side=0`` scales by the long side alone.
        image_mean, image_std: of RGB values 0..255.
    """

    model_type = "anymask_segprompt"
    sub_configs = {"backbone_config": AutoConfig}  # noqa: RUF012 - the transformers convention

    backbone_config: dict[str, Any] | PreTrainedConfig | None = None
    pocket_widths: tuple[int, ...] = (32, 64, 128, 256)
    pocket_depths: tuple[int, ...] = (2, 3, 4, 2)
    frozen_norm: bool = False
    pixel_decoder: str = "deformable"
    hidden_dim: int = 256
    mask_dim: int = 256
    num_heads: int = 8
    encoder_layers: int = 6
    encoder_ffn_dim: int = 1024
    encoder_points: int = 4
    decoder_layers: int = 9
    decoder_ffn_dim: int = 2048
    num_queries: int = 100
    queries: str = "learned"
    quality_head: bool = False
    num_classes: int = 1
    class_names: tuple[str, ...] = ()
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    quality_weight: float = 1.0
    no_object_weight: float = 0.1
    dense_loss: bool = False
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75
    federated: bool = False
    objects_per_query_group: int = 1
    views: tuple[float, ...] = (1.0,)
    nms_iou: float | None = None
    min_score: float = 0.0
    image_short_side: int = 800
    image_long_side: int = 1333
    image_mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    image_std: tuple[float, ...] = (58.395, 57.12, 57.375)

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.backbone_config, dict):
            self.backbone_config = AutoConfig.for_model(**self.backbone_config)
        if self.pixel_decoder not in ("deformable", "pyramid"):
            raise ValueError(f"pixel_decoder is {self.pixel_decoder!r}: use deformable or pyramid")
        if self.class_names and len(self.class_names) != self.num_classes:
            raise ValueError(f"{len(self.class_names)} names for {self.num_classes} classes")
        if self.queries not in ("learned", "grid"):
            raise ValueError(f"queries is {self.queries!r}: use learned or grid")
        if self.queries == "grid" and round(self.num_queries**0.5) ** 2 != self.num_queries:
            raise ValueError(f"grid queries need a square num_queries, not {self.num_queries}")
        super().__post_init__(**kwargs)

    def settings(self) -> dict[str, Any]:
        """Everything that another configuration of this kind can be made from."""
        own = ("model_type", "architectures", "transformers_version", "dtype")
        return {name: value for name, value in self.to_dict().items() if name not in own}

    @classmethod
    def resnet50(cls, **changes: Any) -> SegPromptConfig:
        """The paper's model: ResNet-50 ("v1.5": the stride is in the 3x3 convolution)."""
        backbone = ResNetConfig(out_features=STAGES, downsample_in_bottleneck=False)
        return cls(**{"backbone_config": backbone, "frozen_norm": True, **changes})

    @classmethod
    def swin_tiny(cls, **changes: Any) -> SegPromptConfig:
        """Swin-T in place of ResNet-50, as in Mask2Former's Swin models."""
        backbone = SwinConfig(
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            out_features=STAGES,
        )
        return cls(backbone_config=backbone, **changes)

    @classmethod
    def pocket(cls, **changes: Any) -> SegPromptConfig:
        """The small model that ships with the package: 4.2 M parameters, fast on a CPU."""
        settings: dict[str, Any] = {
            "pixel_decoder": "pyramid",
            "hidden_dim": 128,
            "mask_dim": 64,
            "decoder_layers": 3,
            "decoder_ffn_dim": 512,
            "num_queries": 100,
            "queries": "grid",
            "quality_head": True,
            "dense_loss": True,
            "federated": True,
            "objects_per_query_group": 3,
            "views": (1.0, -1.0),
            "nms_iou": 0.8,
            "min_score": 0.15,
            "image_short_side": 0,
            "image_long_side": 256,
        }
        return cls(**{**settings, **changes})
