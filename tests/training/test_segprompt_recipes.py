"""The paper's recipes say what the paper says, and each of them trains, at tiny size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, ResNetConfig
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.data.scenes import make_scene
from anymask.errors import CheckpointError, InputError
from anymask.methods.segprompt import SegPromptConfig, SegPromptModel
from anymask.methods.segprompt.configuration import STAGES
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.methods.segprompt.text_prompts import ClipTexts
from anymask.nn.text_tokens import train_tokenizer
from anymask.ops.rle import encode, to_coco_str
from anymask.training.mixture import Augmentation, Mixture, Phase, Source
from anymask.training.recipe import Recipe, train
from anymask.training.recipes import segprompt as recipes
from anymask.vocabulary import Vocabulary

SMALL: dict[str, Any] = {
    "backbone_config": ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES,
        downsample_in_bottleneck=False,
    ),
    "frozen_norm": True,
    "hidden_dim": 32,
    "mask_dim": 32,
    "num_heads": 4,
    "encoder_layers": 1,
    "encoder_ffn_dim": 32,
    "decoder_layers": 3,
    "decoder_ffn_dim": 32,
    "num_queries": 8,
    "num_points": 32,
}  # fmt: skip
PROMPTS = {"queries_per_class": 2, "max_classes": 4, "max_examples": 2, "min_mask_area": 4}
TINY = {"size": 64, "batch_size": 2, "steps": 2}


@pytest.fixture(scope="module")
def lvis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures with LVIS ids: person 793 (known), aerosol can 1 (seen), 13 (rare)."""
    folder = tmp_path_factory.mktemp("lvis")
    images, rows = [], []
    for number in range(1, 7):
        scene = make_scene(3, number, 64, "train")
        PIL.Image.fromarray(scene.image).save(folder / f"{number}.png")
        images.append(
            {
                "id": number, "file_name": f"{number}.png", "height": 64, "width": 64,
                "neg_category_ids": [45], "not_exhaustive_category_ids": [],
            }
        )  # fmt: skip
        for k in range(len(scene.objects)):
            category = 13 if number == 1 and k == 0 else (793, 1)[k % 2]
            rows.append(
                {
                    "id": len(rows) + 1, "image_id": number, "category_id": category,
                    "segmentation": to_coco_str(encode(scene.mask(k))),
                    "area": scene.objects[k].area, "bbox": [0, 0, 1, 1], "iscrowd": 0,
                }
            )  # fmt: skip
    categories = [{"id": c, "name": f"c{c}"} for c in (1, 13, 45, 793)]
    content = {"images": images, "annotations": rows, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    return folder / "truth.json"


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("stage1")
    SegPromptModel(SegPromptConfig(**SMALL)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP's text half and a tokenizer, as the hub has them."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    words = train_tokenizer(["a photo of a person can crab animal"], 300, 32)
    words.save_pretrained(folder)
    config = CLIPTextConfig(
        vocab_size=300, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=40, projection_dim=8,
    )  # fmt: skip
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    return folder


def all_recipes(lvis: Path, stage1: Path) -> dict[str, Recipe]:
    here = lvis.parent
    plain = SegPromptConfig(**SMALL)
    aware = SegPromptConfig(**{**SMALL, "num_classes": 1203})
    prompts = PromptLearningConfig(**SMALL, **PROMPTS)
    random_: dict[str, Any] = {"backbone": None, **TINY}
    second: dict[str, Any] = {"changes": PROMPTS, **TINY}
    made = [
        recipes.lvis_ow_stage1(lvis, here, config=plain, **random_),
        recipes.lvis_ow_stage2(lvis, here, stage1, **second),
        recipes.lvis_ow_control(lvis, here, stage1, **second),
        recipes.lvis_full(lvis, here, config=prompts, **random_),
        recipes.lvis_full_class_aware(lvis, here, config=aware, **random_),
        recipes.coco_to_lvis(lvis, here, stage1, **second),
    ]
    return {recipe.name: recipe for recipe in made}


def test_the_papers_settings() -> None:
    assert pytest.approx((0.8889, 0.96296), abs=1e-4) == recipes.LONG_DROPS
    assert pytest.approx((2 / 3, 8 / 9)) == recipes.SHORT_DROPS
    assert recipes.JITTER.scale == (0.1, 2.0)
    assert recipes.JITTER.anchor == "corner"
    defaults = PromptLearningConfig.resnet50()
    assert (defaults.queries_per_class, defaults.max_classes, defaults.max_examples) == (10, 30, 5)
    assert (defaults.momentum, defaults.num_queries, defaults.num_points) == (0.9, 100, 12544)
    assert defaults.frozen_norm


def test_recipes_differ_where_the_paper_does(lvis: Path, stage1: Path) -> None:
    made = all_recipes(lvis, stage1)
    for recipe in made.values():
        assert (recipe.lr, recipe.backbone_lr, recipe.weight_decay) == (1e-4, 0.1, 0.05)
        assert (recipe.clip, recipe.decay, recipe.seed) == (0.01, "steps", 1)
    second = made["lvis-ow-stage2"].model()
    assert isinstance(second, PromptLearningModel)
    assert len(second.known) == 123
    assert second.config.prompt_classes == 1203
    first = SegPromptModel.from_pretrained(stage1)
    for name, value in first.state_dict().items():
        assert torch.equal(second.segmenter.state_dict()[name], value), name
    assert made["lvis-ow-control"].model().branches is None
    assert made["coco-to-lvis"].model().config.prompt_classes == 4
    assert made["lvis-full-class-aware"].model().config.num_classes == 1203


@pytest.mark.parametrize(
    "name",
    ["lvis-ow-stage1", "lvis-ow-stage2", "lvis-ow-control", "lvis-full", "lvis-full-class-aware",
     "coco-to-lvis"],
)  # fmt: skip
def test_every_recipe_trains(name: str, lvis: Path, stage1: Path, tmp_path: Path) -> None:
    recipe = all_recipes(lvis, stage1)[name]
    before = {k: v.clone() for k, v in recipe.model().state_dict().items()}
    train(recipe, tmp_path, device="cpu", checkpoint_every=100)
    after = recipe.model().state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert any("decoder" in k for k in moved)
    backbone = {k for k in moved if "backbone." in k}
    frozen = name in ("lvis-ow-stage2", "lvis-ow-control", "coco-to-lvis")
    assert bool(backbone) != frozen
    # Batch normalisation never moves, neither its statistics nor its weights.
    assert not {k for k in moved if "normalization" in k}
    assert (tmp_path / "model.safetensors").is_file()
    history = json.loads((tmp_path / "history.json").read_text())
    assert np.isfinite([r["loss"] for r in history if "loss" in r]).all()


def test_words_take_the_place_of_prompts(
    lvis: Path, stage1: Path, clip: Path, tmp_path: Path
) -> None:
    encode = ClipTexts.from_pretrained(clip)
    names = ["crab_(animal)", "person"]
    vectors = encode(names)
    assert vectors.shape == (2, encode.width) == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    tokens = encode.tokenizer(["a photo of a crab animal"], return_tensors="pt")
    with torch.no_grad():
        expected = encode.model(**tokens).text_embeds[0]
    np.testing.assert_allclose(vectors[0], (expected / expected.norm()).numpy(), atol=1e-5)
    with pytest.raises(CheckpointError, match="text encoder"):
        ClipTexts.from_pretrained(tmp_path / "nothing")

    recipe = recipes.lvis_ow_text(
        lvis,
        lvis.parent,
        stage1,
        text=clip,
        changes=PROMPTS,
        **TINY,  # type: ignore[arg-type]
    )
    data = recipe.data()
    for k in range(4):
        sample = data[k]
        assert set(sample["labels"].tolist()) <= {792}  # person, the known one
        assert set(sample["image_labels"]) <= {0, 12}  # of the others it is only said that
    assert any(data[k]["image_labels"] for k in range(4))
    model: Any = recipe.model()
    people = Vocabulary.builtin("lvis").names[792]
    np.testing.assert_allclose(
        model.branches.text_table[792].numpy(), encode([people])[0], atol=1e-6
    )
    train(recipe, tmp_path / "run", device="cpu", checkpoint_every=100)
    found = anymask.find(
        np.zeros((64, 64, 3), np.uint8), ["crab_(animal)", "person"],
        model=tmp_path / "run", min_score=0.0, max_segments=3,
    )  # fmt: skip
    assert set(found.labels) <= {"crab_(animal)", "person"}
    assert len(found)
    with pytest.raises(InputError, match="leave task"):
        anymask.find(
            np.zeros((64, 64, 3), np.uint8), "person", model=tmp_path / "run", task="semantic"
        )
    done = CliRunner().invoke(
        app,
        ["train", "lvis-ow-text", "--data", str(lvis), "--init", str(stage1), "--text",
         str(tmp_path / "none"), "--out", str(tmp_path / "cli")],
    )  # fmt: skip
    assert isinstance(done.exception, CheckpointError)


def test_labels_and_lists_reach_the_model(lvis: Path) -> None:
    rows = {793: 5, 45: 2}
    source = Source(lvis, lvis.parent, rows=rows)
    data = Mixture([source], [Phase(12, 64)], Augmentation(scale=(1.0, 1.0)))
    for k in range(12):
        sample = data[k]
        assert set(sample["labels"].tolist()) <= {5}
        assert sample["negatives"] == (2,)
        assert sample["not_exhaustive"] == ()
    plain = Mixture([Source(lvis, lvis.parent)], [Phase(4, 64)], Augmentation(scale=(1.0, 1.0)))
    assert {label for k in range(4) for label in plain[k]["labels"].tolist()} == {0}
    assert plain[0]["negatives"] == ()


def test_rare_classes_are_drawn_more_often(lvis: Path) -> None:
    # The rare class is in 1 of 6 pictures: factor sqrt(0.9 / (1 / 6)) = 2.32; the others have 1.
    source = Source(lvis, lvis.parent, repeat_threshold=0.9)
    data = Mixture([source], [Phase(1, 64)])
    (cumulative,) = data._repeats
    assert cumulative is not None
    shares = np.diff(cumulative, prepend=0)
    factor = np.sqrt(0.9 * 6)
    assert shares[0] == pytest.approx(factor / (factor + 5))
    assert shares[1:] == pytest.approx(1 / (factor + 5))


def test_the_command_knows_the_papers_recipes(
    lvis: Path, stage1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from anymask.cli.app import app

    arguments = ["train", "lvis-ow-stage2", "--data", str(lvis), "--init", str(stage1)]
    arguments += ["--samples", "2", "--batch-size", "1", "--size", "64", "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    trained = PromptLearningModel.from_pretrained(tmp_path / "out")
    assert trained.branches is not None
    assert trained.config.queries_per_class == 10
