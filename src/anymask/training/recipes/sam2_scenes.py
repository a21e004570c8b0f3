"""A small SAM 2 of the scenes world: the frozen segmenter of ``openworldsam-scenes``."""

from __future__ import annotations

from anymask.methods.sam2.prompt_training import collate, fresh_model, small_config
from anymask.training.recipe import Recipe
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
    return Recipe(
        name="sam2-scenes",
        model=lambda: fresh_model(small_config()),
        data=lambda: ScenePrompts(scenes, size, 900 + seed),
        collate=collate,
        batch_size=batch_size,
        optimizer="muon",
        lr=3e-3,
        others_lr=1.5e-3,
        weight_decay=0.05,
        warmup=100,
        decay_share=0.7,
        clip=0.0,
        average=0.998,
        seed=seed,
    )
