"""A small SAM 2 that learns names beside clicks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import Sam2Model
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.scenes import make_scene
from anymask.data.scenes.palette import PATTERNS
from anymask.errors import InputError
from anymask.methods.sam2.name_training import NameCollate, Sam2NameTraining
from anymask.methods.sam2.prompt_training import fresh_model, small_config
from anymask.nn.picture_input import normalised
from anymask.nn.sam2 import Sam2
from anymask.training.recipes.sam2_scenes import FACTS, sam2_names_scenes, sam2_scenes
from anymask.training.scene_phrases import NAMES, word_weights
from anymask.training.scene_prompts import COLOR_NAMES, ScenePrompts, facts_of_cells
from anymask.training.scene_windows import UNNAMED


def test_facts_are_those_of_what_shows_most() -> None:
    named = 0
    for index in range(6):
        scene = make_scene(5, index, 128, "val")
        facts = facts_of_cells(scene, 8).numpy()
        assert facts.shape == (3, 8, 8)
        ground = scene.stuff()
        for y in range(8):
            for x in range(8):
                cell = np.s_[16 * y : 16 * y + 16, 16 * x : 16 * x + 16]
                things = [scene.mask(k)[cell].mean() for k in range(len(scene.objects))]
                stuff = {name: mask[cell].mean() for name, mask in ground.items()}
                most = int(np.argmax(things)) if things else -1
                told = max(2 * (things[most] if things else 0), *stuff.values(), 0)
                name, color, pattern = facts[:, y, x]
                if told <= 0.5:
                    assert (name, color, pattern) == (UNNAMED,) * 3
                elif things and 2 * things[most] > max([*stuff.values(), 0]):
                    thing = scene.objects[most]
                    same = [o for o, t in zip(scene.objects, things) if t == things[most]]
                    assert NAMES[name] in {o.thing.name for o in same}
                    if len(same) == 1:
                        assert COLOR_NAMES[color] == thing.color
                        assert PATTERNS[pattern] == thing.pattern
                        named += 1
                else:
                    assert NAMES[name] == max(stuff, key=lambda n: stuff[n])
                    assert color == pattern == UNNAMED
    assert named > 30
    assert not (facts_of_cells(make_scene(5, 0, 64, "val"), 4) == len(NAMES)).any()


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained SAM 2, saved as ``sam2-scenes`` leaves it."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clicks")
    fresh_model(small_config()).save_pretrained(folder)
    return folder


def test_the_loss_is_that_of_every_fact(clicks: Path) -> None:
    model = sam2_names_scenes(clicks, 2).model()
    data = ScenePrompts(2, 256, 1, 1, grid=16)
    batch = NameCollate(word_weights(), prompts=False)([data[k] for k in range(2)])
    assert "points" not in batch
    with torch.no_grad():
        output = model(**batch)
        coarse = Sam2(model).encode(normalised(batch["pixel_values"] / 255)).coarse
    expected = []
    for number, head in enumerate(model.facts):  # type: ignore[arg-type]
        with torch.no_grad():
            logits = head(coarse).permute(0, 2, 3, 1).flatten(0, 2)
        wanted = batch["facts"][:, number].flatten()
        told = wanted >= 0
        weight = word_weights()[wanted[told]] if number == 0 else torch.ones(int(told.sum()))
        entropy = F.cross_entropy(logits[told], wanted[told], reduction="none")
        expected.append(float((entropy * weight).sum() / weight.sum()))
    for number, value in enumerate(expected):
        assert float(output.loss_parts[f"fact{number}"]) == pytest.approx(value, rel=1e-4)
    assert float(output.loss) == pytest.approx(sum(expected), rel=1e-4)
    with_clicks = NameCollate(word_weights(), prompts=True)([data[k] for k in range(2)])
    with torch.no_grad():
        more = model(**with_clicks)
    assert {"mask", "mask_corrected", "fact0", "right0"} <= set(more.loss_parts)
    assert float(more.loss) > float(output.loss)


def test_names_then_clicks_and_a_plain_sam2_in_the_end(clicks: Path, tmp_path: Path) -> None:
    start = Sam2Model.from_pretrained(clicks).state_dict()
    made = sam2_names_scenes(clicks, 2).model().state_dict()
    assert all(torch.equal(made[name], value) for name, value in start.items())
    short = ["--samples", "2", "--batch-size", "1", "--device", "cpu"]
    names, both = tmp_path / "names", tmp_path / "both"
    for recipe, init, out in (("sam2-names-scenes", clicks, names), ("sam2-scenes", names, both)):
        done = CliRunner().invoke(
            app, ["train", recipe, "--init", str(init), "--out", str(out), *short]
        )
        assert done.exit_code == 0, done.output
    kept = Sam2NameTraining.from_pretrained(names).state_dict()
    again = sam2_scenes(2, init=names).model().state_dict()
    assert all(torch.equal(again[name], value) for name, value in kept.items())
    assert [head.out_channels for head in Sam2NameTraining.from_pretrained(both).facts] == list(
        FACTS
    )
    plain = Sam2Model.from_pretrained(both)
    assert not any(name.startswith("facts") for name in plain.state_dict())
    missing = CliRunner().invoke(app, ["train", "sam2-names-scenes", "--out", str(tmp_path / "x")])
    assert isinstance(missing.exception, InputError)
