"""Published checkpoints -> our model: Mask2Former and SegPrompt, detectron2 or Hugging Face layout.

The tables below are the whole story: each row is a pattern that must match a complete key, and
what the key becomes (specification, section 7). ``{q,k,v}`` in a replacement cuts the tensor into
equal parts along its first dimension, one for each name. A key that no row matches is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SwinConfig,
)

from anymask.errors import CheckpointError
from anymask.methods.segprompt.configuration import STAGES, SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.nn.published import (
    HEAD,
    QUERY,
    SEGMENTER,
    WB,
    Table,
    count_of,
    listed,
    load_exactly,
    read_checkpoint,
    rename,
    segmenter_sizes,
)

DETECTRON2_HEAD: Table = (
    *SEGMENTER,
    (QUERY + rf"class_embed\.{WB}", r"class_head.\1"),
)

BATCH_NORM = "(weight|bias|running_mean|running_var|num_batches_tracked)"

DETECTRON2_RESNET: Table = (
    (r"backbone\.stem\.conv1\.weight", r"backbone.embedder.embedder.convolution.weight"),
    (
        rf"backbone\.stem\.conv1\.norm\.{BATCH_NORM}",
        r"backbone.embedder.embedder.normalization.\1",
    ),
    *(
        (rf"backbone\.res{i + 2}\.(\d+)\.{theirs}", rf"backbone.encoder.stages.{i}.layers.{ours}")
        for i in range(4)
        for theirs, ours in (
            (r"shortcut\.weight", r"\1.shortcut.convolution.weight"),
            (rf"shortcut\.norm\.{BATCH_NORM}", r"\1.shortcut.normalization.\2"),
            *(
                (rf"conv{j + 1}\.{theirs}", rf"\1.layer.{j}.{ours}")
                for j in range(3)
                for theirs, ours in (
                    ("weight", "convolution.weight"),
                    (rf"norm\.{BATCH_NORM}", r"normalization.\2"),
                )
            ),
        )
    ),
)

DETECTRON2_SWIN: Table = (
    (
        rf"backbone\.patch_embed\.proj\.{WB}",
        r"backbone.swin.embeddings.patch_embeddings.projection.\1",
    ),
    (rf"backbone\.patch_embed\.norm\.{WB}", r"backbone.swin.embeddings.norm.\1"),
    *(
        (
            rf"backbone\.layers\.(\d)\.blocks\.(\d+)\.{theirs}",
            rf"backbone.swin.encoder.layers.\1.blocks.\2.{ours}",
        )
        for theirs, ours in (
            (rf"norm1\.{WB}", r"layernorm_before.\3"),
            (rf"attn\.qkv\.{WB}", r"attention.{q,k,v}_proj.\3"),
            (rf"attn\.proj\.{WB}", r"attention.o_proj.\3"),
            (
                r"attn\.(relative_position_bias_table)",
                r"attention.relative_position_bias.\3",
            ),
            (rf"norm2\.{WB}", r"layernorm_after.\3"),
            (rf"mlp\.(fc[12])\.{WB}", r"mlp.\3.\4"),
        )
    ),
    (
        rf"backbone\.layers\.(\d)\.downsample\.(norm|reduction)\.{WB}",
        r"backbone.swin.encoder.layers.\1.downsample.\2.\3",
    ),
    *(
        (rf"backbone\.norm{i}\.{WB}", rf"backbone.hidden_states_norms.stage{i + 1}.\1")
        for i in range(4)
    ),
)

# Parts of published files that the class-agnostic model does not have, and why that is right.
DETECTRON2_IGNORED: Table = (
    (r"criterion\d?\.empty_weight", "a constant of the loss"),
    (r"pixel_(mean|std)", "a constant of the configuration"),
    (r"backbone\.stem\.fc\..*|backbone\.(fc|head)\..*", "the classifier of the pre-training"),
    (r"backbone\..*\.relative_position_index", "follows from the window size"),
    (
        QUERY + r"(id2feat|id2pe|memory_bank|ex2feat|ex2pe|open_class_embed"
        r"|query_repeat_feat|query_repeat_pos)\..*",
        "SegPrompt's prompt branches, which class-agnostic inference drops (section 4.1)",
    ),
)

# The prompt branches, for `PromptBranches`.
DETECTRON2_PROMPTS: Table = (
    (QUERY + r"id2feat\.weight", r"class_content.weight"),
    (QUERY + r"id2pe\.weight", r"class_position.weight"),
    (QUERY + r"memory_bank\.weight", r"cache.vectors"),
    (QUERY + rf"ex2feat\.{WB}", r"to_content.\1"),
    (QUERY + rf"ex2pe\.{WB}", r"to_position.\1"),
    (QUERY + rf"open_class_embed\.{WB}", r"class_head.\1"),
    (QUERY + r"query_repeat_feat\.weight", r"slot_content.weight"),
    (QUERY + r"query_repeat_pos\.weight", r"slot_position.weight"),
)

LEVELS = r"model\.pixel_level_module\.decoder\."
MODULE = r"model\.transformer_module\."

HUGGING_FACE: Table = (
    (r"model\.pixel_level_module\.encoder\.(.+)", r"backbone.\1"),
    (
        LEVELS + rf"input_projections\.(\d)\.([01])\.{WB}",
        r"pixel_decoder.input_projections.\1.\2.\3",
    ),
    (LEVELS + r"level_embed", r"pixel_decoder.level_embed.weight"),
    *(
        (LEVELS + rf"encoder\.layers\.(\d+)\.{theirs}", rf"pixel_decoder.encoder.\1.{ours}")
        for theirs, ours in (
            (rf"self_attn\.(\w+)\.{WB}", r"self_attn.\2.\3"),
            (rf"self_attn_layer_norm\.{WB}", r"self_attn_norm.\2"),
            (rf"(fc[12])\.{WB}", r"ffn.\2.\3"),
            (rf"final_layer_norm\.{WB}", r"ffn_norm.\2"),
        )
    ),
    (LEVELS + rf"adapter_1\.([01])\.{WB}", r"pixel_decoder.lateral.\1.\2"),
    (LEVELS + rf"layer_1\.([01])\.{WB}", r"pixel_decoder.fine.\1.\2"),
    (LEVELS + rf"mask_projection\.{WB}", r"pixel_decoder.mask_projection.\1"),
    *(
        (MODULE + rf"decoder\.layers\.(\d+)\.{theirs}", rf"decoder.layers.\1.{ours}")
        for theirs, ours in (
            (rf"cross_attn\.in_proj_{WB}", r"cross_attn.{q,k,v}_proj.\2"),
            (rf"cross_attn\.out_proj\.{WB}", r"cross_attn.out_proj.\2"),
            (rf"cross_attn_layer_norm\.{WB}", r"cross_attn_norm.\2"),
            (rf"self_attn\.(\w+)\.{WB}", r"self_attn.\2.\3"),
            (rf"self_attn_layer_norm\.{WB}", r"self_attn_norm.\2"),
            (rf"(fc[12])\.{WB}", r"ffn.\2.\3"),
            (rf"final_layer_norm\.{WB}", r"ffn_norm.\2"),
        )
    ),
    (MODULE + rf"decoder\.layernorm\.{WB}", r"decoder.norm.\1"),
    *(
        (
            MODULE + rf"decoder\.mask_predictor\.mask_embedder\.{i}\.0\.{WB}",
            rf"decoder.mask_embed.{2 * i}.\1",
        )
        for i in range(3)
    ),
    (MODULE + r"level_embed\.weight", r"decoder.level_embed.weight"),
    (MODULE + r"queries_features\.weight", r"queries.content.weight"),
    (MODULE + r"queries_embedder\.weight", r"queries.position.weight"),
    (rf"class_predictor\.{WB}", r"class_head.\1"),
)

HUGGING_FACE_IGNORED: Table = ((r"criterion\.empty_weight", "a constant of the loss"),)


def convert_detectron2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of Mask2Former or SegPrompt in the official layout -> ours.

    Raises:
        CheckpointError: unknown keys.
    """
    backbone = DETECTRON2_SWIN if "backbone.patch_embed.proj.weight" in state else DETECTRON2_RESNET
    ours = rename(state, (*DETECTRON2_HEAD, *backbone), DETECTRON2_IGNORED)
    for name, tensor in list(ours.items()):
        # Frozen batch normalisation does not count its batches.
        if name.endswith(".running_var"):
            ours.setdefault(name.removesuffix("running_var") + "num_batches_tracked", _zero(tensor))
    if backbone is DETECTRON2_SWIN:
        _add_unused_norm(ours)
    return ours


def convert_prompt_branches(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The prompt branches of a SegPrompt state dict -> the state of our ``PromptBranches``.

    The released tables have a last row for padding, which ours do without; a prompt counts as
    initialised where its vector is not zero.

    Args:
        state: keys as released; all keys of other parts are passed over.
    """
    ours: dict[str, Tensor] = {}
    for pattern, name in DETECTRON2_PROMPTS:
        for key, tensor in state.items():
            match = re.fullmatch(pattern, key)
            if match:
                ours[match.expand(name)] = tensor
    for name in ("class_content.weight", "class_position.weight", "cache.vectors"):
        if name in ours:
            ours[name] = ours[name][:-1]
    if "cache.vectors" in ours:
        ours["cache.initialised"] = (ours["cache.vectors"] != 0).any(1)
    return ours


def _zero(like: Tensor) -> Tensor:
    return torch.zeros((), dtype=torch.int64, device=like.device)


def _add_unused_norm(ours: dict[str, Tensor]) -> None:
    """Hugging Face's Swin has a last normalisation that none of its feature maps passes."""
    last = ours["backbone.hidden_states_norms.stage4.weight"]
    ours.setdefault("backbone.swin.layernorm.weight", torch.ones_like(last))
    ours.setdefault("backbone.swin.layernorm.bias", torch.zeros_like(last))


def convert_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a Hugging Face ``Mask2FormerForUniversalSegmentation`` -> ours.

    Raises:
        CheckpointError: unknown keys.
    """
    return rename(state, HUGGING_FACE, HUGGING_FACE_IGNORED)


def config_of_detectron2(state: Mapping[str, Tensor], **changes: Any) -> SegPromptConfig:
    """Read the configuration off an official state dict.

    Attention heads leave no trace in the shapes: they are 8, as in every published model, unless
    ``num_heads`` is given. Other keyword arguments override the configuration too.

    Raises:
        CheckpointError: a tensor that every model has is missing.
    """
    try:
        return _config_of_detectron2(state, changes)
    except KeyError as error:
        raise CheckpointError(f"the checkpoint has no {error}: it is incomplete") from error


def _config_of_detectron2(state: Mapping[str, Tensor], changes: dict[str, Any]) -> SegPromptConfig:
    backbone = _backbone_of_detectron2(state)
    settings = {
        "backbone_config": backbone,
        # detectron2's ResNets freeze their normalisation unless a configuration says otherwise.
        "frozen_norm": isinstance(backbone, ResNetConfig),
        **segmenter_sizes(state, changes.get("num_heads", 8)),
        "num_classes": len(state[f"{HEAD}.predictor.class_embed.bias"]) - 1,
    }
    return SegPromptConfig(**{**settings, **changes})


def _backbone_of_detectron2(state: Mapping[str, Tensor]) -> SwinConfig | ResNetConfig:
    if "backbone.patch_embed.proj.weight" in state:
        embed_dim, _, patch, _ = state["backbone.patch_embed.proj.weight"].shape
        tables = [
            state[f"backbone.layers.{i}.blocks.0.attn.relative_position_bias_table"]
            for i in range(4)
        ]
        return SwinConfig(
            embed_dim=embed_dim,
            patch_size=patch,
            depths=[
                count_of(state, rf"backbone\.layers\.{i}\.blocks\.(\d+)\..*") for i in range(4)
            ],
            num_heads=[table.shape[1] for table in tables],
            window_size=(round(len(tables[0]) ** 0.5) + 1) // 2,  # (2 w - 1)^2 offsets
            out_features=STAGES,
        )
    deep = "backbone.res2.0.conv3.weight" in state
    last = "conv3" if deep else "conv2"
    return ResNetConfig(
        embedding_size=len(state["backbone.stem.conv1.weight"]),
        hidden_sizes=[len(state[f"backbone.res{i}.0.{last}.weight"]) for i in range(2, 6)],
        depths=[count_of(state, rf"backbone\.res{i}\.(\d+)\..*") for i in range(2, 6)],
        layer_type="bottleneck" if deep else "basic",
        downsample_in_bottleneck=False,  # the stride is in the 3x3 convolution
        out_features=STAGES,
    )


def config_of_hugging_face(config: Mask2FormerConfig, **changes: Any) -> SegPromptConfig:
    """Configuration of a Hugging Face Mask2Former -> ours; keyword arguments override it.

    Raises:
        CheckpointError: the model has parts that ours does not.
    """
    for name, ours in (
        ("pre_norm", False),
        ("enforce_input_projection", False),
        ("common_stride", 4),
        ("activation_function", "relu"),
        ("feature_size", config.hidden_dim),
    ):
        theirs = getattr(config, name)
        if theirs != ours:
            raise CheckpointError(f"this Mask2Former has {name} = {theirs}; supported is {ours}")
    backbone = config.backbone_config.to_dict()
    backbone["out_features"] = list(config.backbone_config.out_features)
    backbone.pop("out_indices", None)
    settings = {
        "backbone_config": backbone,
        "hidden_dim": config.hidden_dim,
        "mask_dim": config.mask_feature_size,
        "num_heads": config.num_attention_heads,
        "encoder_layers": config.encoder_layers,
        "encoder_ffn_dim": config.encoder_feedforward_dim,
        "decoder_layers": config.decoder_layers - 1,  # theirs counts the prediction before layer 0
        "decoder_ffn_dim": config.dim_feedforward,
        "num_queries": config.num_queries,
        "num_classes": config.num_labels,
        "class_names": [config.id2label[k] for k in range(config.num_labels)],
        "class_weight": config.class_weight,
        "mask_weight": config.mask_weight,
        "dice_weight": config.dice_weight,
        "no_object_weight": config.no_object_weight,
        "num_points": config.train_num_points,
        "oversample_ratio": config.oversample_ratio,
        "importance_sample_ratio": config.importance_sample_ratio,
    }
    return SegPromptConfig(**{**settings, **changes})


def build(config: SegPromptConfig, state: Mapping[str, Tensor]) -> SegPromptModel:
    """A model with exactly these weights (our keys).

    Raises:
        CheckpointError: keys are missing or left over, or a shape differs.
    """
    model = SegPromptModel(config)
    load_exactly(model, state)
    model.eval()
    return model


def load_published(source: str | Path, **kwargs: Any) -> SegPromptModel:
    """Load somebody else's Mask2Former or SegPrompt as a class-agnostic model.

    Args:
        source: an official checkpoint file (``.pth``, ``.pkl`` or ``.safetensors``), a folder with
            a Hugging Face Mask2Former, or its hub id such as
            ``"facebook/mask2former-swin-tiny-coco-instance"``.
        kwargs: for a Hugging Face model, what ``from_pretrained`` takes (``revision``,
            ``local_files_only``, ...).

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: nothing is there, it cannot be read, or it is another kind of model.
    """
    path = Path(source)
    if path.is_file():
        state = read_checkpoint(path)
        return build(config_of_detectron2(state), convert_detectron2(state))
    return _load_hugging_face(source, kwargs)


def _load_hugging_face(source: str | Path, kwargs: dict[str, Any]) -> SegPromptModel:
    try:
        config = AutoConfig.from_pretrained(source, **kwargs)
        if not isinstance(config, Mask2FormerConfig):
            raise CheckpointError(f"{source} is a {config.model_type}, not a mask2former model")
        theirs, info = Mask2FormerForUniversalSegmentation.from_pretrained(
            source, config=config, output_loading_info=True, **kwargs
        )
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"cannot load {source}: give an official checkpoint file, a folder with a Hugging "
            f"Face Mask2Former, or the id of one ({error})"
        ) from error
    # Loss constants, and a normalisation that nothing passes, are absent from older files.
    absent = [
        key
        for key in info["missing_keys"]
        if not key.startswith("criterion.") and ".encoder.swin.layernorm." not in key
    ]
    if absent:
        raise CheckpointError(f"{source} lacks weights: {listed(absent)}")
    changes = _processing_of(source, kwargs)
    return build(
        config_of_hugging_face(config, **changes), convert_hugging_face(theirs.state_dict())
    )


def _processing_of(source: str | Path, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Picture size and normalisation of the checkpoint's image processor; {} when it has none."""
    try:
        processor = AutoImageProcessor.from_pretrained(source, **kwargs)
    except (OSError, ValueError):
        return {}
    size = processor.size
    short = size.get("shortest_edge") or min(size.get("height") or 0, size.get("width") or 0)
    long = size.get("longest_edge") or max(size.get("height") or 0, size.get("width") or 0)
    unit = 1 / processor.rescale_factor if processor.do_rescale else 1.0
    changes: dict[str, Any] = {
        "image_mean": tuple(unit * number for number in processor.image_mean),
        "image_std": tuple(unit * number for number in processor.image_std),
    }
    if short and long:
        changes |= {"image_short_side": short, "image_long_side": long}
    return changes
