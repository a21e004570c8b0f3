"""The paper's run (OVSNet, section 5.1; what it leaves open after FC-CLIP, specification 5.1).

COCO panoptic (133 classes) or COCO-Stuff (171), batch 8, 60,000 iterations, crops of 1024 pixels,
AdamW 1e-4 with polynomial decay. It cannot be trained on a processor; its small-scale relative is
``ovsnet_scenes``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymask.data.dense import coco_stuff
from anymask.methods.ovsnet.collate import Collate
from anymask.methods.ovsnet.configuration import OVSNetConfig
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.methods.ovsnet.text import TextEncoder
from anymask.nn.open_clip_keys import config_of_open_clip, convert_open_clip
from anymask.nn.published import load_exactly, read_checkpoint
from anymask.nn.text_tokens import load_tokenizer
from anymask.training.dense_samples import DenseSamples, DenseSource, LabelSource, PanopticSource
from anymask.training.recipe import Recipe
from anymask.vocabulary import Vocabulary

BATCH = 8
STEPS = 60_000
SIZE = 1024


def ovsnet(
    data: Path,
    images: Path,
    clip: Path,
    *,
    steps: int = STEPS,
    batch_size: int = BATCH,
    size: int = SIZE,
    seed: int = 0,
    **changes: Any,
) -> Recipe:
    """The recipe.

    Args:
        data: ``panoptic_train2017.json`` (its PNGs in the folder beside it), or the folder of
            COCO-Stuff (``train2017`` and ``stuffthingmaps/train2017``) for 171 classes.
        images: folder of the pictures; COCO-Stuff's are below ``data``.
        clip: open_clip's weights file of a ConvNeXt CLIP; its tokenizer lies beside it.
        steps, batch_size, size, seed: of the run.
        changes: of the configuration (queries, aggregation, ...).
    """
    if data.is_dir():
        dense = coco_stuff(data, "train2017")
        vocabulary = dense.vocabulary
        source: DenseSource = LabelSource(dense)
    else:
        vocabulary = Vocabulary.builtin("coco-panoptic")
        rows = {number: k for k, number in enumerate(vocabulary.ids)}
        source = PanopticSource(data, images, rows)
    words = tuple(category.words for category in vocabulary.categories)
    state = read_checkpoint(clip)
    config = OVSNetConfig(
        **{"clip_config": config_of_open_clip(state), "training_words": words, **changes}
    )
    return recipe_of(
        config,
        lambda: start(config, state, clip.parent, vocabulary),
        source,
        steps=steps,
        batch_size=batch_size,
        size=size,
        seed=seed,
    )


def start(config: OVSNetConfig, state: Any, tokenizer: Path, vocabulary: Vocabulary) -> OVSNetModel:
    """A model with open_clip's weights and the training words read.

    Raises:
        CheckpointError: there is no tokenizer beside the CLIP.
    """
    reader = load_tokenizer(tokenizer, local_files_only=True)
    model = OVSNetModel(config)
    load_exactly(model.clip, convert_open_clip(state))
    if model.teacher is not None:
        model.start_tuning()
    encoder = TextEncoder(model.clip, reader, config.templates)
    model.training_words = encoder.words(vocabulary, config.training_words)
    return model


def recipe_of(
    config: OVSNetConfig,
    model: Any,
    source: DenseSource,
    *,
    steps: int,
    batch_size: int,
    size: int,
    seed: int,
) -> Recipe:
    """The optimiser and schedule of the paper around any model and data."""
    return Recipe(
        name="ovsnet",
        model=model,
        data=lambda: DenseSamples(source, steps * batch_size, size, seed),
        collate=Collate(config),
        batch_size=batch_size,
        optimizer="adamw",
        lr=1e-4,
        backbone_lr=0.1,
        weight_decay=0.05,
        warmup=0,
        decay="poly",
        clip=0.01,
        seed=seed,
    )
