"""Windows of scenes and the words of their patches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from anymask.data.scenes import make_scene
from anymask.training.recipe import train
from anymask.training.recipes.wowseg_scenes import internvl_scenes, internvl_vision_scenes
from anymask.training.scene_phrases import NAMES
from anymask.training.scene_windows import UNNAMED, SceneWindows, words_of_pixels


def test_words_of_pixels_are_what_is_in_front() -> None:
    scene = make_scene(3, 0, 128, "val")
    words = words_of_pixels(scene)
    for number, thing in enumerate(scene.objects):
        assert set(words[scene.mask(number)]) == {NAMES.index(thing.thing.name)}
    for name, mask in scene.stuff().items():
        assert set(words[mask]) == {NAMES.index(name)}


def test_patches_are_named_after_most_of_their_pixels() -> None:
    data = SceneWindows(4, 128, 3, windows=6, side=80, grid=10)
    for index in range(4):
        sample = data[index]
        scene = make_scene(3, index, 128, "val")
        there = {t.thing.name for t in scene.objects} | set(scene.stuff())
        assert sample["pictures"].shape == (6, 3, 80, 80)
        assert sample["words"].shape == (6, 10, 10)
        named = sample["words"][sample["words"] != UNNAMED]
        assert {NAMES[int(k)] for k in named.unique()} <= there
        assert len(named) > 0.7 * sample["words"].numel()


def test_the_tower_goes_over_into_the_whole_model(tmp_path: Path) -> None:
    recipe = internvl_vision_scenes(scenes=4, batch_size=2, size=64, windows=2)
    folder = train(replace(recipe, warmup=1), tmp_path / "vision", device="cpu")
    whole = internvl_scenes(scenes=2, batch_size=2, size=64, init=folder).model()
    from anymask.training.word_patches import WordPatches

    learnt = WordPatches.from_pretrained(folder).vision.state_dict()
    for name, weight in whole.model.vision_tower.state_dict().items():  # type: ignore[union-attr]
        torch.testing.assert_close(weight, learnt[name], atol=0, rtol=0)
