"""SegPrompt on drawn scenes: a small model that takes examples.

Backbone and pixel decoder first learn a word for every pixel, of everything; then the whole learns
with prompts about known things. Without the first, prompts have nothing to tell classes apart by.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.recipes.word_pixels import SceneWords, WordPixels
from anymask.training.scene_samples import KNOWN, SceneSamples
from anymask.training.scene_windows import WindowCollate

PROMPTS: dict[str, Any] = {
    "prompt_classes": len(KNOWN),
    "queries_per_class": 4,
    "max_classes": 8,
    "max_examples": 5,
    "min_mask_area": 16,
    "use_class_embedding": False,  # it would spare the model to look at prompts
    # Of one number beside the masks of all queries, so that it counts.
    "likeness_weight": 30.0,
    "isolated_examples": True,
}


def segprompt_words_scenes(
    init: Path, scenes: int = 24_000, batch_size: int = 16, seed: int = 0, size: int = 128
) -> Recipe:
    """Backbone and pixel decoder of a trained segmenter learn words.

    Args:
        init: folder of the segmenter, such as the bundled pocket.
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of the scenes.
        size: side of the scenes in pixels.
    """
    start = SegPromptModel.from_pretrained(init)
    config = SegPromptConfig(**_settings(start.config, size))

    def model() -> WordPixels:
        made = WordPixels(config)
        made.segmenter.load_state_dict(start.state_dict())
        return made

    mean, std = (torch.tensor(v) / 255 for v in (config.image_mean, config.image_std))
    return on_scenes(
        "segprompt-words-scenes",
        model,
        lambda: SceneWords(scenes, size, 500 + seed),
        WindowCollate(mean, std),
        scenes,
        batch_size,
        seed,
        lr=1e-2,
    )


def segprompt_scenes(
    words: Path, scenes: int = 8_000, batch_size: int = 16, seed: int = 0, size: int = 128
) -> Recipe:
    """Prompt learning from what knows words; other arguments as above.

    Args:
        words: folder of a trained ``segprompt-words-scenes``.
    """
    learned = WordPixels.from_pretrained(words).segmenter
    config = PromptLearningConfig(**_settings(learned.config, size), **PROMPTS)

    def model() -> PromptLearningModel:
        made = PromptLearningModel(config)
        made.segmenter.load_state_dict(learned.state_dict())
        return made

    return on_scenes(
        "segprompt-scenes",
        model,
        lambda: SceneSamples(scenes, size, 600 + seed, class_aware=True),
        Collate(config),
        scenes,
        batch_size,
        seed,
        lr=5e-3,
    )


def _settings(config: SegPromptConfig, size: int) -> dict[str, Any]:
    """A model like this one for scenes: everything in them is labelled, and one view will do."""
    return {
        **config.settings(),
        "image_long_side": size,
        "views": (1.0,),
        "federated": False,
        "nms_iou": 0.7,
    }
