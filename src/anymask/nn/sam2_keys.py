"""Meta's SAM 2 and 2.1 files (``sam2_hiera_*.pt``, ``sam2.1_hiera_*.pt``) -> Hugging Face names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import Sam2Config, Sam2Model

from anymask.errors import CheckpointError
from anymask.nn.published import WB, Table, count_of, load_exactly, read_checkpoint, rename
from anymask.nn.sam2 import Sam2

TRUNK = r"image_encoder\.trunk\."
NECK = r"image_encoder\.neck\."
PROMPT = r"sam_prompt_encoder\."
DECODER = r"sam_mask_decoder\."
TWO_WAY = DECODER + r"transformer\."
GAUSSIAN = "sam_prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"

HEADS = r"(output_hypernetworks_mlps\.\d|iou_prediction_head|pred_obj_score_head)"

TABLE: Table = (
    (TRUNK + rf"patch_embed\.proj\.{WB}", r"vision_encoder.backbone.patch_embed.projection.\1"),
    (TRUNK + r"(pos_embed|pos_embed_window)", r"vision_encoder.backbone.\1"),
    *(
        (TRUNK + rf"blocks\.(\d+)\.{theirs}", rf"vision_encoder.backbone.blocks.\1.{ours}")
        for theirs, ours in (
            (rf"norm([12])\.{WB}", r"layer_norm\2.\3"),
            (rf"attn\.(qkv|proj)\.{WB}", r"attn.\2.\3"),
            (rf"proj\.{WB}", r"proj.\2"),
            (rf"mlp\.layers\.0\.{WB}", r"mlp.proj_in.\2"),
            (rf"mlp\.layers\.1\.{WB}", r"mlp.proj_out.\2"),
        )
    ),
    (NECK + rf"convs\.(\d)\.conv\.{WB}", r"vision_encoder.neck.convs.\1.\2"),
    (r"no_mem_embed", "no_memory_embedding"),
    (PROMPT + r"(not_a_point_embed|no_mask_embed)\.weight", r"prompt_encoder.\1.weight"),
    *(
        (PROMPT + rf"mask_downscaling\.{theirs}\.{WB}", rf"prompt_encoder.mask_embed.{ours}.\1")
        for theirs, ours in (
            (0, "conv1"),
            (1, "layer_norm1"),
            (3, "conv2"),
            (4, "layer_norm2"),
            (6, "conv3"),
        )
    ),
    *(
        (TWO_WAY + rf"layers\.(\d)\.{theirs}", rf"mask_decoder.transformer.layers.\1.{ours}")
        for theirs, ours in (
            (rf"(self_attn|cross_attn_\w+)\.([qkv]_proj)\.{WB}", r"\2.\3.\4"),
            (rf"(self_attn|cross_attn_\w+)\.out_proj\.{WB}", r"\2.o_proj.\3"),
            (rf"norm(\d)\.{WB}", r"layer_norm\2.\3"),
            (rf"mlp\.layers\.0\.{WB}", r"mlp.proj_in.\2"),
            (rf"mlp\.layers\.1\.{WB}", r"mlp.proj_out.\2"),
        )
    ),
    (
        TWO_WAY + rf"final_attn_token_to_image\.([qkv]_proj)\.{WB}",
        r"mask_decoder.transformer.final_attn_token_to_image.\1.\2",
    ),
    (
        TWO_WAY + rf"final_attn_token_to_image\.out_proj\.{WB}",
        r"mask_decoder.transformer.final_attn_token_to_image.o_proj.\1",
    ),
    (TWO_WAY + rf"norm_final_attn\.{WB}", r"mask_decoder.transformer.layer_norm_final_attn.\1"),
    *(
        (DECODER + rf"output_upscaling\.{theirs}\.{WB}", rf"mask_decoder.{ours}.\1")
        for theirs, ours in ((0, "upscale_conv1"), (1, "upscale_layer_norm"), (3, "upscale_conv2"))
    ),
    *(
        (DECODER + rf"{HEADS}\.layers\.{theirs}\.{WB}", rf"mask_decoder.\1.{ours}.\2")
        for theirs, ours in ((0, "proj_in"), (1, "layers.0"), (2, "proj_out"))
    ),
    (DECODER + r"(iou_token|mask_tokens|obj_score_token)\.weight", r"mask_decoder.\1.weight"),
    (DECODER + rf"(conv_s0|conv_s1)\.{WB}", r"mask_decoder.\1.\2"),
)

VIDEO: Table = tuple(
    (pattern, "only for video")
    for pattern in (
        r"memory_attention\..*",
        r"memory_encoder\..*",
        r"maskmem_tpos_enc",
        r"no_mem_pos_enc",
        r"no_obj_ptr",
        r"no_obj_embed_spatial",
        r"obj_ptr_proj\..*",
        r"obj_ptr_tpos_proj\..*",
        r"mask_downsample\..*",
    )
)

# What leaves no trace in the shapes of the published models: heads, windows, global blocks.
PUBLISHED: dict[tuple[int, ...], dict[str, Any]] = {
    (1, 2, 7, 2): {"windows": [8, 4, 14, 7], "global_blocks": [5, 7, 9], "heads": 1},
    (1, 2, 11, 2): {"windows": [8, 4, 14, 7], "global_blocks": [7, 10, 13], "heads": 1},
    (2, 3, 16, 3): {"windows": [8, 4, 14, 7], "global_blocks": [12, 16, 20], "heads": 2},
    (2, 6, 36, 4): {"windows": [8, 4, 16, 8], "global_blocks": [23, 33, 43], "heads": 2},
}


def is_sam2(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has the names of Meta's files."""
    return GAUSSIAN in state


def stages_of(state: Mapping[str, Tensor]) -> tuple[list[int], list[int]]:
    """(blocks, channels) of the trunk's stages.

    Raises:
        KeyError: a tensor that every such model has is missing.
    """
    count = count_of(state, TRUNK + r"blocks\.(\d+)\..*")
    prefix = "image_encoder.trunk.blocks"
    widths = [len(state[f"{prefix}.{k}.mlp.layers.1.bias"]) for k in range(count)]
    channels = list(dict.fromkeys(widths))
    return [widths.count(width) for width in channels], channels


def config_of_sam2(
    state: Mapping[str, Tensor],
    *,
    image_size: int = 1024,
    windows: list[int] | None = None,
    global_blocks: list[int] | None = None,
    heads: int | None = None,
    decoder_heads: int = 8,
) -> Sam2Config:
    """Read the configuration off a state dict.

    Args:
        state: names as published.
        image_size: side of the input in pixels.
        windows, global_blocks, heads: of the trunk (``heads`` of its first stage); None = those of
            the published model with the same blocks.
        decoder_heads: of the mask decoder.

    Raises:
        CheckpointError: a tensor is missing, or the model is none of the published ones.
    """
    try:
        blocks, channels = stages_of(state)
        known = PUBLISHED.get(tuple(blocks), {})
        windows = windows or known.get("windows")
        global_blocks = global_blocks or known.get("global_blocks")
        heads = heads or known.get("heads")
        if windows is None or global_blocks is None or heads is None:
            raise CheckpointError(
                f"a SAM 2 with {blocks} blocks is none of the published ones: say its windows, "
                "global_blocks and heads"
            )
        width = len(state["no_mem_embed"].flatten())
        background = list(state["image_encoder.trunk.pos_embed"].shape[-2:])
        backbone = {
            "model_type": "sam2_hiera_det_model",
            "hidden_size": channels[0],
            "image_size": [image_size, image_size],
            "blocks_per_stage": blocks,
            "embed_dim_per_stage": channels,
            "num_attention_heads": heads,
            "num_attention_heads_per_stage": [heads * 2**k for k in range(len(blocks))],
            "window_size_per_stage": windows,
            "global_attention_blocks": global_blocks,
            "window_positional_embedding_background_size": background,
        }
        decoder = "sam_mask_decoder"
        sizes = [[image_size // s, image_size // s] for s in (4, 8, 16)]
        return Sam2Config(
            vision_config={
                "model_type": "sam2_vision_model",
                "backbone_config": backbone,
                "backbone_channel_list": channels[::-1],
                "backbone_feature_sizes": sizes,
                "fpn_hidden_size": width,
            },
            prompt_encoder_config={
                "hidden_size": width,
                "image_size": image_size,
                "mask_input_channels": len(state["sam_prompt_encoder.mask_downscaling.3.bias"]),
            },
            mask_decoder_config={
                "hidden_size": width,
                "num_attention_heads": decoder_heads,
                "mlp_dim": len(state[f"{decoder}.transformer.layers.0.mlp.layers.0.bias"]),
                "iou_head_hidden_dim": len(state[f"{decoder}.iou_prediction_head.layers.0.bias"]),
            },
        )
    except KeyError as error:
        raise CheckpointError(f"the checkpoint has no {error}: it is no complete SAM 2") from error


def convert_sam2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a published file -> that of ``Sam2Model``.

    Raises:
        CheckpointError: unknown names.
    """
    points = re.compile(PROMPT + r"point_embeddings\.(\d)\.weight")
    rest = {k: v for k, v in state.items() if k != GAUSSIAN and not points.fullmatch(k)}
    ours = rename(rest, TABLE, VIDEO, "SAM 2")
    gaussian = state[GAUSSIAN]
    rows = [state[f"sam_prompt_encoder.point_embeddings.{k}.weight"] for k in range(4)]
    return ours | {
        "shared_image_embedding.positional_embedding": gaussian,
        "prompt_encoder.shared_embedding.positional_embedding": gaussian.clone(),
        "prompt_encoder.point_embed.weight": torch.cat(rows),
    }


def load_sam2_file(path: str | Path, **sizes: Any) -> Sam2:
    """Load one of Meta's files; its pickle may only hold arrays and containers.

    Args:
        path: ``sam2_hiera_large.pt`` or the like.
        sizes: see :func:`config_of_sam2`; needed for models that are none of the published ones.

    Raises:
        CheckpointError: it cannot be read, or is another kind of model.
    """
    state = read_checkpoint(path)
    if not is_sam2(state):
        raise CheckpointError(f"{path} holds no SAM 2")
    return sam2_of(state, **sizes)


def sam2_of(state: Mapping[str, Tensor], **sizes: Any) -> Sam2:
    """A model from a published state dict; arguments and errors as of :func:`load_sam2_file`."""
    model = Sam2Model(config_of_sam2(state, **sizes))
    load_exactly(model, convert_sam2(state))
    return Sam2(model.eval())
