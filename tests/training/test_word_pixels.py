"""Words for the cells of a segmenter's maps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from anymask.data.scenes import make_scene
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.training.recipe import train
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.recipes.word_pixels import LEVELS, SceneWords, WordPixels
from anymask.training.scene_phrases import NAMES, word_weights
from anymask.training.scene_windows import UNNAMED, WindowCollate, words_of_pixels

SIZE = 64


@pytest.fixture(scope="module")
def config() -> SegPromptConfig:
    return SegPromptConfig.pocket(num_queries=4, encoder_layers=1, decoder_layers=1)


def test_a_cell_has_the_word_of_most_of_its_pixels() -> None:
    sample = SceneWords(3, SIZE, seed=5)[1]
    pixels = words_of_pixels(make_scene(5, 1, SIZE, "val"))
    assert sample["pictures"].shape == (1, 3, SIZE, SIZE)
    for y in range(SIZE // 4):
        for x in range(SIZE // 4):
            inside = pixels[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].ravel()
            word = int(sample["words"][0, y, x])
            if word != UNNAMED:
                assert (inside == word).sum() > 8
            else:
                assert max((inside == k).sum() for k in set(inside) - {UNNAMED} or {0}) <= 8
    with pytest.raises(IndexError):
        SceneWords(3, SIZE, seed=5)[3]


def test_the_loss_is_that_of_every_map(config: SegPromptConfig) -> None:
    torch.manual_seed(0)
    model = WordPixels(config)
    mean, std = (torch.tensor(v) / 255 for v in (config.image_mean, config.image_std))
    batch = WindowCollate(mean, std)([SceneWords(2, SIZE, 5)[k] for k in range(2)])
    with torch.no_grad():
        found = model(**batch)
        finest, levels = model.segmenter.encode(batch["pixel_values"])
    assert len(levels) == LEVELS
    assert finest.shape[-2:] == batch["words"].shape[1:]
    expected = 0.0
    for head, maps in zip(model.words, (finest, *levels), strict=True):
        with torch.no_grad():
            answers = head(maps)
        logits = F.interpolate(answers, scale_factor=finest.shape[-1] / maps.shape[-1],
                               mode="bilinear")  # fmt: skip
        total = weight = 0.0
        for answer, word in zip(
            logits.permute(0, 2, 3, 1).flatten(0, 2), batch["words"].flatten(), strict=True
        ):
            if word != UNNAMED:
                total += float(word_weights()[word] * -answer.log_softmax(0)[word])
                weight += float(word_weights()[word])
        expected += total / weight
    assert float(found.loss) == pytest.approx(expected, rel=1e-5)


def test_only_what_decoders_look_at_learns(config: SegPromptConfig, tmp_path: Path) -> None:
    before = WordPixels(config).state_dict()
    mean, std = (torch.tensor(v) / 255 for v in (config.image_mean, config.image_std))
    folder = train(
        on_scenes(
            "words",
            lambda: WordPixels(config),
            lambda: SceneWords(8, SIZE, 5),
            WindowCollate(mean, std),
            8,
            2,
            seed=0,
            lr=2e-2,
        ),
        tmp_path,
        device="cpu",
    )
    after = WordPixels.from_pretrained(folder)
    assert len(after.words) == 1 + LEVELS
    assert after.words[0].weight.shape[0] == len(NAMES)
    torch.manual_seed(0)
    fresh = WordPixels(config).segmenter.state_dict()
    learned = after.segmenter.state_dict()
    assert before.keys() == after.state_dict().keys()
    for name, weight in learned.items():
        part = name.split(".")[0]
        same = torch.equal(weight, fresh[name])
        if part not in ("backbone", "pixel_decoder"):
            assert same, name
        elif name.endswith(".weight") and weight.ndim > 1:
            assert not same, name
