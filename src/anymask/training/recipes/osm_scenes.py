"""``osm-scenes``: a small OSM of the scenes world.

Its eye (``internvl-vision-scenes``) has learnt a word for every patch, unseen things too, and its
language model (``osm-language-scenes``) to answer from what it is shown; both stay frozen. The
MaskQ-Former between them learns from masks of known things and of stuff, in three data sets that
call the same things by clashing names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import InstructBlipConfig, LlamaConfig

from anymask.methods.osm.collate import Collate
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.heads import HeadCollate, OSMHeads, OSMHeadsConfig
from anymask.methods.osm.model import OSMModel
from anymask.methods.osm.templates import Texts
from anymask.training.recipe import Recipe
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.recipes.scene_answers import (
    LENGTH,
    AnswerCollate,
    AnsweringModel,
    SceneAnswers,
    answer_texts,
)
from anymask.training.recipes.scene_masks import SETS, SceneMaskCollate, SceneMasks, names_of
from anymask.training.recipes.wowseg_scenes import PATCH, SIDE, small_config
from anymask.training.word_patches import WordPatches

QUERIES = 8
WIDTH = 96
CANVAS = 240  # 3 x 3 windows


def language_config() -> LlamaConfig:
    """0.4 M parameters."""
    texts = answer_texts()
    return LlamaConfig(
        vocab_size=len(texts.language),
        hidden_size=WIDTH,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        pad_token_id=texts.pad,
        eos_token_id=texts.end,
        bos_token_id=None,
    )


def small_osm(**changes: Any) -> OSMConfig:
    """2.7 M parameters, 240 pixels."""
    vision = small_config().vision_config
    base = InstructBlipConfig(
        vision_config={
            "hidden_size": vision.hidden_size, "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads, "image_size": SIDE,
            "patch_size": PATCH, "layer_norm_eps": vision.layer_norm_eps,
        },
        qformer_config={
            "vocab_size": len(answer_texts().qformer), "hidden_size": WIDTH,
            "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256,
            "encoder_hidden_size": vision.hidden_size, "cross_attention_frequency": 1,
            "max_position_embeddings": LENGTH, "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        },
        text_config=language_config().to_dict(),
        num_query_tokens=QUERIES,
    )  # fmt: skip
    settings = {"canvas": CANVAS, "stride": SIDE, "modes": [*SETS, "any"], **changes}
    return OSMConfig(base_config=base, **settings)


def osm_language_scenes(samples: int = 64_000, batch_size: int = 64, seed: int = 0) -> Recipe:
    """The language model alone.

    Args:
        samples: questions of the run.
        batch_size: questions a step.
        seed: of weights and questions.
    """
    config, texts = language_config(), answer_texts()
    return on_scenes(
        "osm-language-scenes",
        lambda: AnsweringModel(config),
        lambda: SceneAnswers(samples, QUERIES + 1, 1600 + seed, texts),
        AnswerCollate(texts),
        samples,
        batch_size,
        seed,
        lr=4e-3,
    )


def osm_scenes(
    parts: Path,
    scenes: int = 9_000,
    batch_size: int = 12,
    seed: int = 0,
    size: int = 256,
    sets: Sequence[str] = tuple(SETS),
    masks: int = 8,
    boxes: float = 0.0,
    agnostic: float = 0.5,
    heads: str = "",
    **changes: Any,
) -> Recipe:
    """OSM.

    Args:
        parts: folder with ``eye`` (a trained ``internvl-vision-scenes``) and ``language`` (a
            trained ``osm-language-scenes``), or of a trained OSM with both in it.
        scenes: length of the run.
        batch_size: scenes a step.
        seed: of weights and scenes.
        size: side of the scenes in pixels.
        sets: data sets to learn from (Table 1: one of them = "single").
        masks: of a scene.
        boxes: share of masks shown as boxes.
        agnostic: share of masks asked for with any words.
        heads: ``"learned"`` or ``"text"`` heads instead of the language model (Table 1).
        changes: of the configuration, for ablations.
    """
    config = small_osm(**changes)
    texts = answer_texts()
    collate: Any = Collate(config, texts, LENGTH)
    if heads:
        classes = {name: names_of(name) for name in sets}
        config = OSMHeadsConfig(**{**config.to_dict(), "classes": classes})
        collate = HeadCollate(collate, classes)
    return on_scenes(
        "osm-scenes",
        lambda: start(config, parts, texts if heads == "text" else None),
        lambda: SceneMasks(
            scenes, size, config.canvas, 1700 + seed, sets, masks, boxes, agnostic=agnostic
        ),
        SceneMaskCollate(collate),
        scenes,
        batch_size,
        seed,
        lr=1.5e-2,
        warmup=20,
    )


def start(config: OSMConfig, parts: Path, names: Texts | None = None) -> OSMModel:
    """An untrained MaskQ-Former between trained parts.

    Args:
        config: of an OSM, or of one with heads.
        parts: see :func:`osm_scenes`.
        names: a tokenizer for heads that start from their classes' names.
    """
    model = OSMHeads(config) if isinstance(config, OSMHeadsConfig) else OSMModel(config)
    if (parts / "config.json").is_file():
        whole = OSMModel.from_pretrained(parts)
        model.vision_model.load_state_dict(whole.vision_model.state_dict())
        model.language_model.load_state_dict(whole.language_model.state_dict())
    else:
        trained = WordPatches.from_pretrained(parts / "eye")
        last = {f"post_layernorm.{k}": v for k, v in trained.norm.state_dict().items()}
        model.vision_model.load_state_dict({**blip_vision(trained.vision.state_dict()), **last})
        read = AnsweringModel.from_pretrained(parts / "language")
        model.language_model.load_state_dict(read.state_dict())
    if names is not None and isinstance(model, OSMHeads):
        model.read_names(names.language)
    return model


def blip_vision(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """InternVL's vision weights by InstructBLIP's names: the same transformer, whose layer scales
    go into the layers before them and whose three projections of attention are one."""
    found = {
        "embeddings.class_embedding": state["embeddings.cls_token"],
        "embeddings.position_embedding": state["embeddings.position_embeddings"],
    }
    for end in ("weight", "bias"):
        found[f"embeddings.patch_embedding.{end}"] = state[
            f"embeddings.patch_embeddings.projection.{end}"
        ]
    layers = {int(name.split(".")[2]) for name in state if name.startswith("encoder.layer.")}
    for k in sorted(layers):
        old, new = f"encoder.layer.{k}.", f"encoder.layers.{k}."
        for end in ("weight", "bias"):
            found[f"{new}layer_norm1.{end}"] = state[f"{old}layernorm_before.{end}"]
            found[f"{new}layer_norm2.{end}"] = state[f"{old}layernorm_after.{end}"]
            parts = [state[f"{old}attention.{p}_proj.{end}"] for p in ("q", "k", "v")]
            found[f"{new}self_attn.qkv.{end}"] = torch.cat(parts)
            found[f"{new}mlp.fc1.{end}"] = state[f"{old}mlp.fc1.{end}"]
            for name, source, scale in (
                ("self_attn.projection", "attention.projection_layer", "lambda_1"),
                ("mlp.fc2", "mlp.fc2", "lambda_2"),
            ):
                weight, by = state[f"{old}{source}.{end}"], state[f"{old}{scale}"]
                found[f"{new}{name}.{end}"] = weight * (by[:, None] if end == "weight" else by)
    return found
