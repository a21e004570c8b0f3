"""The complete FC-CLIP, from pixels and prompts to semantic, panoptic and instance results.

Heads, the ensemble's switch and the thresholds leave no trace in the tensors: heads are tried, the
rest is read from the folder's README where it says so.
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.methods.ovsnet.classification import Words
from anymask.methods.ovsnet.convert import config_of_fcclip, convert_fcclip
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.methods.ovsnet.text import average_templates
from anymask.nn.mask_pooling import mask_pool
from anymask.nn.picture_input import padded_batch
from anymask.nn.published import load_exactly
from anymask.ops.mask_classification import (
    Canvas,
    instances,
    panoptic,
    semantic,
    semantic_scores,
)
from golden_checks.compare import Row, below, close, divisors, equal, names, tensors

MAPS, DECODED, LOGITS = (1e-5, 1e-4), (5e-5, 1e-4), (2e-3, 0.0)


def matches(folder: Path) -> bool:
    files = tensors(folder).values()
    return (folder / "vocabulary.json").exists() and any(
        "input.text_tokens_test" in f for f in files
    )


def words_of(entries: list[str]) -> list[list[str]]:
    return [entry.replace(", ", ",").split(",") for entry in entries]


def build(state: dict[str, Tensor], data: dict[str, Tensor]) -> OVSNetModel:
    """The model, with the numbers of heads whose outputs are nearest."""
    width = len(state["backbone.clip_model.ln_final.weight"])
    dim = len(state["sem_seg_head.predictor.decoder_norm.weight"])
    samples = len(
        state[
            "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights.bias"
        ]
    )
    layer0 = data["output.layer1.query_embedding"]
    best: tuple[float, OVSNetModel] | None = None
    for text_heads, heads in itertools.product(divisors(width), divisors(dim)):
        if samples % (heads * 3) or (best is not None and best[0] < 1e-4):
            continue
        config = config_of_fcclip(state, text_heads=text_heads, num_heads=heads)
        model = OVSNetModel(config).eval()
        load_exactly(model, convert_fcclip(state))
        embeds = model.clip.embed_texts(data["input.text_tokens_test"])
        error = (embeds - data["output.text_embeddings_unnormalised"]).abs().max()
        queries = taps(model, data["output.preprocessed"])["layer1.query_embedding"]
        error = float(error + (queries - layer0).abs().max())
        if best is None or error < best[0]:
            best = (error, model)
    assert best is not None
    return best[1]


def taps(model: OVSNetModel, pixels: Tensor) -> dict[str, Tensor]:
    """Everything the fixture has of the model before the words, by the fixture's names."""
    found: dict[str, Tensor] = {}
    maps = model.clip.maps(pixels)
    hidden = model.clip.trunk(pixels, output_hidden_states=True).hidden_states
    found["backbone.stem"] = hidden[0]
    found |= {f"backbone.res{i + 2}": m for i, m in enumerate(maps)}
    found["backbone.clip_vis_dense"] = maps[-1]
    features, levels = model.pixel_decoder(maps)
    found["pixel_decoder.mask_features"] = features
    found |= {f"pixel_decoder.multi_scale.{i}": level for i, level in enumerate(levels)}
    content, position = model.queries(levels[-1])
    out = model.decoder(content, position, levels, features, inner_features=features)
    for i, (state, masks) in enumerate(zip(out.states, out.masks, strict=True)):
        found[f"layer{i}.mask_logits"] = masks
        found[f"layer{i}.pooled_mask_features"] = mask_pool(features, masks)
        found[f"layer{i}.query_embedding"] = model.embed_queries(state, features, masks)
    found["clip_pooled"] = mask_pool(maps[-1], out.masks[-1])
    found["clip_mask_embedding"] = model.clip.embed_pooled(found["clip_pooled"])
    return found


def settings_of(folder: Path) -> dict[str, Any]:
    readme = folder / "README.md"
    text = readme.read_text() if readme.exists() else ""

    def number(pattern: str, default: float) -> float:
        match = re.search(pattern + r"\s+([\d.]+\d)", text)
        return float(match[1]) if match else default

    valid = re.search(r"ensemble_on_valid_mask \**(True|False)", text)
    return {
        "alpha": number("alpha", 0.4),
        "beta": number("beta", 0.8),
        "ensemble_on_valid_mask": bool(valid and valid[1] == "True"),
        "object": number("object threshold", 0.0),
        "overlap": number("overlap threshold", 0.5),
        "top": int(number("top-k", 10)),
    }


@torch.inference_mode()
def check_file(folder: Path, data: dict[str, Tensor]) -> list[Row]:
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    settings = settings_of(folder)
    model = build(below(data, "state."), data)
    for name in ("alpha", "beta", "ensemble_on_valid_mask"):
        setattr(model.config, name, settings[name])
    theirs = below(data, "output.")
    rows: list[Row] = []

    # Pictures come in as RGB of their own size.
    images = [data[k] for k in sorted(k for k in data if re.fullmatch(r"input\.image\d+", k))]
    mean, std = (
        torch.tensor(v)[:, None, None]
        for v in (model.clip.config.image_mean, model.clip.config.image_std)
    )
    pixels = padded_batch([(image - mean) / std for image in images])
    rows.append(close("preprocessed", pixels, theirs["preprocessed"], *MAPS))

    found = taps(model, theirs["preprocessed"])
    for name, value in found.items():
        if name in theirs:
            rows.append(close(name, value, theirs[name], *(DECODED if "layer" in name else MAPS)))
    first = model.clip.embed_images((images[0] - mean)[None] / std)
    if "clip_image_embedding_image0" in theirs:
        rows.append(
            close(
                "clip_image_embedding_image0", first, theirs["clip_image_embedding_image0"], *MAPS
            )
        )

    # Words.
    embeds = model.clip.embed_texts(data["input.text_tokens_test"])
    rows.append(
        close("text_embeddings_unnormalised", embeds, theirs["text_embeddings_unnormalised"], *MAPS)
    )
    test, train = (words_of(vocabulary[f"{side}_vocabulary"]) for side in ("test", "train"))
    for side, listed in (("test", test), ("train", train)):
        tokens = data[f"input.text_tokens_{side}"]
        templates = len(tokens) // sum(map(len, listed))
        matrix = average_templates(model.clip.embed_texts(tokens), templates)
        rows.append(close(f"text_matrix_{side}", matrix, theirs[f"text_matrix_{side}"], *MAPS))
        if side == "test":
            void = torch.nn.functional.normalize(model.void.weight, dim=-1)
            both = torch.cat([matrix, void])
            rows.append(
                close("text_matrix_with_void", both, theirs["text_matrix_with_void"], *MAPS)
            )
            known = {word for words in train for word in words}
            seen = torch.tensor([not known.isdisjoint(words) for words in listed])
            rows.append(equal("seen_flags", seen.long(), theirs["seen_flags"]))
            words = Words(matrix, tuple(map(len, listed)), seen)

    # Classes.
    for name in names(theirs, r"(layer\d+)\.class_logits_q"):
        logits = model.query_logits(found[f"{name}.query_embedding"], words)
        rows.append(
            close(f"{name}.class_logits_q", logits, theirs[f"{name}.class_logits_q"], *LOGITS)
        )
    output = model(theirs["preprocessed"])
    by_clip = model.clip_logits(output.clip_embeds, words)
    rows.append(close("class_logits_c", by_clip, theirs["class_logits_c"], *LOGITS))
    final = model.classify(output, words)
    rows.append(close("final_log_probs", (final + 1e-8).log(), theirs["final_log_probs"], *LOGITS))

    # Results.
    things = [k in vocabulary["test_thing_classes"] for k in range(len(words))]
    sizes = data["input.output_size"].tolist()
    for b, (image, size) in enumerate(zip(images, sizes, strict=True)):
        own = below(theirs, f"image{b}.")
        canvas = Canvas(output.mask_logits[b], tuple(image.shape[-2:]), tuple(size))
        rows += [
            (f"image{b}.{name}", error, allowed)
            for name, error, allowed in check_results(canvas, final[b], things, own, settings)
        ]
    return rows


def check_results(
    canvas: Canvas,
    probabilities: Tensor,
    things: list[bool],
    theirs: dict[str, Tensor],
    settings: dict[str, Any],
) -> list[Row]:
    scores = semantic_scores(canvas, probabilities)[:, ::2, ::2]
    classes = torch.from_numpy(semantic(canvas, probabilities)[0])
    wrong = (classes != theirs["sem_seg_argmax"]).double().mean()
    ids, segments = panoptic(canvas, probabilities, things, settings["object"], settings["overlap"])
    listed = torch.tensor([[s.id, int(s.is_thing), s.category] for s in segments]).reshape(-1, 3)
    found = instances(canvas, probabilities, things, settings["top"])
    order = theirs["instance_scores"].argsort(descending=True, stable=True)
    order = order[theirs["instance_mask_areas"][order] > 0]
    rows = [
        close("sem_seg", scores, theirs["sem_seg"], *LOGITS),
        ("sem_seg_argmax, share that differs", float(wrong), 1e-3),
        equal("panoptic", torch.from_numpy(ids), theirs["panoptic"]),
        equal("panoptic_segments", listed, theirs["panoptic_segments"]),
        close(
            "instance_scores",
            torch.tensor([one.score for one in found]),
            theirs["instance_scores"][order],
            *LOGITS,
        ),
    ]
    if len(found) == len(order):
        labels = torch.tensor([one.category for one in found])
        rows.append(equal("instance_classes", labels, theirs["instance_classes"][order]))
    return rows


def check(folder: Path) -> list[Row]:
    return [row for data in tensors(folder).values() for row in check_file(folder, data)]
