"""Keys and shapes of official checkpoints, written down from the specification and the papers.

Deliberately not made from our conversion tables: the tests hold the two against each other.
"""

from __future__ import annotations

import torch
from torch import Tensor

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def linear(name: str, outputs: int, inputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def frozen_norm(name: str, width: int) -> Shapes:
    kinds = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{kind}": (width,) for kind in kinds}


def resnet(depths: tuple[int, ...] = (3, 4, 6, 3), stem: int = 64, last: int = 2048) -> Shapes:
    """A bottleneck ResNet; ``last`` is the width of res5."""
    keys: Shapes = {"backbone.stem.conv1.weight": (stem, 3, 7, 7)}
    keys |= frozen_norm("backbone.stem.conv1.norm", stem)
    before = stem
    for stage, depth in enumerate(depths):
        out = last // 2 ** (3 - stage)
        middle = out // 4
        for block in range(depth):
            name = f"backbone.res{stage + 2}.{block}"
            convolutions: Shapes = {
                "conv1": (middle, before, 1, 1),
                "conv2": (middle, middle, 3, 3),
                "conv3": (out, middle, 1, 1),
            }
            if block == 0:
                convolutions["shortcut"] = (out, before, 1, 1)
            for convolution, shape in convolutions.items():
                keys[f"{name}.{convolution}.weight"] = shape
                keys |= frozen_norm(f"{name}.{convolution}.norm", shape[0])
            before = out
    return keys


def swin(width: int, depths: tuple[int, ...], heads: tuple[int, ...], window: int) -> Shapes:
    """The official Swin Transformer with a norm after every stage."""
    keys: Shapes = {
        "backbone.patch_embed.proj.weight": (width, 3, 4, 4),
        "backbone.patch_embed.proj.bias": (width,),
        **norm("backbone.patch_embed.norm", width),
    }
    for stage, depth in enumerate(depths):
        dim = width * 2**stage
        for block in range(depth):
            name = f"backbone.layers.{stage}.blocks.{block}"
            keys |= norm(f"{name}.norm1", dim) | norm(f"{name}.norm2", dim)
            keys[f"{name}.attn.relative_position_bias_table"] = (
                (2 * window - 1) ** 2,
                heads[stage],
            )
            keys[f"{name}.attn.relative_position_index"] = (window**2, window**2)
            keys |= linear(f"{name}.attn.qkv", 3 * dim, dim) | linear(f"{name}.attn.proj", dim, dim)
            keys |= linear(f"{name}.mlp.fc1", 4 * dim, dim) | linear(
                f"{name}.mlp.fc2", dim, 4 * dim
            )
        if stage < 3:
            keys[f"backbone.layers.{stage}.downsample.reduction.weight"] = (2 * dim, 4 * dim)
            keys |= norm(f"backbone.layers.{stage}.downsample.norm", 4 * dim)
        keys |= norm(f"backbone.norm{stage}", dim)
    return keys


def head(
    channels: tuple[int, int, int, int],
    dim: int = 256,
    mask_dim: int = 256,
    encoder_layers: int = 6,
    encoder_ffn: int = 1024,
    samples: int = 8 * 3 * 4,
    decoder_layers: int = 9,
    decoder_ffn: int = 2048,
    queries: int = 100,
    classes: int = 80,
) -> Shapes:
    """Pixel decoder, query decoder and loss constants of Mask2Former."""
    pixel, query = "sem_seg_head.pixel_decoder", "sem_seg_head.predictor"
    keys: Shapes = {f"{pixel}.transformer.level_embed": (3, dim)}
    for i, width in enumerate(reversed(channels[1:])):
        keys[f"{pixel}.input_proj.{i}.0.weight"] = (dim, width, 1, 1)
        keys[f"{pixel}.input_proj.{i}.0.bias"] = (dim,)
        keys |= norm(f"{pixel}.input_proj.{i}.1", dim)
    for i in range(encoder_layers):
        name = f"{pixel}.transformer.encoder.layers.{i}"
        keys |= linear(f"{name}.self_attn.sampling_offsets", 2 * samples, dim)
        keys |= linear(f"{name}.self_attn.attention_weights", samples, dim)
        keys |= linear(f"{name}.self_attn.value_proj", dim, dim)
        keys |= linear(f"{name}.self_attn.output_proj", dim, dim)
        keys |= norm(f"{name}.norm1", dim) | norm(f"{name}.norm2", dim)
        keys |= linear(f"{name}.linear1", encoder_ffn, dim)
        keys |= linear(f"{name}.linear2", dim, encoder_ffn)
    keys[f"{pixel}.mask_features.weight"] = (mask_dim, dim, 1, 1)
    keys[f"{pixel}.mask_features.bias"] = (mask_dim,)
    keys[f"{pixel}.adapter_1.weight"] = (dim, channels[0], 1, 1)
    keys |= norm(f"{pixel}.adapter_1.norm", dim)
    keys[f"{pixel}.layer_1.weight"] = (dim, dim, 3, 3)
    keys |= norm(f"{pixel}.layer_1.norm", dim)
    for i in range(decoder_layers):
        cross = f"{query}.transformer_cross_attention_layers.{i}"
        own = f"{query}.transformer_self_attention_layers.{i}"
        feed = f"{query}.transformer_ffn_layers.{i}"
        for name in (f"{cross}.multihead_attn", f"{own}.self_attn"):
            keys[f"{name}.in_proj_weight"] = (3 * dim, dim)
            keys[f"{name}.in_proj_bias"] = (3 * dim,)
            keys |= linear(f"{name}.out_proj", dim, dim)
        keys |= linear(f"{feed}.linear1", decoder_ffn, dim)
        keys |= linear(f"{feed}.linear2", dim, decoder_ffn)
        for name in (cross, own, feed):
            keys |= norm(f"{name}.norm", dim)
    keys |= norm(f"{query}.decoder_norm", dim)
    for name in ("query_feat", "query_embed"):
        keys[f"{query}.{name}.weight"] = (queries, dim)
    keys[f"{query}.level_embed.weight"] = (3, dim)
    keys |= linear(f"{query}.class_embed", classes + 1, dim)
    for i, (outputs, inputs) in enumerate(((dim, dim), (dim, dim), (mask_dim, dim))):
        keys |= linear(f"{query}.mask_embed.layers.{i}", outputs, inputs)
    keys["criterion.empty_weight"] = (classes + 1,)
    return keys


def segprompt_extras(dim: int = 256, k: int = 10, classes: int = 80) -> Shapes:
    """What a SegPrompt checkpoint holds besides, with every option on."""
    query = "sem_seg_head.predictor"
    tables = {f"{query}.{n}.weight": (1204, dim) for n in ("id2feat", "id2pe", "memory_bank")}
    repeats = {f"{query}.query_repeat_{n}.weight": (k, dim) for n in ("feat", "pos")}
    return {
        **tables,
        **repeats,
        **linear(f"{query}.ex2feat", dim, dim),
        **linear(f"{query}.ex2pe", dim, dim),
        **linear(f"{query}.open_class_embed", classes + 1, dim),
        "criterion2.empty_weight": (classes + 1,),
        "criterion3.empty_weight": (classes + 1,),
    }


def empty(shapes: Shapes) -> dict[str, Tensor]:
    """Tensors without memory."""
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def random(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    """Small random tensors; variances positive, position indices as the official code has them."""
    source = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        tensor = 0.3 * torch.randn(shape, generator=source)
        state[key] = tensor.abs() + 0.5 if key.endswith("running_var") else tensor
    return state
