"""OpenWorldSAM's runs: what is asked of a picture, schedules, and the commands."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import openworldsam_tiny as tiny
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from anymask.checkpoints import bundled_folder
from anymask.cli.app import app
from anymask.data.phrases import read_refcoco
from anymask.methods.openworldsam import OpenWorldSAMModel
from anymask.training.phrase_samples import CategoryPhrases, ReferringPhrases, clean_name
from anymask.training.recipe import _factor
from anymask.training.recipes.openworldsam import SCHEDULES, openworldsam_coco
from anymask.training.recipes.openworldsam_scenes import openworldsam_scenes
from anymask.training.scene_phrases import ScenePhrases
from anymask.training.scene_prompts import ScenePrompts
from anymask.vocabulary import Vocabulary

RUN = CliRunner()


def test_t17_names_are_cleaned() -> None:
    names = Vocabulary.builtin("coco-panoptic").names
    cleaned = [clean_name(name) for name in names]
    assert len(set(cleaned)) == 133
    assert clean_name("building-other-merged") == "building"
    assert clean_name("door-stuff") == "door"
    assert clean_name("floor-wood") == "floor-wood"


def test_t16_schedules() -> None:
    steps, lr, drops, _, decay = SCHEDULES["coco", "released"]
    recipe = openworldsam_coco_recipe(steps=steps, schedule="released")
    assert (recipe.lr, recipe.weight_decay, recipe.clip) == (1e-4, 0.05, 0.005)
    for step, factor in ((0, 1), (327_777, 1), (327_810, 0.1), (355_080, 0.1), (355_130, 0.01)):
        assert _factor(recipe, step, steps) == pytest.approx(factor)
    assert (lr, decay) == (1e-4, 0.05)
    assert drops == (0.6556, 0.7102)
    paper = SCHEDULES["coco", "paper"]
    assert paper[0] * 8 / 104_000 == pytest.approx(25, rel=0.01)


class Pictures:
    """Three pictures with nine, two and no classes."""

    def __len__(self) -> int:
        return 3

    def load(self, index: int):  # type: ignore[no-untyped-def]
        count = (9, 2, 0)[index]
        masks = np.zeros((count, 12, 16), bool)
        for k in range(count):
            masks[k, k, :] = True
        labels = np.arange(count) // (2 if count == 9 else 1)  # two things of most classes
        return np.zeros((12, 16, 3), np.uint8), masks, labels.astype(np.int64)


def openworldsam_coco_recipe(**options):  # type: ignore[no-untyped-def]
    from anymask.training.recipes import openworldsam

    return openworldsam._recipe(
        "coco", options.pop("schedule", "paper"), tiny.model, None,
        lambda count, seed: CategoryPhrases(Pictures(), list("abcdefghi"), count, seed), **options,
    )  # fmt: skip


def test_phrases_of_a_picture() -> None:
    samples = CategoryPhrases(Pictures(), list("abcdefghi"), 60, most=3)
    drawn = set()
    for k in range(60):
        sample = samples[k]
        assert len(sample["texts"]) == len(sample["instances"]) <= 3
        assert sample["texts"] == sorted(sample["texts"])
        for masks in sample["instances"]:
            assert masks.flatten(1).any(1).all()
        drawn |= set(sample["texts"])
    assert drawn == set("abcde")
    assert any(not samples[k]["texts"] for k in range(60))
    again = CategoryPhrases(Pictures(), list("abcdefghi"), 60, most=3)
    assert [samples[k]["texts"] for k in range(20)] == [again[k]["texts"] for k in range(20)]


def test_negative_phrases_mean_nothing() -> None:
    samples = CategoryPhrases(Pictures(), list("abcdefghi"), 20, negatives=2)
    for k in range(20):
        sample = samples[k]
        absent = [
            text
            for text, masks in zip(sample["texts"], sample["instances"], strict=True)
            if not len(masks)
        ]
        assert len(absent) == 2


def test_scenes_speak_of_known_things_only_when_training() -> None:
    train = ScenePhrases(6, 96, 5, split="train", grid=6)
    for k in range(6):
        sample = train[k]
        assert len(sample["texts"]) == len(sample["instances"]) == len(sample["kinds"])
        assert sample["word_cells"].shape[1] == 36
    kinds = {kind for k in range(6) for kind in train[k]["kinds"]}
    assert {"stuff"} < kinds


def test_prompts_of_scenes_lie_in_what_they_mean() -> None:
    samples = ScenePrompts(8, 96, 5)
    kinds = set()
    for k in range(8):
        sample = samples[k]
        for points, labels, cells, there, clicked in zip(
            *(sample[n] for n in ("points", "labels", "masks", "there", "clicked")), strict=True
        ):
            kinds.add((tuple(labels.tolist()), bool(there)))
            assert bool(clicked) == (labels[1] == -1)
            if clicked:
                x, y = (points[0] / 4).long().tolist()
                assert cells[y, x] > 0
            assert bool(cells.any()) == bool(there)
    assert {((1, -1), True), ((2, 3), True)} <= kinds


def write_panoptic(folder: Path) -> Path:
    """COCO's panoptic layout, by hand: 24-bit ids in PNGs."""
    (folder / "panoptic").mkdir(parents=True)
    (folder / "images").mkdir()
    ids = np.zeros((48, 60), np.int64)
    ids[:24], ids[24:] = 300, 70_000
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    PIL.Image.fromarray(rgb).save(folder / "panoptic" / "1.png")
    PIL.Image.fromarray(tiny.picture().pixels).save(folder / "images" / "1.jpg")
    segments = [{"id": 300, "category_id": 1}, {"id": 70_000, "category_id": 187}]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 48, "width": 60}],
        "annotations": [{"image_id": 1, "file_name": "1.png", "segments_info": segments}],
    }
    (folder / "panoptic.json").write_text(json.dumps(content))
    return folder / "panoptic.json"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    tiny.model(presence_weight=1.0).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_coco_training_from_the_terminal(tmp_path: Path, start: Path) -> None:
    truth = write_panoptic(tmp_path / "coco")
    done = RUN.invoke(
        app,
        ["train", "openworldsam", "--data", str(truth), "--images", str(truth.parent / "images"),
         "--init", str(start), "--samples", "4", "--batch-size", "2", "--negatives", "1",
         "--device", "cpu", "--out", str(tmp_path / "out")],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    trained = OpenWorldSAMModel.from_pretrained(tmp_path / "out")
    before = OpenWorldSAMModel.from_pretrained(start)
    assert not torch.equal(trained.adapter.tie_breakers, before.adapter.tie_breakers)
    for name, value in before.sam2.state_dict().items():
        assert torch.equal(trained.sam2.state_dict()[name], value), name


def test_refcocog_training_from_the_terminal(tmp_path: Path, start: Path) -> None:
    folder = tmp_path / "refcocog"
    (folder / "images").mkdir(parents=True)
    PIL.Image.fromarray(tiny.picture().pixels).save(folder / "images" / "a.jpg")
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    file = {
        "images": [{"id": 7, "file_name": "a.jpg", "height": 48, "width": 60}],
        "annotations": [{"id": k, "image_id": 7, "category_id": 1, "segmentation": [square],
                         "area": 400, "bbox": [10, 10, 20, 20], "iscrowd": 0} for k in (70, 71)],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(file))
    refs = [
        {"ref_id": k, "ann_id": 70 + k, "image_id": 7, "split": "train",
         "sentences": [{"sent_id": 2 * k + j, "raw": f"thing {k} {j}"} for j in range(2)]}
        for k in range(2)
    ]  # fmt: skip
    (folder / "refs(umd).p").write_bytes(pickle.dumps(refs, protocol=2))
    samples = ReferringPhrases(read_refcoco(folder, "train", sentences="all"), 20)
    said = {text for k in range(20) for text in samples[k]["texts"]}
    assert said == {"thing 0 0", "thing 0 1", "thing 1 0", "thing 1 1"}
    assert all(len(samples[k]["texts"]) == 2 for k in range(20))
    arguments = ["train", "openworldsam-refcocog", "--data", str(folder), "--init", str(start),
                 "--samples", "2", "--batch-size", "2", "--device", "cpu"]  # fmt: skip
    done = RUN.invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_without_a_start_the_command_says_what_it_needs(tmp_path: Path) -> None:
    truth = write_panoptic(tmp_path / "coco")
    done = RUN.invoke(
        app, ["train", "openworldsam", "--data", str(truth), "--init", "x", "--out", str(tmp_path)]
    )
    assert done.exit_code != 0
    assert "needs --init" in str(done.exception)
    done = RUN.invoke(app, ["train", "openworldsam-scenes", "--init", "x", "--out", str(tmp_path)])
    assert "sam2/" in str(done.exception)


def test_the_adapter_goes_on_from_a_trained_one() -> None:
    folder = bundled_folder("openworldsam-scenes")
    recipe = openworldsam_scenes(folder, scenes=2, batch_size=1)
    assert recipe.lr == 5e-3
    start, trained = recipe.model(), OpenWorldSAMModel.from_pretrained(folder)
    assert start.config.presence_threshold == trained.config.presence_threshold
    for name, weight in trained.state_dict().items():
        assert torch.equal(start.state_dict()[name], weight), name


def test_pictures_can_be_left_out(tmp_path: Path) -> None:
    truth = write_panoptic(tmp_path / "coco")
    recipe = openworldsam_coco(
        truth, truth.parent / "images", tiny.model, None, without={1}, steps=1, batch_size=1
    )
    assert len(recipe.data().source) == 0  # type: ignore[attr-defined]
