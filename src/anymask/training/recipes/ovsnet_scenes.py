"""The bundled checkpoint ``ovsnet-scenes``: OVSNet on a small frozen CLIP of the scenes world.

The CLIP has read every word; the segmenter is trained on known things and stuff only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoConfig

from anymask.methods.ovsnet.collate import Collate
from anymask.methods.ovsnet.configuration import OVSNetConfig
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.methods.ovsnet.text import TextEncoder
from anymask.nn.clip_convnext import ClipConvNext
from anymask.training.recipe import Recipe
from anymask.training.recipes.clip_scenes import SIZE, scenes_tokenizer
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_samples import KNOWN, STUFF_NAMES, SceneSamples
from anymask.vocabulary import Vocabulary

TRAINING_NAMES = (*KNOWN, *STUFF_NAMES)


def ovsnet_scenes(
    init: Path,
    scenes: int = 16_000,
    batch_size: int = 16,
    seed: int = 0,
    size: int = SIZE,
    lr: float = 2e-3,
    **changes: Any,
) -> Recipe:
    """The recipe.

    Args:
        init: folder of a trained ``clip-scenes``, or of an ``ovsnet-scenes`` to go on from.
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        lr: of Muon's matrices.
        changes: of the configuration, for ablations.
    """
    return on_scenes(
        "ovsnet-scenes",
        lambda: start(init, **changes),
        lambda: SceneSamples(scenes, size, 800 + seed, class_aware=True, stuff=True),
        Collate(OVSNetConfig.scenes()),
        scenes,
        batch_size,
        seed,
        lr=lr,
        warmup=50,
        decay_share=0.6,
    )


def start(init: Path, **changes: Any) -> OVSNetModel:
    """A model with a trained CLIP in it, or trained already, and the training words read."""
    again = AutoConfig.from_pretrained(init).model_type == OVSNetConfig.model_type
    whole = OVSNetModel.from_pretrained(init) if again else None
    trained = ClipConvNext.from_pretrained(init) if whole is None else whole.clip
    config = OVSNetConfig.scenes(
        **{
            "clip_config": trained.config,
            "training_words": tuple((name,) for name in TRAINING_NAMES),
            **changes,
        }
    )
    model = OVSNetModel(config)
    if whole is None:
        model.clip.load_state_dict(trained.state_dict())
    else:  # what the other has not, a learnt fusion or a teacher, starts untrained
        learnt = whole.state_dict()
        model.load_state_dict({n: learnt.get(n, own) for n, own in model.state_dict().items()})
    if model.teacher is not None:
        model.start_tuning()
    reader = TextEncoder(model.clip, scenes_tokenizer(config.clip), config.templates)
    vocabulary = Vocabulary.from_names(list(TRAINING_NAMES))
    model.training_words = reader.words(vocabulary, config.training_words)
    return model
