"""A small BEiT-3 of the scenes world: the frozen reader of ``openworldsam-scenes``.

It has read every word, of unseen things too; OpenWorldSAM's adapter is trained on known ones only.
"""

from __future__ import annotations

from pathlib import Path

from anymask.methods.openworldsam.grounding_training import Beit3Grounding, GroundingCollate
from anymask.nn.beit3 import Beit3Config
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_phrases import (
    CONTEXT,
    NAMES,
    VOCABULARY,
    ScenePhrases,
    phrase_tokenizer,
    word_weights,
)


def small_config() -> Beit3Config:
    """3.4 M parameters, 192 pixels."""
    return Beit3Config(
        hidden_size=160,
        num_hidden_layers=5,
        num_attention_heads=5,
        intermediate_size=640,
        vocab_size=VOCABULARY,
        image_size=192,
        patch_size=16,
        max_position_embeddings=CONTEXT + 2,
    )


def beit3_scenes(
    scenes: int = 60_000,
    batch_size: int = 64,
    seed: int = 0,
    size: int = 256,
    init: Path | None = None,
    phrases: int = 0,
) -> Recipe:
    """The recipe: first words on patches alone, which sees ten times as many scenes an hour, then
    phrases from those weights (``init``, ``phrases=5``, 16 scenes a step).

    Args:
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        init: folder of an earlier run whose weights this one starts from.
        phrases: a scene; 0 = single words only.
    """
    config = small_config()
    grid = config.image_size // config.patch_size
    return on_scenes(
        "beit3-scenes",
        lambda: Beit3Grounding(config) if init is None else Beit3Grounding.from_pretrained(init),
        lambda: ScenePhrases(scenes, size, 1000 + seed, phrases, grid=grid),
        GroundingCollate(config, phrase_tokenizer(), NAMES, word_weights()),
        scenes,
        batch_size,
        seed,
        lr=4e-3,
    )
