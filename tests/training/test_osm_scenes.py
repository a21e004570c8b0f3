"""The parts of ``osm-scenes``: its eye, its language model, its data sets with clashing names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from anymask.checkpoints import bundled_folder
from anymask.cli.app import app
from anymask.data.scenes import make_scene
from anymask.loading import load_namer
from anymask.methods.osm.collate import Collate
from anymask.methods.osm.heads import OSMHeads
from anymask.methods.osm.inference import OSMNamer
from anymask.methods.osm.model import OSMModel
from anymask.training.recipe import train
from anymask.training.recipes.osm_scenes import (
    osm_language_scenes,
    osm_scenes,
    small_osm,
    start,
)
from anymask.training.recipes.scene_answers import ANSWERS, LENGTH, SceneAnswers, answer_texts
from anymask.training.recipes.scene_masks import SETS, SceneMaskCollate, SceneMasks, names_of
from anymask.training.recipes.wowseg_scenes import internvl_vision_scenes
from anymask.training.studies import osm_data_sets, osm_pictures
from anymask.training.study import Study
from anymask.training.word_patches import WordPatches


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    eye = replace(internvl_vision_scenes(scenes=4, batch_size=2, size=64, windows=2), warmup=1)
    words = replace(osm_language_scenes(samples=8, batch_size=4), warmup=1)
    train(eye, folder / "eye", device="cpu")
    train(words, folder / "language", device="cpu")
    return folder


def test_the_eye_sees_the_same(parts: Path) -> None:
    """InternVL's vision transformer and InstructBLIP's hold the same weights."""
    model = start(small_osm(), parts).double().eval()
    trained = WordPatches.from_pretrained(parts / "eye").double().eval()
    pixels = torch.randn(2, 3, 80, 80, dtype=torch.float64)
    with torch.no_grad():
        mine = model.vision_model(pixels).last_hidden_state
        wanted = trained.norm(trained.vision(pixels).last_hidden_state)
    # Layer scales are folded in at single precision.
    torch.testing.assert_close(mine, wanted, atol=1e-6, rtol=0)


def test_trained_in_the_terminal_it_names(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "osm"
    command = ["train", "osm-scenes", "--init", str(parts), "--out", str(out), "--samples", "2"]
    command += ["--batch-size", "1", "--size", "96", "--device", "cpu"]
    result = CliRunner().invoke(app, [*command, "--features", str(tmp_path / "kept")])
    assert result.exit_code == 0, result.output
    assert list((tmp_path / "kept").glob("*/*.safetensors"))
    scene = make_scene(5, 0, 96, "val")
    found = load_namer(str(out), "cpu").names(scene.as_image(), scene.segments())
    assert len(list(found)) == len(scene.objects)


def test_every_answer_stands_before_its_question() -> None:
    texts = answer_texts()
    data = SceneAnswers(40, 9, 3, texts)
    for index in range(40):
        sample = data[index]
        assert len(sample["shown"]) == 9
        shown = texts.language.decode(sample["shown"])
        assert f" {sample['name']}" in shown
        whole = texts.language(f"{sample['question']} {sample['name']}")["input_ids"]
        assert len(whole) < LENGTH
    assert max(len(texts.language(f" {name}")["input_ids"]) for name in ANSWERS) <= 8


def test_data_sets_clash() -> None:
    """The same thing is called differently, and only known things and stuff are taught."""
    from anymask.data.scenes.categories import THINGS

    data = SceneMasks(6, 128, 120, 5)
    unknown = {t.name for t in THINGS if t.group != "known"}
    for index in range(6):
        samples = data[index]
        assert {s["mode"] for s in samples} == {list(SETS)[index % 3]}
        assert sum(s["agnostic"] for s in samples) == 4
        assert len({id(s["canvas"]) for s in samples}) == 1
        if index % 3 == 0:
            assert not {s["name"] for s in samples} & unknown
        for sample in samples:
            assert sample["mask"].shape == sample["canvas"].shape[:2] == (120, 120)
    assert SETS["kinds"]("mug") != "mug"
    with_kinds = {SETS["kinds"](t.name) for t in THINGS}
    assert len(with_kinds) < len(THINGS) / 2


def test_a_shared_canvas_changes_nothing(parts: Path) -> None:
    config = small_osm()
    model = start(config, parts).double()
    scenes = [SceneMasks(2, 128, config.canvas, 5)[k] for k in range(2)]
    collate = Collate(config, answer_texts(), LENGTH)
    shared = SceneMaskCollate(collate)(scenes)
    alone = collate([{**s, "canvas": s["canvas"].clone()} for scene in scenes for s in scene])
    assert shared["pixel_values"].shape[0] == 2
    assert alone["pixel_values"].shape[0] == 16
    assert alone["pictures"] is None
    losses = []
    for batch in (shared, alone):
        batch["pixel_values"] = batch["pixel_values"].double()
        losses.append(model(**batch).loss)
    torch.testing.assert_close(losses[0], losses[1], atol=1e-9, rtol=1e-9)


def test_it_trains_what_is_not_frozen(parts: Path, tmp_path: Path) -> None:
    recipe = replace(osm_scenes(parts, scenes=6, batch_size=3, size=96, masks=2), warmup=1)
    before = recipe.model().state_dict()
    folder = train(recipe, tmp_path / "osm", device="cpu")
    after = OSMModel.from_pretrained(folder).state_dict()
    moved = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert not [n for n in moved if n.startswith(("vision_model.", "language_model."))]
    assert moved >= {"mask_query", "query_tokens", "window_pos_embed", "mode_query.any",
                     "mode_query.names", "language_projection.weight"}  # fmt: skip
    namer = OSMNamer(OSMModel.from_pretrained(folder), answer_texts(), "cpu")
    from anymask.image import Image
    from anymask.segments import Segments

    scene = SceneMasks(1, 128, 240, 5, split="val")[0]
    found = namer(
        Image(scene[0]["canvas"].numpy()),
        Segments.from_masks(torch.stack([s["mask"] for s in scene]).numpy()),
        mode="kinds",
    )
    assert len(found) == 8


@pytest.mark.parametrize("heads", ["learned", "text"])
def test_heads_instead_of_a_language_model(parts: Path, tmp_path: Path, heads: str) -> None:
    recipe = osm_scenes(parts, scenes=18, batch_size=3, size=96, masks=4, heads=heads)
    model = recipe.model()
    assert set(model.heads) == set(SETS)
    texts = answer_texts()
    words = model.language_model.get_input_embeddings().weight
    row = words[texts.language(f" {names_of('names')[3]}")["input_ids"]].mean(0)
    started = torch.equal(model.heads["names"].weight[3], row)
    assert started == (heads == "text")
    folder = train(replace(recipe, warmup=1), tmp_path / "heads", device="cpu")
    after = OSMHeads.from_pretrained(folder)
    assert not torch.equal(after.heads["kinds"].weight, model.heads["kinds"].weight)
    # A head's loss is the mean over its own masks; data sets are added up.
    samples = [SceneMasks(3, 96, 240, 9, masks=3)[k] for k in range(3)]
    batch = recipe.collate(samples)
    parts_of_it = []
    for k in range(3):
        alone = recipe.collate(samples[k : k + 1])
        parts_of_it.append(after(**alone).loss.item())
    assert after(**batch).loss.item() == pytest.approx(sum(parts_of_it), rel=1e-5)


@pytest.mark.parametrize("study", [osm_data_sets.STUDY, osm_pictures.STUDY], ids=lambda s: s.name)
def test_every_arm_of_the_studies_is_a_step(study: Study) -> None:
    for arm in study.arms:
        plan = osm_scenes(bundled_folder("osm-scenes"), 3, 3, 0, 96, masks=2, **arm.settings)
        data = plan.data()
        output = plan.model()(**plan.collate([data[k] for k in range(3)]))  # type: ignore[operator]
        assert torch.isfinite(output.loss), arm.name
