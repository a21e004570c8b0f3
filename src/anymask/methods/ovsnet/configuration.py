"""Configuration of OVSNet ("Stepping Out of Similar Semantic Space", ICCV 2025)."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from anymask.nn.clip_convnext import ClipConvNextConfig

AGGREGATIONS = ("gfa", "none", "self", "cross")
CLASSIFIERS = ("ensemble", "clip", "query")

# The fourteen sentences of FC-CLIP (from ViLD), in which every word is read.
TEMPLATES = (
    "a photo of a {}.",
    "This is a photo of a {}",
    "There is a {} in the scene",
    "There is the {} in the scene",
    "a photo of a {} in the scene",
    *(
        sentence.replace("SIZE", size)
        for size in ("small", "medium", "large")
        for sentence in (
            "a photo of a SIZE {}.",
            "This is a photo of a SIZE {}.",
            "There is a SIZE {} in the scene.",
        )
    ),
)


class OVSNetConfig(PreTrainedConfig):
    """Everything needed to build an :class:`~anymask.methods.ovsnet.model.OVSNetModel`.

    The defaults are the paper's where it speaks and the specification's where it does not.

    Attributes:
        clip_config: of the ConvNeXt CLIP.
        pixel_decoder: ``"deformable"`` (the paper) or ``"pyramid"`` (cheap on a CPU).
        queries: ``"learned"`` (the paper) or ``"grid"``, see ``nn/queries.py``.
        num_queries: 100, or 250 in FC-CLIP's checkpoints; it changes what the walk does.
        aggregation: ``"gfa"`` (section 4.2), ``"none"`` (FC-CLIP), ``"self"`` or ``"cross"``
            (Table 4a).
        omega, lam, gfa_mode, normalize_inputs, detach_affinity, exclude_empty, guard: of
            :class:`~anymask.methods.ovsnet.aggregation.GradientFreeAggregation`.
        classify_with: ``"ensemble"`` of both branches, or ``"clip"`` or ``"query"`` alone.
        alpha, beta: share of CLIP's branch for classes seen in training, and for others.
        ensemble_on_valid_mask: CLIP has no say where a mask has no cell.
        text_transfer: MAFT+'s content-dependent words: None, ``"semantic"`` or ``"panoptic"``.
        training_words: the words of every training class; says which test classes are seen.
        templates: sentences with one ``{}``.
        proxy_weight, proxy_gamma: of Proxy Calibration (section 4.3); weight 0 = off.
        clip_class_weight: of a class loss on CLIP's branch.
        train_clip_trunk: tune CLIP's picture side as MAFT+ does, see ``tuning.py``.
        mask_aware_weight, compensation_weight: of MAFT+'s two losses.
        image_short_side, image_long_side: test-time size in pixels.
        object_threshold, overlap_threshold: of panoptic results.
    """

    model_type = "anymask_ovsnet"
    sub_configs = {"clip_config": ClipConvNextConfig}  # noqa: RUF012 - the transformers convention

    clip_config: dict[str, Any] | ClipConvNextConfig | None = None
    pixel_decoder: str = "deformable"
    queries: str = "learned"
    hidden_dim: int = 256
    mask_dim: int = 256
    num_heads: int = 8
    encoder_layers: int = 6
    encoder_ffn_dim: int = 1024
    encoder_points: int = 4
    decoder_layers: int = 9
    decoder_ffn_dim: int = 2048
    num_queries: int = 100
    aggregation: str = "gfa"
    omega: float = 0.5
    lam: float = 0.2
    gfa_mode: str = "softmax"
    normalize_inputs: bool = True
    detach_affinity: bool = True
    exclude_empty: bool = False
    guard: str = "rescale"
    classify_with: str = "ensemble"
    alpha: float = 0.4
    beta: float = 0.8
    ensemble_on_valid_mask: bool = False
    text_transfer: str | None = None
    training_words: tuple[tuple[str, ...], ...] = ()
    templates: tuple[str, ...] = TEMPLATES
    proxy_weight: float = 1.0
    proxy_gamma: float = 2.0
    clip_class_weight: float = 0.0
    train_clip_trunk: bool = False
    mask_aware_weight: float = 1.0
    compensation_weight: float = 0.1
    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    no_object_weight: float = 0.1
    num_points: int = 12544
    oversample_ratio: float = 3.0
    importance_sample_ratio: float = 0.75
    image_short_side: int = 800
    image_long_side: int = 1333
    object_threshold: float = 0.0
    overlap_threshold: float = 0.8

    def __post_init__(self, **kwargs: Any) -> None:
        if self.clip_config is None:
            self.clip_config = ClipConvNextConfig()
        elif isinstance(self.clip_config, dict):
            self.clip_config = ClipConvNextConfig(**self.clip_config)
        for name, allowed in (
            ("aggregation", AGGREGATIONS),
            ("classify_with", CLASSIFIERS),
            ("text_transfer", (None, "semantic", "panoptic")),
            ("pixel_decoder", ("deformable", "pyramid")),
            ("queries", ("learned", "grid")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                listed = ", ".join(map(str, allowed))
                raise ValueError(f"{name} is {value!r}: use one of {listed}")
        super().__post_init__(**kwargs)

    @property
    def clip(self) -> ClipConvNextConfig:
        """The CLIP's configuration."""
        assert isinstance(self.clip_config, ClipConvNextConfig)
        return self.clip_config

    @classmethod
    def base(cls, **changes: Any) -> OVSNetConfig:
        """ConvNeXt-B CLIP."""
        return cls(**{"clip_config": ClipConvNextConfig.base(), **changes})

    @classmethod
    def large(cls, **changes: Any) -> OVSNetConfig:
        """ConvNeXt-L CLIP."""
        return cls(**{"clip_config": ClipConvNextConfig.large(), **changes})

    @classmethod
    def scenes(cls, **changes: Any) -> OVSNetConfig:
        """The small model that ships with the package, for pictures of the scenes world."""
        settings: dict[str, Any] = {
            "clip_config": ClipConvNextConfig.small(),
            "pixel_decoder": "pyramid",
            "queries": "grid",
            "hidden_dim": 96,
            "mask_dim": 64,
            "decoder_layers": 3,
            "decoder_ffn_dim": 384,
            "num_queries": 64,
            "num_points": 1024,
            "image_short_side": 0,
            "image_long_side": 384,
            "overlap_threshold": 0.5,
        }
        return cls(**{**settings, **changes})
