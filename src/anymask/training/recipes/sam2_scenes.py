"""A small SAM 2 of the scenes world: the frozen segmenter of ``openworldsam-scenes``."""

from __future__ import annotations

from anymask.methods.sam2.prompt_training import collate, fresh_model, small_config
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_prompts import ScenePrompts


def sam2_scenes(
    scenes: int = 10_000, batch_size: int = 8, seed: int = 0, size: int = 256
) -> Recipe:
    """The recipe.

    Args:
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels; the model's input is 256.
    """
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
