"""Published checkpoints become our model without a key too few or too many."""

from __future__ import annotations

import pickle
from pathlib import Path

import detectron2_keys as keys
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoBackbone,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessorPil,
    ResNetConfig,
    SwinConfig,
)

import anymask
from anymask.errors import CheckpointError
from anymask.loading import load_discoverer
from anymask.methods.segprompt import SegPromptConfig, SegPromptModel
from anymask.methods.segprompt.configuration import STAGES
from anymask.methods.segprompt.convert import (
    build,
    config_of_detectron2,
    config_of_hugging_face,
    convert_detectron2,
    convert_hugging_face,
    load_published,
    read_checkpoint,
)

RESNET_CHANNELS = (256, 512, 1024, 2048)
SWIN_T, SWIN_L = (96, (2, 2, 6, 2), (3, 6, 12, 24), 7), (192, (2, 2, 18, 2), (6, 12, 24, 48), 12)


def assert_fits(config: SegPromptConfig, ours: dict[str, Tensor]) -> None:
    with torch.device("meta"):
        model = SegPromptModel(config)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    assert {key: tuple(tensor.shape) for key, tensor in ours.items()} == expected


FULL_SIZE = {
    "resnet50": keys.resnet() | keys.head(RESNET_CHANNELS),
    "resnet101": keys.resnet((3, 4, 23, 3)) | keys.head(RESNET_CHANNELS, classes=1203),
    "segprompt": keys.resnet() | keys.head(RESNET_CHANNELS) | keys.segprompt_extras(),
    "swin_tiny": keys.swin(*SWIN_T) | keys.head((96, 192, 384, 768)),
    "swin_large": keys.swin(*SWIN_L) | keys.head((192, 384, 768, 1536), queries=200, classes=133),
}


@pytest.mark.parametrize("name", FULL_SIZE)
def test_official_layout_at_full_size(name: str) -> None:
    state = keys.empty(FULL_SIZE[name])
    config = config_of_detectron2(state)
    assert_fits(config, convert_detectron2(state))
    assert (config.num_heads, config.encoder_points) == (8, 4)
    assert config.num_queries == (200 if name == "swin_large" else 100)
    assert config.num_classes == {"resnet101": 1203, "swin_large": 133}.get(name, 80)


def test_the_read_configuration_is_the_named_one() -> None:
    for name, named in (
        ("resnet50", SegPromptConfig.resnet50(num_classes=80)),
        ("swin_tiny", SegPromptConfig.swin_tiny(num_classes=80)),
    ):
        read = config_of_detectron2(keys.empty(FULL_SIZE[name]))
        assert read.to_dict() == named.to_dict()


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_hugging_face_layout_at_full_size(backbone: str) -> None:
    backbone_config = {
        "resnet": ResNetConfig(out_features=STAGES),
        "swin": SwinConfig(
            embed_dim=192,
            depths=[2, 2, 18, 2],
            num_heads=[6, 12, 24, 48],
            window_size=12,
            out_features=STAGES,
        ),
    }[backbone]
    config = Mask2FormerConfig(backbone_config=backbone_config, num_labels=133, num_queries=200)
    with torch.device("meta"):
        theirs = Mask2FormerForUniversalSegmentation(config)
    assert_fits(config_of_hugging_face(config), convert_hugging_face(theirs.state_dict()))


def test_older_checkpoints_name_the_queries_differently() -> None:
    state = keys.empty(FULL_SIZE["resnet50"])
    name = "sem_seg_head.predictor.query_feat.weight"
    state[name.replace("query_feat", "static_query")] = state.pop(name)
    assert_fits(config_of_detectron2(state), convert_detectron2(state))


def test_unknown_keys_are_an_error() -> None:
    state = keys.empty(FULL_SIZE["resnet50"])
    state["sem_seg_head.predictor.new_part.weight"] = torch.empty(1)
    with pytest.raises(CheckpointError, match=r"unknown keys: .*predictor\.new_part\.weight"):
        convert_detectron2(state)


def test_an_incomplete_checkpoint_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="no 'sem_seg_head"):
        config_of_detectron2(keys.empty(keys.resnet()))


# ---------------------------------------------------------------- the numbers, at tiny size


def tiny_head(channels: tuple[int, int, int, int]) -> keys.Shapes:
    return keys.head(
        channels,
        dim=32,
        mask_dim=16,
        encoder_layers=1,
        encoder_ffn=24,
        decoder_layers=2,
        decoder_ffn=24,
        queries=5,
        classes=3,
    )


def batch_norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return F.batch_norm(
        x,
        state[f"{name}.norm.running_mean"],
        state[f"{name}.norm.running_var"],
        state[f"{name}.norm.weight"],
        state[f"{name}.norm.bias"],
    )


def official_resnet(x: Tensor, state: dict[str, Tensor], depths: tuple[int, ...]) -> list[Tensor]:
    """detectron2's ResNet with the stride in the 3 x 3 convolution, straight from its keys."""

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return batch_norm(F.conv2d(x, weight, None, stride, weight.shape[-1] // 2), state, name)

    x = F.max_pool2d(convolve(x, "backbone.stem.conv1", 2).relu(), 3, 2, 1)
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"backbone.res{stage + 2}.{block}"
            stride = 2 if block == 0 and stage > 0 else 1
            y = convolve(x, f"{name}.conv1").relu()
            y = convolve(y, f"{name}.conv2", stride).relu()
            y = convolve(y, f"{name}.conv3")
            x = (y + (convolve(x, f"{name}.shortcut", stride) if block == 0 else x)).relu()
        maps.append(x)
    return maps


def official_swin(
    x: Tensor,
    state: dict[str, Tensor],
    depths: tuple[int, ...],
    heads: tuple[int, ...],
    window: int,
) -> list[Tensor]:
    """The official Swin Transformer, straight from its keys, window by window."""

    def named(name: str) -> tuple[Tensor, Tensor | None]:
        return state[f"backbone.{name}.weight"], state.get(f"backbone.{name}.bias")

    def layer_norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], *named(name))

    def attend(windows: Tensor, name: str, count: int, regions: Tensor) -> Tensor:
        query, key, value = F.linear(windows, *named(f"{name}.qkv")).chunk(3, -1)
        y, x = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        dy = y.flatten()[:, None] - y.flatten() + window - 1
        dx = x.flatten()[:, None] - x.flatten() + window - 1
        bias = state[f"backbone.{name}.relative_position_bias_table"][dy * (2 * window - 1) + dx]
        answers = []
        for head, (q, k, v) in enumerate(
            zip(*(t.chunk(count, -1) for t in (query, key, value)), strict=True)
        ):
            scores = q @ k.transpose(1, 2) / q.shape[-1] ** 0.5 + bias[..., head]
            scores = scores.masked_fill(regions[:, :, None] != regions[:, None, :], -100)
            answers.append(scores.softmax(-1) @ v)
        return F.linear(torch.cat(answers, -1), *named(f"{name}.proj"))

    def windows_of(x: Tensor) -> Tensor:
        h, w, c = x.shape
        x = x.view(h // window, window, w // window, window, c)
        return x.transpose(1, 2).reshape(-1, window * window, c)

    def shifted_attention(x: Tensor, name: str, count: int, shift: int) -> Tensor:
        h, w, c = x.shape
        x = F.pad(x, (0, 0, 0, -w % window, 0, -h % window))
        high, wide = x.shape[:2]
        # Cells that were neighbours only through the roll must not see each other.
        row = (
            torch.arange(high).view(-1, 1) + (torch.arange(high).view(-1, 1) >= high - shift) * high
        )
        column = torch.arange(wide) + (torch.arange(wide) >= wide - shift) * wide
        region = (row // high) * 2 + column // wide if shift else torch.zeros(high, wide)
        x = x.roll((-shift, -shift), (0, 1))
        out = attend(windows_of(x), name, count, windows_of(region[..., None])[..., 0])
        out = out.view(high // window, wide // window, window, window, c).transpose(1, 2)
        return out.reshape(high, wide, c).roll((shift, shift), (0, 1))[:h, :w]

    weight, bias = named("patch_embed.proj")
    x = layer_norm(F.conv2d(x, weight, bias, 4)[0].permute(1, 2, 0), "patch_embed.norm")
    maps = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            shift = window // 2 if block % 2 else 0
            x = x + shifted_attention(
                layer_norm(x, f"{name}.norm1"), f"{name}.attn", heads[stage], shift
            )
            y = F.gelu(F.linear(layer_norm(x, f"{name}.norm2"), *named(f"{name}.mlp.fc1")))
            x = x + F.linear(y, *named(f"{name}.mlp.fc2"))
        maps.append(layer_norm(x, f"norm{stage}").permute(2, 0, 1)[None])
        if stage < 3:
            x = torch.cat([x[0::2, 0::2], x[1::2, 0::2], x[0::2, 1::2], x[1::2, 1::2]], -1)
            x = F.linear(
                layer_norm(x, f"layers.{stage}.downsample.norm"),
                *named(f"layers.{stage}.downsample.reduction"),
            )
    return maps


def test_resnet_computes_what_the_official_one_computes() -> None:
    depths = (1, 2, 1, 1)
    state = keys.random(keys.resnet(depths, stem=8, last=128) | tiny_head((16, 32, 64, 128)))
    model = build(config_of_detectron2(state), convert_detectron2(state))
    pixels = torch.randn(2, 3, 96, 64)
    with torch.inference_mode():
        found = model.backbone(pixels).feature_maps
    wanted = official_resnet(pixels, state, depths)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_swin_computes_what_the_official_one_computes() -> None:
    depths, heads, window = (2, 1, 2, 1), (1, 2, 2, 4), 3
    state = keys.random(keys.swin(8, depths, heads, window) | tiny_head((8, 16, 32, 64)))
    model = build(config_of_detectron2(state), convert_detectron2(state))
    pixels = torch.randn(1, 3, 96, 64)
    with torch.inference_mode():
        found = model.backbone(pixels).feature_maps
    wanted = official_swin(pixels, state, depths, heads, window)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def tiny_hugging_face(backbone: str) -> Mask2FormerForUniversalSegmentation:
    torch.manual_seed(0)
    backbone_config = {
        "resnet": ResNetConfig(
            embedding_size=8,
            hidden_sizes=[16, 24, 32, 40],
            depths=[1, 2, 1, 1],
            out_features=STAGES,
        ),
        "swin": SwinConfig(
            embed_dim=16,
            depths=[1, 2, 1, 1],
            num_heads=[1, 2, 4, 8],
            window_size=4,
            out_features=STAGES,
        ),
    }[backbone]
    config = Mask2FormerConfig(
        backbone_config=backbone_config,
        num_queries=8,
        num_labels=3,
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=16,
        dim_feedforward=40,
        encoder_feedforward_dim=24,
        encoder_layers=2,
        decoder_layers=5,
        num_attention_heads=4,
    )
    model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(0.1 * torch.randn_like(buffer))
            elif name.endswith("running_var"):
                buffer.mul_(torch.rand_like(buffer) + 0.5)
    return model


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["single", "double"]
)
@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_whole_model_equals_hugging_face(backbone: str, dtype: torch.dtype, atol: float) -> None:
    theirs = tiny_hugging_face(backbone)
    ours = build(config_of_hugging_face(theirs.config), convert_hugging_face(theirs.state_dict()))
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    pixels = torch.randn(2, 3, 96, 64, dtype=dtype)
    with torch.inference_mode():
        found, wanted = ours(pixels), theirs(pixels)
    torch.testing.assert_close(found.class_logits, wanted.class_queries_logits, rtol=0, atol=atol)
    torch.testing.assert_close(found.mask_logits, wanted.masks_queries_logits, rtol=0, atol=atol)


@pytest.mark.parametrize("backbone", ["resnet", "swin"])
def test_a_folder_from_hugging_face_loads_and_is_kept_as_ours(
    backbone: str, tmp_path: Path
) -> None:
    theirs = tiny_hugging_face(backbone)
    theirs.save_pretrained(tmp_path / "theirs")
    Mask2FormerImageProcessorPil(
        size={"shortest_edge": 384, "longest_edge": 640},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.25, 0.25, 0.25],
    ).save_pretrained(tmp_path / "theirs")
    ours = load_published(tmp_path / "theirs")
    assert (ours.config.image_short_side, ours.config.image_long_side) == (384, 640)
    assert ours.config.image_mean == pytest.approx((127.5,) * 3)
    assert ours.config.image_std == pytest.approx((63.75,) * 3)
    ours.save_pretrained(tmp_path / "ours")
    again = SegPromptModel.from_pretrained(tmp_path / "ours").eval()
    pixels = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        wanted = theirs(pixels).masks_queries_logits
        torch.testing.assert_close(ours(pixels).mask_logits, wanted, rtol=0, atol=1e-5)
        torch.testing.assert_close(again(pixels).mask_logits, wanted, rtol=0, atol=1e-5)


def test_models_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot load"):
        load_published(tmp_path / "nothing-here", local_files_only=True)
    AutoBackbone.from_config(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1])
    ).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="is a resnet, not a mask2former"):
        load_published(tmp_path)
    with pytest.raises(CheckpointError, match="pre_norm"):
        config_of_hugging_face(Mask2FormerConfig(pre_norm=True))


def test_a_hugging_face_folder_without_all_weights_is_refused(tmp_path: Path) -> None:
    theirs = tiny_hugging_face("resnet")
    kept = {k: v for k, v in theirs.state_dict().items() if "level_embed" not in k}
    theirs.save_pretrained(tmp_path, state_dict=kept)
    with pytest.raises(CheckpointError, match=r"lacks weights: .*level_embed"):
        load_published(tmp_path)


# ------------------------------------------------------------------------------ files


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    return keys.random(
        keys.resnet((1, 1, 1, 1), stem=8, last=128)
        | tiny_head((16, 32, 64, 128))
        | keys.segprompt_extras(dim=32, k=3, classes=3)
    )


@pytest.mark.parametrize("kind", ["pth", "pkl", "safetensors"])
def test_official_files_load(kind: str, official: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"model_final.{kind}"
    if kind == "pth":
        torch.save({"model": official, "iteration": 12, "optimizer": {"lr": 0.1}}, path)
    elif kind == "pkl":
        arrays = {key: tensor.numpy() for key, tensor in official.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "someone"}, protocol=2))
    else:
        save_file(official, path)
    model = load_published(path)
    assert not model.training
    name = "sem_seg_head.predictor.transformer_self_attention_layers.1.self_attn.in_proj_weight"
    torch.testing.assert_close(
        model.state_dict()["decoder.layers.1.self_attn.k_proj.weight"], official[name][32:64]
    )
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 64)).mask_logits.shape == (1, 5, 16, 16)


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, ("executed",)


@pytest.mark.parametrize("kind", ["pth", "pkl"])
def test_code_in_a_file_is_not_executed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"model.{kind}"
    if kind == "pth":
        torch.save({"model": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Evil()}))
    with pytest.raises(CheckpointError, match="cannot read"):
        load_published(path)
    assert not (tmp_path / "executed").exists()


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    text = tmp_path / "model.pth"
    text.write_text("not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_checkpoint(text)
    other = tmp_path / "other.pkl"
    other.write_bytes(pickle.dumps(np.arange(3)))
    with pytest.raises(CheckpointError, match="no state dict"):
        read_checkpoint(other)
    words = tmp_path / "words.pkl"
    words.write_bytes(pickle.dumps({"model": {"a": "text"}}))
    with pytest.raises(CheckpointError, match="no array"):
        read_checkpoint(words)


def test_wrong_shapes_and_missing_weights_are_named(official: dict[str, Tensor]) -> None:
    config = config_of_detectron2(official)
    ours = convert_detectron2(official)
    with pytest.raises(CheckpointError, match=r"missing: class_head\.bias"):
        build(config, {k: v for k, v in ours.items() if k != "class_head.bias"})
    with pytest.raises(CheckpointError, match=r"another shape: class_head\.bias"):
        build(config, ours | {"class_head.bias": torch.zeros(9)})
    with pytest.raises(CheckpointError, match="left over: surplus"):
        build(config, ours | {"surplus": torch.zeros(1)})


def test_a_class_aware_model_gives_labels(tmp_path: Path) -> None:
    """The best pairs of a mask and a class, recomputed here from Hugging Face's own output."""
    theirs = tiny_hugging_face("resnet")
    theirs.config.id2label = {0: "cat", 1: "dog", 2: "bus"}
    theirs.save_pretrained(tmp_path)
    Mask2FormerImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(
        tmp_path
    )
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    found = anymask.discover(picture, model=tmp_path, labels=True, max_segments=9, device="cpu")
    assert set(found.labels) <= {"cat", "dog", "bus"}
    discoverer = load_discoverer(tmp_path, "cpu")
    pixels = discoverer.processor.scale(anymask.read_image(picture))[None]
    with torch.inference_mode():
        output = theirs(pixels)
    shares = output.class_queries_logits[0].softmax(-1)[:, :-1]
    masks = torch.nn.functional.interpolate(
        output.masks_queries_logits, (64, 96), mode="bilinear", align_corners=False
    )[0]
    inside = [(m.sigmoid() * (m > 0)).sum() / (m > 0).sum().clamp(min=1) for m in masks]
    best = shares.flatten().topk(9)
    wanted = sorted(
        (float(v * inside[k // 3]), ("cat", "dog", "bus")[k % 3])
        for v, k in zip(best.values, best.indices.tolist(), strict=True)
        if inside[k // 3] > 0
    )[::-1]
    assert [label for _, label in wanted] == list(found.labels)
    np.testing.assert_allclose(found.scores, [score for score, _ in wanted], atol=1e-4)
    again = SegPromptModel.from_pretrained(save(discoverer.model, tmp_path / "ours"))
    assert list(again.config.class_names) == ["cat", "dog", "bus"]
    with pytest.raises(CheckpointError, match="class-agnostic"):
        anymask.discover(picture, labels=True, device="cpu")
    with pytest.raises(ValueError, match="2 names for 1 classes"):
        SegPromptConfig(class_names=["a", "b"])


def save(model: SegPromptModel, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder
