"""The small SegPrompt that takes examples: words first, then prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segprompt_tiny import picture, squares
from typer.testing import CliRunner

from anymask.checkpoints import model_folder
from anymask.cli.app import app
from anymask.errors import InputError
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningModel
from anymask.training.recipes.segprompt_scenes import segprompt_scenes, segprompt_words_scenes
from anymask.training.recipes.word_pixels import WordPixels

SHORT = ["--samples", "2", "--batch-size", "2", "--size", "64", "--device", "cpu"]


def test_words_then_prompts_then_examples(tmp_path: Path) -> None:
    words, prompts = tmp_path / "words", tmp_path / "prompts"
    for recipe, init, out in (
        ("segprompt-words-scenes", [], words),
        ("segprompt-scenes", ["--init", str(words)], prompts),
    ):
        done = CliRunner().invoke(app, ["train", recipe, *init, "--out", str(out), *SHORT])
        assert done.exit_code == 0, done.output
    bundled = SegPromptModel.from_pretrained(model_folder("segprompt-pocket")).state_dict()
    pocket = model_folder("segprompt-pocket")
    start = segprompt_words_scenes(pocket, 2, 2, 0, 64).model().segmenter.state_dict()
    assert all(torch.equal(start[name], value) for name, value in bundled.items())
    learned = WordPixels.from_pretrained(words).segmenter.state_dict()
    again = segprompt_scenes(words, 2, 2, 0, 64).model().segmenter.state_dict()
    assert all(torch.equal(again[name], value) for name, value in learned.items())
    model = PromptLearningModel.from_pretrained(prompts)
    assert model.branches is not None
    assert model.branches.likeness is not None
    assert model.branches.class_content is None  # new classes have no embedding either
    finder = SegPromptFinder(model, "cpu")
    bank = finder.prompts([(picture(), squares((5, 5), labels=["mug"]))])
    assert set(finder.find(picture(1), bank, min_score=0.0).labels) == {"mug"}
    missing = CliRunner().invoke(app, ["train", "segprompt-scenes", "--out", str(tmp_path / "x")])
    assert isinstance(missing.exception, InputError)
    with pytest.raises(OSError, match="x"):
        segprompt_scenes(tmp_path / "x")
