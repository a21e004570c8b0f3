"""OVSNet's recipes, small enough for a test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.data.augmentation import Sample, distort_color
from anymask.data.dense import DenseDataset, DensePicture, by_value
from anymask.data.scenes.files import World, write_scenes
from anymask.errors import CheckpointError, DataError, InputError
from anymask.methods.ovsnet import ClipConvNext, ClipConvNextConfig, OVSNetConfig
from anymask.training.dense_samples import DenseSamples, LabelSource, PanopticSource
from anymask.training.recipe import _factor, train
from anymask.training.recipes.clip_scenes import clip_scenes, scenes_tokenizer
from anymask.training.recipes.ovsnet import ovsnet, recipe_of, start
from anymask.training.recipes.ovsnet_scenes import TRAINING_NAMES, ovsnet_scenes
from anymask.training.scene_descriptions import Fact, SceneDescriptions, shares_of
from anymask.training.scene_samples import KNOWN, SceneSamples
from anymask.vocabulary import Vocabulary

TINY: dict[str, Any] = {
    "pixel_decoder": "pyramid", "queries": "learned", "hidden_dim": 32, "mask_dim": 16,
    "num_heads": 4, "decoder_layers": 2, "decoder_ffn_dim": 32, "num_queries": 9,
    "num_points": 64,
}  # fmt: skip


def tiny_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    small = ClipConvNextConfig.small(depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), text_layers=1)
    monkeypatch.setattr(ClipConvNextConfig, "small", lambda **changes: small)


def test_oracle_o15_schedule() -> None:
    plan: Any = SimpleNamespace(decay="poly", warmup=0)
    rates = [1e-4 * _factor(plan, step, 60_000) for step in (0, 1000, 30_000, 59_999)]
    assert rates == pytest.approx([1.0e-4, 9.849874e-5, 5.358867e-5, 5.008e-9], rel=1e-3)


def test_colors_change_and_masks_do_not() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 9, 3)).astype(np.uint8)
    sample = Sample(image, np.ones((1, 8, 9), bool), np.zeros(1, np.int64), np.ones((8, 9), bool))
    seen = [distort_color(sample, np.random.default_rng(k)).image for k in range(12)]
    assert all(one.dtype == np.uint8 and one.shape == image.shape for one in seen)
    assert sum(np.array_equal(one, image) for one in seen) < 4
    again = distort_color(sample, np.random.default_rng(3)).image
    assert np.array_equal(again, seen[3])


@pytest.fixture
def world(tmp_path: Path) -> Path:
    list(write_scenes(tmp_path / "world", World(4, seed=1, size=64)))
    return tmp_path / "world"


def panoptic(world: Path) -> tuple[Path, dict[int, int], tuple[str, ...]]:
    import json

    file = next(world.glob("panoptic*.json"))
    listed = json.loads(file.read_text())["categories"]
    return file, {c["id"]: k for k, c in enumerate(listed)}, tuple(c["name"] for c in listed)


def test_panoptic_samples(world: Path) -> None:
    file, rows, _ = panoptic(world)
    source = PanopticSource(file, world / "images", rows)
    pixels, masks, labels = source.load(0)
    assert pixels.shape[:2] == masks.shape[1:] == (64, 64)
    assert len(masks) == len(labels) > 1
    assert masks.sum(0).max() == 1  # panoptic: nothing overlaps
    sample = DenseSamples(source, 3, 96)[1]
    assert sample["image"].shape == (96, 96, 3)
    again = DenseSamples(source, 3, 96)[1]
    assert torch.equal(sample["image"], again["image"])
    with pytest.raises(DataError, match="no panoptic file"):
        PanopticSource(world / "instances.json", world, rows)


def test_label_samples(tmp_path: Path) -> None:
    import PIL.Image

    PIL.Image.new("RGB", (4, 1)).save(tmp_path / "a.jpg")
    PIL.Image.fromarray(np.array([[0, 2, 255, 0]], np.uint8)).save(tmp_path / "a.png")
    picture = DensePicture("a", tmp_path / "a.jpg", tmp_path / "a.png")
    words = Vocabulary.from_names(["x", "y", "z"])
    data = DenseDataset("t", words, [picture], by_value({0: 0, 1: 1, 2: 2}, ignore=[255]))
    _, masks, labels = LabelSource(data).load(0)
    assert labels.tolist() == [0, 2]
    assert masks.astype(int).tolist() == [[[1, 0, 0, 1]], [[0, 1, 0, 0]]]


def test_the_papers_recipe_trains(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps at tiny size, from weights in open_clip's layout to a model that matches."""
    tiny_clip(monkeypatch)
    file, rows, names = panoptic(world)
    clip = ClipConvNext(ClipConvNextConfig.small())
    vocabulary = Vocabulary.from_names(names)
    config = OVSNetConfig(
        **{**TINY, "clip_config": clip.config, "training_words": tuple((n,) for n in names)}
    )
    folder = tmp_path / "clip"
    scenes_tokenizer(clip.config).save_pretrained(folder)
    state = open_clip_state(clip)
    plan = recipe_of(
        config,
        lambda: start(config, state, folder, vocabulary),
        PanopticSource(file, world / "images", rows),
        steps=2,
        batch_size=2,
        size=64,
        seed=0,
    )
    out = train(plan, tmp_path / "run", device="cpu", progress_seconds=1e9)
    scenes_tokenizer(clip.config).save_pretrained(out)
    photo = next((world / "images").iterdir())
    found = anymask.match(photo, ["mug", "sky"], model=out)
    assert found.masks.sum(0).min() == 1


def open_clip_state(clip: ClipConvNext) -> dict[str, torch.Tensor]:
    """Our weights under open_clip's names, written down by hand."""
    ours = clip.state_dict()
    found = {
        "visual.head.proj.weight": ours["head.weight"],
        "token_embedding.weight": ours["text.text_model.embeddings.token_embedding.weight"],
        "positional_embedding": ours["text.text_model.embeddings.position_embedding.weight"],
        "text_projection": ours["text.text_projection.weight"].T.contiguous(),
        "logit_scale": ours["logit_scale"],
    }
    renames = (
        ("trunk.embeddings.patch_embeddings.", "visual.trunk.stem.0."),
        ("trunk.embeddings.layernorm.", "visual.trunk.stem.1."),
        ("trunk.layernorm.", "visual.trunk.head.norm."),
        ("text.text_model.final_layer_norm.", "ln_final."),
    )
    for key, value in ours.items():
        for mine, theirs in renames:
            if key.startswith(mine):
                found[theirs + key.removeprefix(mine)] = value
        if key.startswith("trunk.encoder.stages."):
            name = key.removeprefix("trunk.encoder.").replace(".layers.", ".blocks.")
            for mine, theirs in (
                ("downsampling_layer", "downsample"), ("layer_scale_parameter", "gamma"),
                ("dwconv", "conv_dw"), ("layernorm", "norm"), ("pwconv1", "mlp.fc1"),
                ("pwconv2", "mlp.fc2"),
            ):  # fmt: skip
                name = name.replace(mine, theirs)
            found[f"visual.trunk.{name}"] = value
        if key.startswith("text.text_model.encoder.layers."):
            name = key.removeprefix("text.text_model.encoder.layers.")
            number, rest = name.split(".", 1)
            block = f"transformer.resblocks.{number}"
            if rest.startswith("self_attn.q_proj"):
                kind = rest.rsplit(".", 1)[1]
                parts = [ours[key.replace("q_proj", f"{p}_proj")] for p in "qkv"]
                found[f"{block}.attn.in_proj_{kind}"] = torch.cat(parts)
            elif rest.startswith(("self_attn.k_proj", "self_attn.v_proj")):
                continue
            else:
                for mine, theirs in (
                    ("self_attn.out_proj", "attn.out_proj"), ("layer_norm", "ln_"),
                    ("mlp.fc1", "mlp.c_fc"), ("mlp.fc2", "mlp.c_proj"),
                ):  # fmt: skip
                    rest = rest.replace(mine, theirs)
                found[f"{block}.{rest}"] = value
    return found


def test_the_papers_recipe_reads_its_files(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_clip(monkeypatch)
    file, _, _ = panoptic(world)
    state = open_clip_state(ClipConvNext(ClipConvNextConfig.small()))
    save_file(state, tmp_path / "open_clip_model.safetensors")
    plan = ovsnet(file, world / "images", tmp_path / "open_clip_model.safetensors", **TINY)
    assert (plan.batch_size, plan.lr, plan.decay, plan.clip) == (8, 1e-4, "poly", 0.01)
    assert len(plan.data()) == 480_000  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        plan.model()
    scenes_tokenizer(ClipConvNextConfig.small()).save_pretrained(tmp_path)
    model = plan.model()
    assert len(model.training_words) == 133


def test_scenes_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CLIP of scenes, then the segmenter on it, two steps each, by the command line."""
    tiny_clip(monkeypatch)
    ask = ["--samples", "4", "--size", "64", "--batch-size", "2", "--device", "cpu"]
    first = CliRunner().invoke(app, ["train", "clip-scenes", *ask, "--out", str(tmp_path / "c")])
    assert first.exit_code == 0, first.output
    second = CliRunner().invoke(
        app,
        ["train", "ovsnet-scenes", *ask, "--init", str(tmp_path / "c"), "--out",
         str(tmp_path / "o")],
    )  # fmt: skip
    assert second.exit_code == 0, second.output
    scene = SceneSamples(1, 64)[0]["image"].numpy()
    found = anymask.match(scene, ["cat", "sky"], model=tmp_path / "o")
    assert set(found.labels) <= {"cat", "sky"}
    # CLIP did not learn in the second run.
    before = ClipConvNext.from_pretrained(tmp_path / "c").state_dict()
    from anymask.methods.ovsnet import OVSNetModel

    after = OVSNetModel.from_pretrained(tmp_path / "o").clip.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_what_the_scenes_recipes_need(tmp_path: Path) -> None:
    for arguments, match in (
        (["ovsnet-scenes"], "needs --init"),
        (["ovsnet"], "needs --data"),
    ):
        result = CliRunner().invoke(app, ["train", *arguments, "--out", str(tmp_path)])
        assert isinstance(result.exception, InputError)
        assert match in str(result.exception)


def test_descriptions_are_true() -> None:
    data = SceneDescriptions(8, 128, 5, group=2)
    whole, crops = data[0], data[2]
    assert whole["pictures"].shape == (1, 128, 128, 3)
    assert len(whole["shares"]) == len(whole["facts"])
    assert torch.allclose(whole["shares"].sum((1, 2)), torch.ones(len(whole["shares"])))
    assert crops["shares"] is None
    assert len(crops["pictures"]) == len(crops["facts"])
    for sample in (whole, crops):
        for fact, said, text in zip(sample["facts"], sample["said"], sample["texts"], strict=True):
            assert said.true_of(fact)
            if said.color is not None:
                assert said.color in text
    assert not Fact("cat", "red").true_of(Fact("cat", "blue"))
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[0, :32, :16] = True
    assert shares_of(mask).tolist() == [[[1.0, 0.0], [0.0, 0.0]]]


def test_only_known_things_and_stuff_are_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(TRAINING_NAMES) == 53
    data = SceneSamples(6, 64, class_aware=True, stuff=True)
    labels = torch.cat([data[k]["labels"] for k in range(6)])
    assert int(labels.max()) < 53
    assert (labels >= len(KNOWN)).any()
    tiny_clip(monkeypatch)
    plan = clip_scenes(4, 2, size=64)
    batch = plan.collate([plan.data()[k] for k in range(2)])
    loss = plan.model()(**batch).loss
    assert torch.isfinite(loss)
    assert ovsnet_scenes.__doc__
