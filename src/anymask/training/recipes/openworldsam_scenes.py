"""``openworldsam-scenes``: an adapter between a small SAM 2 and a small
BEiT-3, both trained on the scenes world and frozen.

They have seen and read everything; the adapter is trained on phrases about known things only, some
of which mean nothing in their picture, so that it learns to say so.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymask.methods.openworldsam.collate import Collate
from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.methods.openworldsam.model import OpenWorldSAMModel
from anymask.nn.beit3 import Beit3Config, Beit3Model
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_phrases import ScenePhrases, phrase_tokenizer

LOSSES = {"dice_weight": 1.0, "presence_weight": 1.0}


def openworldsam_scenes(
    parts: Path,
    scenes: int = 12_000,
    batch_size: int = 8,
    seed: int = 0,
    size: int = 256,
    phrases: int = 5,
    **changes: Any,
) -> Recipe:
    """The recipe.

    Args:
        parts: folder with ``sam2`` (a trained ``sam2-scenes``) and ``beit3`` (a trained
            ``beit3-scenes``), or of a trained OpenWorldSAM to go on from.
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        phrases: of a scene at most.
        changes: of the configuration, for ablations.
    """
    again = (parts / "config.json").is_file()
    if again:
        config = OpenWorldSAMConfig.from_pretrained(parts, **{**LOSSES, **changes})
    else:
        config = scenes_config(parts / "sam2", parts / "beit3", **changes)
    return on_scenes(
        "openworldsam-scenes",
        lambda: (
            OpenWorldSAMModel.from_pretrained(parts, config=config)
            if again
            else start(config, parts / "sam2", parts / "beit3")
        ),
        lambda: ScenePhrases(scenes, size, 1100 + seed, phrases, split="train"),
        Collate(config, phrase_tokenizer()),
        scenes,
        batch_size,
        seed,
        lr=5e-3 if again else 1e-2,
        warmup=20,
        decay_share=1.0 if again else 0.7,
    )


def scenes_config(sam2: Path, beit3: Path, **changes: Any) -> OpenWorldSAMConfig:
    """Sizes of the two trained parts, and what differs from the paper at this scale."""
    from transformers import Sam2Config

    settings: dict[str, Any] = {
        "sam2_config": Sam2Config.from_pretrained(sam2),
        "reader_config": Beit3Config.from_pretrained(beit3),
        "num_tie_breakers": 10,
        "dropout": 0.0,
        **LOSSES,
        "presence_threshold": 0.12,
        "score_threshold": 0.05,
    }
    return OpenWorldSAMConfig(**{**settings, **changes})


def start(config: OpenWorldSAMConfig, sam2: Path, beit3: Path) -> OpenWorldSAMModel:
    """An untrained adapter between trained parts."""
    from transformers import Sam2Model

    model = OpenWorldSAMModel(config)
    model.sam2.load_state_dict(Sam2Model.from_pretrained(sam2).state_dict())
    reader: Any = model.reader
    reader.model.load_state_dict(Beit3Model.from_pretrained(beit3).state_dict())
    return model
