"""``internvl-scenes`` and ``wowseg-scenes``: a small InternVL of the scenes world, and the namer it
becomes.

Its vision transformer first learns a word for every patch; then the InternVL learns to name what
boxes of scenes show, unseen things too: a language model has read of everything. WOW-Seg's training
then shows it masks of known things and of stuff only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, InternVLConfig, InternVLForConditionalGeneration

from anymask.methods.wowseg.collate import Collate
from anymask.methods.wowseg.names import IMAGE
from anymask.methods.wowseg.prompt import CONTEXT
from anymask.methods.wowseg.training import WOWSegTraining
from anymask.nn.picture_input import IMAGENET_MEAN, IMAGENET_STD
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.scene_regions import SceneRegions, names_tokenizer
from anymask.training.scene_windows import SceneWindows, WindowCollate
from anymask.training.word_patches import WordPatches

SIDE, PATCH = 80, 8  # pixels of a tile and of a patch: 5 x 5 tokens a tile
ASKED: dict[str, Any] = {"question": f"{IMAGE} is", "system": "scenes", "most_tiles": 1}


def small_config() -> InternVLConfig:
    """2.5 M parameters."""
    tokenizer = names_tokenizer()
    return InternVLConfig(
        vision_config={
            "hidden_size": 160, "num_attention_heads": 5, "intermediate_size": 640,
            "num_hidden_layers": 6, "image_size": [SIDE, SIDE], "patch_size": [PATCH, PATCH],
            "attention_bias": True, "layer_scale_init_value": 1.0,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 128,
            "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 1, "max_position_embeddings": 4096,
            "tie_word_embeddings": False, "eos_token_id": None, "bos_token_id": None,
            "pad_token_id": None,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(CONTEXT),
        image_seq_length=(SIDE // PATCH // 2) ** 2,
        tie_word_embeddings=False,
        wowseg=ASKED,
    )  # fmt: skip


def internvl_vision_scenes(
    scenes: int = 16_000, batch_size: int = 32, seed: int = 0, size: int = 256, windows: int = 8
) -> Recipe:
    """The vision transformer alone: a word for every patch, of everything.

    Args:
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        windows: of a scene.
    """
    config = small_config().vision_config
    return on_scenes(
        "internvl-vision-scenes",
        lambda: WordPatches(config),
        lambda: SceneWindows(scenes, size, 1500 + seed, windows, SIDE, SIDE // PATCH),
        WindowCollate(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)),
        scenes,
        batch_size,
        seed,
        lr=4e-3,
    )


def internvl_scenes(
    scenes: int = 24_000,
    batch_size: int = 16,
    seed: int = 0,
    size: int = 256,
    init: Path | None = None,
) -> Recipe:
    """Pre-training: names of everything, from boxes.

    Args:
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        init: folder of a trained ``internvl-vision-scenes``, or of an earlier run of this recipe.
    """
    config = small_config()
    return on_scenes(
        "internvl-scenes",
        lambda: WOWSegTraining(config) if init is None else _started(config, init),
        lambda: SceneRegions(scenes, size, 1300 + seed, "val", "boxes"),
        Collate(config, names_tokenizer(), **ASKED),
        scenes,
        batch_size,
        seed,
        lr=4e-3,
    )


def wowseg_scenes(
    init: Path,
    scenes: int = 640,
    batch_size: int = 16,
    seed: int = 0,
    size: int = 256,
    masks: int = 30,
    **collate: Any,
) -> Recipe:
    """WOW-Seg: names of known things and stuff, from masks.

    A low rate and few steps: with 1e-3 and 100 steps known things are named better (41 % instead of
    32 %) and the names of all others are forgotten (0 % instead of 22 %).

    Args:
        init: folder of a trained ``internvl-scenes``.
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of the scenes.
        size: side of the scenes in pixels.
        masks: of a scene at most; 1 = "single mask" (Table 4).
        collate: settings of :class:`~anymask.methods.wowseg.collate.Collate`, for ablations.
    """
    config = InternVLConfig.from_pretrained(init)
    return on_scenes(
        "wowseg-scenes",
        lambda: _loaded(init),
        lambda: SceneRegions(scenes, size, 1400 + seed, "train", "masks", masks),
        Collate(config, names_tokenizer(), **{**ASKED, **collate}),
        scenes,
        batch_size,
        seed,
        lr=1e-4,
        warmup=5,
    )


def _started(config: InternVLConfig, folder: Path) -> WOWSegTraining:
    if AutoConfig.from_pretrained(folder).model_type == "internvl":
        return _loaded(folder)
    model = WOWSegTraining(config)
    trained = WordPatches.from_pretrained(folder)
    model.model.vision_tower.load_state_dict(trained.vision.state_dict())
    return model


def _loaded(folder: Path) -> WOWSegTraining:
    return WOWSegTraining.around(InternVLForConditionalGeneration.from_pretrained(folder))
