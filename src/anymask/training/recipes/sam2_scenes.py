"""A small SAM 2 of the scenes world: the frozen segmenter of ``openworldsam-scenes``."""

from __future__ import annotations

from pathlib import Path

from transformers import Sam2Config, Sam2Model

from anymask.data.scenes.palette import PATTERNS
from anymask.methods.sam2.name_training import NameCollate, Sam2NameTraining
from anymask.methods.sam2.prompt_training import collate, fresh_model, small_config
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_phrases import NAMES, word_weights
from anymask.training.scene_prompts import COLOR_NAMES, ScenePrompts

FACTS = (len(NAMES), len(COLOR_NAMES), len(PATTERNS))


def sam2_scenes(
    scenes: int = 10_000,
    batch_size: int = 8,
    seed: int = 0,
    size: int = 256,
    init: Path | None = None,
) -> Recipe:
    """Clicks and boxes; from a model that knows names (``init``), names as well.

    Args:
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels; the model's input is 256.
        init: folder of a trained ``sam2-names-scenes``; None = from nothing, clicks alone.
    """
    if init is not None:
        return _with_names("sam2-scenes", init, scenes, batch_size, seed, size, 4, 5e-3)
    return on_scenes(
        "sam2-scenes",
        lambda: fresh_model(small_config()),
        lambda: ScenePrompts(scenes, size, 900 + seed),
        collate,
        scenes,
        batch_size,
        seed,
        lr=3e-3,
    )


def sam2_names_scenes(
    init: Path, scenes: int = 24_000, batch_size: int = 16, seed: int = 0, size: int = 256
) -> Recipe:
    """Names, colours and patterns alone, which sees three times as many scenes an hour; other
    arguments as above.

    Args:
        init: folder of a trained ``sam2-scenes``.
    """
    return _with_names("sam2-names-scenes", init, scenes, batch_size, seed, size, 0, 1e-2)


def _with_names(
    name: str,
    init: Path,
    scenes: int,
    batch_size: int,
    seed: int,
    size: int,
    prompts: int,
    lr: float,
) -> Recipe:
    config = Sam2Config.from_pretrained(init)
    grid = config.prompt_encoder_config.image_size // config.prompt_encoder_config.patch_size

    def model() -> Sam2NameTraining:
        if hasattr(config, "fact_kinds"):
            return Sam2NameTraining.from_pretrained(init)  # type: ignore[no-any-return]
        made = Sam2NameTraining(config, FACTS)
        plain = Sam2Model.from_pretrained(init).state_dict()
        made.load_state_dict({**made.state_dict(), **plain})
        return made

    return on_scenes(
        name,
        model,
        lambda: ScenePrompts(scenes, size, 910 + seed, max(1, prompts), grid),
        NameCollate(word_weights(), prompts > 0),
        scenes,
        batch_size,
        seed,
        lr=lr,
    )
