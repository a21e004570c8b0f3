"""The run behind ``segprompt-pocket``, on pictures of noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

from anymask.checkpoints import model_folder
from anymask.cli.app import app
from anymask.image import Image
from anymask.loading import load_discoverer
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningModel
from anymask.segments import Segments
from anymask.training.mixture import Phase
from anymask.training.recipes.segprompt_pocket import (
    FURTHER,
    WEIGHTS,
    classes_of,
    held_out_ids,
    segprompt_pocket,
    segprompt_pocket_examples,
)

SPLITS = {"coco": ("coco_split", "train2017", "val2017"), "bsds500": ("orig_split", "val", "test")}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven pictures a source; of COCO and BSDS500 the last is held out."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for source in WEIGHTS:
        images, annotations = [], []
        for k in range(11):
            name = f"{source}-{k:02}.png"
            PIL.Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(folder / name)
            record = {"id": k + 1, "file_name": name, "height": 48, "width": 64}
            if source in SPLITS:
                key, learnt, held = SPLITS[source]
                record[key] = held if k == 10 else learnt
            images.append(record)
            annotations.append(
                {"id": k + 1, "image_id": k + 1, "category_id": 1, "iscrowd": 0, "area": 600,
                 "bbox": [8, 8, 30, 20], "segmentation": [[8, 8, 38, 8, 38, 28, 8, 28]]}
            )  # fmt: skip
        file = {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "x"}],
        }
        (folder / f"{source}.json").write_text(json.dumps(file))
    return folder


def test_what_is_held_out_is_never_learnt(photos: Path) -> None:
    for source in WEIGHTS:
        learnt, held = held_out_ids(photos / f"{source}.json")
        assert not learnt & held
        assert len(learnt | held) == 11
        # every tenth of the sources without a split: the first and the eleventh
        assert held == ({11} if source in SPLITS else {1, 11})
    data = segprompt_pocket(photos, [Phase(30, 64)]).data()
    for source in data.sources:  # type: ignore[attr-defined]
        assert not source.image_ids & held_out_ids(source.annotations)[1]


def test_a_run_goes_on_from_a_trained_one(photos: Path, tmp_path: Path) -> None:
    command = ["train", "segprompt-pocket", "--data", str(photos), "--samples", "2", "--size", "64",
               "--batch-size", "2", "--device", "cpu"]  # fmt: skip
    first, second = tmp_path / "first", tmp_path / "second"
    done = CliRunner().invoke(app, [*command, "--out", str(first)])
    assert done.exit_code == 0, done.output
    again = segprompt_pocket(photos, init=first)
    assert (again.lr, again.decay_share) == (5e-3, 1.0)
    assert len(again.data()) == sum(phase.samples for phase in FURTHER)  # type: ignore[arg-type]
    start, saved = again.model().state_dict(), SegPromptModel.from_pretrained(first).state_dict()
    for name, weight in start.items():
        assert torch.equal(weight, saved[name]), name
    done = CliRunner().invoke(
        app, [*command, "--init", str(first), "--lr", "1e-3", "--out", str(second)]
    )
    assert done.exit_code == 0, done.output
    learnt = SegPromptModel.from_pretrained(second).state_dict()
    assert any(not torch.equal(weight, saved[name]) for name, weight in learnt.items())
    distance = max(float((learnt[n] - saved[n]).abs().max()) for n in saved)
    assert distance < 0.1  # a step, not a new start


def test_comparing_examples_changes_nothing_else(photos: Path, tmp_path: Path) -> None:
    rows = classes_of(photos)
    assert rows == {"coco": {1: 0}, "clothing": {1: 1}, "facade": {1: 2}, "camvid": {1: 3}}
    command = ["train", "segprompt-pocket-examples", "--data", str(photos), "--samples", "8",
               "--size", "64", "--batch-size", "4", "--device", "cpu"]  # fmt: skip
    plan = segprompt_pocket_examples(photos, model_folder("segprompt-pocket"), [Phase(40, 64)])
    assert {source.annotations.stem for source in plan.data().sources} == set(rows)  # type: ignore[attr-defined]
    assert {int(k) for i in range(40) for k in plan.data()[i]["labels"]} == {0, 1, 2, 3}
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "m")])
    assert done.exit_code == 0, done.output
    model = PromptLearningModel.from_pretrained(tmp_path / "m")
    assert model.config.class_sources == [0, 1, 2, 3]
    before = SegPromptModel.from_pretrained(model_folder("segprompt-pocket"))
    for name, value in before.state_dict().items():
        assert torch.equal(model.segmenter.state_dict()[name], value), name
    start = plan.model().branches.likeness.space.weight
    assert not torch.equal(model.branches.likeness.space.weight, start)
    image = Image(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    # One folder for both verbs: proposals, and things like an example.
    assert len(load_discoverer(tmp_path / "m", "cpu")(image, min_score=0.0))
    mask = np.zeros((1, 48, 64), bool)
    mask[0, 8:28, 8:38] = True
    finder = SegPromptFinder.from_pretrained(tmp_path / "m", "cpu")
    bank = finder.prompts([(image, Segments.from_masks(mask))])
    assert len(finder.find(image, bank, min_score=0.0))
