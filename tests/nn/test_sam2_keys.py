"""Meta's file layouts load into Hugging Face's model, at every published size."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import Sam2Model

from anymask.errors import CheckpointError
from anymask.nn.sam2_keys import PUBLISHED, config_of_sam2, convert_sam2, load_sam2_file

SIZES = {
    # blocks of the stages, channels of the first, parameters of the picture part
    "tiny": ((1, 2, 7, 2), 96, None),
    "small": ((1, 2, 11, 2), 96, None),
    "base-plus": ((2, 3, 16, 3), 112, None),
    "large": ((2, 6, 36, 4), 144, 216_924_865),
}


def linear(name: str, out: int, inside: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, inside)
    yield f"{name}.bias", (out,)


def norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def conv(name: str, out: int, inside: int, side: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, inside, side, side)
    yield f"{name}.bias", (out,)


def meta_names(
    blocks: tuple[int, ...], channels: int, background: int, width: int, mlp: int, window: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of one of Meta's files, written down from the description of the model."""
    trunk = "image_encoder.trunk."
    yield from conv(trunk + "patch_embed.proj", channels, 3, 7)
    yield trunk + "pos_embed", (1, channels, background, background)
    yield trunk + "pos_embed_window", (1, channels, window, window)
    number = 0
    inside = channels
    for stage, count in enumerate(blocks):
        wide = channels * 2**stage
        for _ in range(count):
            block = f"{trunk}blocks.{number}."
            yield from norm(block + "norm1", inside)
            yield from linear(block + "attn.qkv", 3 * wide, inside)
            yield from linear(block + "attn.proj", wide, wide)
            yield from norm(block + "norm2", wide)
            yield from linear(block + "mlp.layers.0", 4 * wide, wide)
            yield from linear(block + "mlp.layers.1", wide, 4 * wide)
            if inside != wide:
                yield from linear(block + "proj", wide, inside)
            inside = wide
            number += 1
    for level in range(len(blocks)):
        deep = channels * 2 ** (len(blocks) - 1 - level)
        yield from conv(f"image_encoder.neck.convs.{level}.conv", width, deep, 1)
    yield "no_mem_embed", (1, 1, width)
    prompt = "sam_prompt_encoder."
    yield prompt + "pe_layer.positional_encoding_gaussian_matrix", (2, width // 2)
    for k in range(4):
        yield f"{prompt}point_embeddings.{k}.weight", (1, width)
    yield prompt + "not_a_point_embed.weight", (1, width)
    yield prompt + "no_mask_embed.weight", (1, width)
    yield from conv(prompt + "mask_downscaling.0", 4, 1, 2)
    yield from norm(prompt + "mask_downscaling.1", 4)
    yield from conv(prompt + "mask_downscaling.3", 16, 4, 2)
    yield from norm(prompt + "mask_downscaling.4", 16)
    yield from conv(prompt + "mask_downscaling.6", width, 16, 1)
    decoder = "sam_mask_decoder."
    two_way = decoder + "transformer."
    for k in range(2):
        layer = f"{two_way}layers.{k}."
        for part, inner in (
            ("self_attn", width),
            ("cross_attn_token_to_image", width // 2),
            ("cross_attn_image_to_token", width // 2),
        ):
            yield from attention(layer + part, width, inner)
        for n in (1, 2, 3, 4):
            yield from norm(f"{layer}norm{n}", width)
        yield from linear(layer + "mlp.layers.0", mlp, width)
        yield from linear(layer + "mlp.layers.1", width, mlp)
    yield from attention(two_way + "final_attn_token_to_image", width, width // 2)
    yield from norm(two_way + "norm_final_attn", width)
    yield decoder + "iou_token.weight", (1, width)
    yield decoder + "mask_tokens.weight", (4, width)
    yield decoder + "obj_score_token.weight", (1, width)
    yield decoder + "output_upscaling.0.weight", (width, width // 4, 2, 2)
    yield decoder + "output_upscaling.0.bias", (width // 4,)
    yield from norm(decoder + "output_upscaling.1", width // 4)
    yield decoder + "output_upscaling.3.weight", (width // 4, width // 8, 2, 2)
    yield decoder + "output_upscaling.3.bias", (width // 8,)
    yield from conv(decoder + "conv_s0", width // 8, width, 1)
    yield from conv(decoder + "conv_s1", width // 4, width, 1)
    for k in range(4):
        yield from mlp3(f"{decoder}output_hypernetworks_mlps.{k}", width, width, width // 8)
    yield from mlp3(decoder + "iou_prediction_head", width, width, 4)
    yield from mlp3(decoder + "pred_obj_score_head", width, width, 1)


def attention(name: str, width: int, inner: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in "qkv":
        yield from linear(f"{name}.{part}_proj", inner, width)
    yield from linear(f"{name}.out_proj", width, inner)


def mlp3(name: str, inside: int, hidden: int, out: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield from linear(f"{name}.layers.0", hidden, inside)
    yield from linear(f"{name}.layers.1", hidden, hidden)
    yield from linear(f"{name}.layers.2", out, hidden)


def video_names() -> dict[str, tuple[int, ...]]:
    """A few of the tensors that only matter for video."""
    return {
        "memory_attention.layers.0.linear1.weight": (2, 2),
        "memory_encoder.fuser.layers.0.dwconv.weight": (2, 2),
        "maskmem_tpos_enc": (7, 1, 1, 64),
        "no_mem_pos_enc": (1, 1, 4),
        "no_obj_ptr": (1, 4),
        "no_obj_embed_spatial": (1, 4),
        "obj_ptr_proj.layers.0.weight": (2, 2),
        "obj_ptr_tpos_proj.weight": (2, 2),
        "mask_downsample.weight": (1, 1, 4, 4),
    }


def state_of(names: dict[str, tuple[int, ...]], device: str) -> dict[str, Tensor]:
    return {name: torch.randn(shape, device=device) for name, shape in names.items()}


@pytest.mark.parametrize("size", SIZES)
def test_every_published_size_loads_completely(size: str) -> None:
    blocks, channels, parameters = SIZES[size]
    background = 14 if size == "base-plus" else 7
    names = dict(meta_names(blocks, channels, background, 256, 2048, 8))
    state = state_of({**names, **video_names()}, "meta")
    with torch.device("meta"):
        model = Sam2Model(config_of_sam2(state))
    ours = convert_sam2(state)
    expected = model.state_dict()
    assert ours.keys() == expected.keys()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in expected.items()}
    assert tuple(blocks) in PUBLISHED
    if parameters is not None:
        assert sum(v.numel() for v in names_to_state(names).values()) == parameters


def names_to_state(names: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Without the gaussian matrix, which is a buffer."""
    return {
        name: torch.empty(shape, device="meta")
        for name, shape in names.items()
        if "gaussian" not in name
    }


def tiny_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return state_of(dict(meta_names((1, 1, 2, 1), 8, 4, 32, 64, 8)), "cpu")


def test_a_file_loads_and_answers(tmp_path: Path) -> None:
    torch.save({"model": tiny_state()}, tmp_path / "small.pt")
    sizes = {"windows": [8, 4, 4, 2], "global_blocks": [3], "heads": 1, "image_size": 64}
    sam = load_sam2_file(tmp_path / "small.pt", **sizes)
    features = sam.encode(torch.randn(1, 3, 64, 64))
    assert features.coarse.shape == (1, 32, 4, 4)
    with pytest.raises(CheckpointError, match="none of the published"):
        load_sam2_file(tmp_path / "small.pt")


def test_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    torch.save({"model": {"x": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="no SAM 2"):
        load_sam2_file(tmp_path / "other.pt")
    state = tiny_state()
    state["surprise"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match="surprise"):
        convert_sam2(state)
    lacking = {k: v for k, v in tiny_state().items() if k != "no_mem_embed"}
    with pytest.raises(CheckpointError, match="no_mem_embed"):
        config_of_sam2(lacking, windows=[8, 4, 4, 2], global_blocks=[3], heads=1)
