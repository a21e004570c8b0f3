"""A small CLIP of the scenes world: the frozen eye and ear of ``ovsnet-scenes``."""

from __future__ import annotations

from pathlib import Path

from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.palette import COLORS, PATTERNS
from anymask.nn.clip_convnext import ClipConvNext, ClipConvNextConfig
from anymask.nn.text_tokens import train_tokenizer
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_descriptions import (
    TEMPLATES,
    WORDS,
    DescriptionCollate,
    SceneDescriptions,
)

SIZE = 384  # so that a thing covers a few of the last map's cells


def clip_scenes(
    scenes: int = 24_000,
    batch_size: int = 16,
    seed: int = 0,
    size: int = SIZE,
    init: Path | None = None,
) -> Recipe:
    """The recipe.

    Args:
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        init: folder of an earlier run whose weights this one starts from.
    """
    config = ClipConvNextConfig.small()
    return on_scenes(
        "clip-scenes",
        lambda: ClipConvNext(config) if init is None else ClipConvNext.from_pretrained(init),
        lambda: SceneDescriptions(scenes, size, 700 + seed, batch_size),
        DescriptionCollate(config, scenes_tokenizer(config)),
        scenes,
        batch_size,
        seed,
        lr=4e-3,
    )


def scenes_tokenizer(config: ClipConvNextConfig):  # type: ignore[no-untyped-def]
    """The tokenizer that learnt from everything that is said of scenes; the same every time."""
    nouns = [word for words in WORDS.values() for word in words]
    nouns += [thing.plural for thing in THINGS] + [thing.kind for thing in THINGS]
    adjectives = [*COLORS, *PATTERNS]
    texts = [template.replace("{}", noun) for template in TEMPLATES for noun in nouns]
    texts += [f"{adjective} {noun}" for adjective in adjectives for noun in nouns]
    return train_tokenizer(texts, config.vocab_size, config.context)
