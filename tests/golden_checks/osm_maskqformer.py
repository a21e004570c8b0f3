"""OSM from windows to logits, losses, gradients and greedy names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import InstructBlipConfig

from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.convert import convert_osm, load_osm
from anymask.methods.osm.decoding import write
from anymask.methods.osm.model import OSMModel
from anymask.methods.osm.regions import context_masks, visible_tokens
from anymask.methods.osm.templates import labels_of
from anymask.methods.osm.windows import starts
from golden_checks.compare import Row, below, close, equal, names, tensors

FEATURES, LOGITS, LOSS, GRADIENT = 2e-5, 5e-5, 1e-5, 1e-5
PATCH, PAD, END = 14, 49, 2
HEADS = {"vision": 3, "qformer": 4, "text": 4}  # leave no trace in the shapes


def matches(folder: Path) -> bool:
    return any("input.segmentation_mask" in f and "state.mask_query" in f
               for f in tensors(folder).values())  # fmt: skip


def build(data: dict[str, Tensor]) -> OSMModel:
    state = below(data, "state.")
    ours = convert_osm(state)
    side = data["input.pixel_values"].shape[-1]
    window = round((ours["vision_model.embeddings.position_embedding"].shape[1] - 1) ** 0.5) * PATCH
    count = round((ours["window_pos_embed"].shape[1] - (side // PATCH) ** 2) ** 0.5)
    stride = max(
        s for s in range(PATCH, window + 1, PATCH) if len(starts(side, window, s)) == count
    )

    def layers(prefix: str) -> int:
        return 1 + max(
            int(key[len(prefix) :].split(".")[0]) for key in ours if key.startswith(prefix)
        )

    vision, qformer, text = (
        "vision_model.encoder.layers.",
        "qformer.encoder.layer.",
        ("language_model.model.layers."),
    )
    base = InstructBlipConfig(
        vision_config={
            "hidden_size": ours["vision_model.post_layernorm.weight"].shape[0],
            "intermediate_size": ours[vision + "0.mlp.fc1.bias"].shape[0],
            "num_hidden_layers": layers(vision), "num_attention_heads": HEADS["vision"],
            "image_size": window, "patch_size": PATCH, "layer_norm_eps": 1e-6,
        },
        qformer_config={
            "vocab_size": ours["qformer.embeddings.word_embeddings.weight"].shape[0],
            "hidden_size": ours["mask_query"].shape[-1],
            "num_hidden_layers": layers(qformer), "num_attention_heads": HEADS["qformer"],
            "intermediate_size": ours[qformer + "0.intermediate.dense.bias"].shape[0],
            "encoder_hidden_size": ours[qformer + "0.crossattention.attention.key.weight"].shape[1],
            "cross_attention_frequency": 2, "max_position_embeddings":
                ours["qformer.embeddings.position_embeddings.weight"].shape[0],
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        text_config={
            "model_type": "llama",
            "vocab_size": ours["language_model.lm_head.weight"].shape[0],
            "hidden_size": ours["language_projection.bias"].shape[0],
            "intermediate_size": ours[text + "0.mlp.up_proj.weight"].shape[0],
            "num_hidden_layers": layers(text), "num_attention_heads": HEADS["text"],
            "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
        },
        num_query_tokens=ours["query_tokens"].shape[1],
    )  # fmt: skip
    modes = sorted(key.split(".")[1] for key in ours if key.startswith("mode_query."))
    config = OSMConfig(
        base_config=base, canvas=side, stride=stride, modes=modes, loss_on="full_text"
    )
    return load_osm(OSMModel(config), state, whole=True)


def ratio_of(name: str) -> float:
    return -1.0 if name == "global" else float(name.removeprefix("ratio"))


def check_file(name: str, data: dict[str, Tensor]) -> list[Row]:
    model = build(data)
    given, want = below(data, "input."), below(data, "output.")
    masks = given["segmentation_mask"][:, 0].bool()
    pixels = given["pixel_values"]
    ids, keep = given["llm_input_ids"], given["llm_attention_mask"].bool()
    asked, asked_keep = given["qformer_input_ids"], given["qformer_attention_mask"].bool()
    rows: list[Row] = []
    with torch.no_grad():
        features = model.encode(pixels)
        seen = features - model.window_pos_embed
    rows.append(close(f"{name}.vit_features", seen, want["vit_features"], FEATURES))
    rows.append(close(f"{name}.image_embeds", features, want["image_embeds"], FEATURES))
    labels = labels_of(ids, PAD)
    rows.append(equal(f"{name}.labels", labels, want["labels"]))
    for ratio in names(want, r"context_mask\.(.+)"):
        found = context_masks(masks, ratio_of(ratio))[:, None].to(torch.uint8)
        rows.append(equal(f"{name}.context_mask.{ratio}", found, want[f"context_mask.{ratio}"]))
    for ratio in names(want, r"mask_keys\.(.+)"):
        around = context_masks(masks, ratio_of(ratio))
        for kind, shown in (("mask", masks), ("context", around)):
            found = visible_tokens(shown, PATCH, model.num_windows).to(torch.uint8)
            rows.append(equal(f"{name}.{kind}_keys.{ratio}", found, want[f"{kind}_keys.{ratio}"]))
    for key in names(want, r"qformer\.(.+)"):
        ratio, mode = key.rsplit(".", 1)
        model.config.context_ratio = ratio_of(ratio)
        with torch.no_grad():
            looked = model.look(features, masks, asked, asked_keep, mode)
            prompt = model.prompt(looked, mode)
            logits = model.read(prompt, ids, keep)
            loss = model(pixels, masks, ids, keep, asked, asked_keep, mode, labels).loss
        rows.append(close(f"{name}.qformer.{key}", looked, want[f"qformer.{key}"], FEATURES))
        if f"projected.{key}" in want:
            projected = prompt[:, : looked.shape[1]]
            rows.append(close(f"{name}.projected.{key}", projected, want[f"projected.{key}"],
                              FEATURES))  # fmt: skip
        rows.append(close(f"{name}.logits.{key}", logits, want[f"logits.{key}"], LOGITS, 1e-4))
        rows.append(close(f"{name}.loss.{key}", loss[None], want[f"loss.{key}"], LOSS))
    model.config.context_ratio = 0.5
    return rows + training(name, model, data, labels) + greedy(name, model, features, data)


def training(name: str, model: OSMModel, data: dict[str, Tensor], labels: Tensor) -> list[Row]:
    """Half of a batch with its data set's mode, half with any."""
    given = below(data, "input.")
    half = len(labels) // 2
    losses = []
    for part, mode in ((slice(0, half), "coco"), (slice(half, None), "any")):
        losses.append(
            model(
                given["pixel_values"][part], given["segmentation_mask"][part, 0].bool(),
                given["llm_input_ids"][part], given["llm_attention_mask"][part],
                given["qformer_input_ids"][part], given["qformer_attention_mask"][part], mode,
                labels[part],
            ).loss
        )  # fmt: skip
    loss = torch.stack(losses).mean()
    loss.backward()
    want = data["output.train_loss_coco_any_halves"]
    rows = [close(f"{name}.train_loss", loss.detach()[None], want, LOSS)]
    gradients = {
        key: value.grad for key, value in model.named_parameters() if value.grad is not None
    }
    for key, value in below(data, "grad.").items():
        ours = key.removeprefix("base_model.").replace("context_query", "query_tokens")
        rows.append(close(f"{name}.grad.{key}", gradients[ours], value, GRADIENT, 1e-3))
    return rows


def greedy(name: str, model: OSMModel, features: Tensor, data: dict[str, Tensor]) -> list[Row]:
    """Names of a few tokens, and the probabilities of all words on the way."""
    given = below(data, "input.")
    length = int(given["generate.prompt_len"])
    masks = given["segmentation_mask"][:, 0].bool()
    asked = given["qformer_input_ids"][:, :length]
    want = data["output.generate.sequences"]
    steps = data["output.generate.step_probabilities"]
    with torch.no_grad():
        looked = model.look(features, masks, asked, torch.ones_like(asked).bool(), "any")
        prompt = model.prompt(looked, "any")
    found: Any = write(
        model.language_model, prompt, given["llm_input_ids"][:, :length], END, steps.shape[1], True
    )
    rows = []
    ours = torch.zeros_like(steps)
    ours[:, : found.steps.shape[1]] = found.steps
    rows.append(close(f"{name}.generate.step_probabilities", ours, steps, LOGITS))
    for row, answer in enumerate(want.tolist()):
        # The old library put the first token in front, and turned 0 into it.
        official = [token for token in answer[1:] if token != -1]
        official = official[: official.index(END)] if END in official else official
        mine = [END if token == 0 else token for token in found.ids[row]]
        mine = mine[: mine.index(END)] if END in mine else mine
        rows.append((f"{name}.generate.sequences.{row}", float(mine != official), 0.0))
    return rows


def check(folder: Path) -> list[Row]:
    return [
        row
        for name, data in tensors(folder).items()
        if "input.segmentation_mask" in data
        for row in check_file(name, data)
    ]
