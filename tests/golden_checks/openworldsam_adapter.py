"""OpenWorldSAM from phrases to masks: every stage, both layouts, two stages, a training step, and
SAM 2's own prompts."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.methods.openworldsam.convert import openworldsam_of
from anymask.methods.openworldsam.model import OpenWorldSAMModel
from anymask.methods.openworldsam.results import (
    Answers,
    best_of_each,
    class_shares,
    instances,
    panoptic_map,
)
from anymask.nn.beit3 import beit3_part
from anymask.nn.sam2 import LARGEST_LOGIT
from anymask.nn.sam2_decoder import Masks, Sam2Features
from anymask.nn.sam2_keys import sam2_of, stages_of
from anymask.ops.mask_classification import Canvas, semantic_scores
from anymask.ops.rle import boxes, decode
from golden_checks import openworldsam_beit3
from golden_checks.compare import Row, below, close, divisors, equal, names, tensors

FEATURES, TOKENS, MASKS, IOU = 1e-5, 2e-5, 2e-3, 1e-5


def matches(folder: Path) -> bool:
    files = tensors(folder)
    return any("positional_tokens" in f for f in files.values()) and any(
        "all_pairs.queries_Q" in f for f in files.values()
    )


def trunks(state: dict[str, Tensor], side: int) -> Iterator[dict[str, Any]]:
    """What leaves no trace in the shapes of a small SAM 2, likely values first."""
    blocks, channels = stages_of(state)
    first = state["image_encoder.trunk.pos_embed_window"].shape[-1]
    start, stop = sum(blocks[:2]), sum(blocks[:3])
    middle = range(start, stop)
    choices = [c for n in (1, 2, 3, 0) for c in itertools.combinations(middle, n)]
    seconds = [max(1, first // 2)]
    thirds = [w for w in dict.fromkeys((first // 2, first, 2 * first, 14, 7)) if w]
    for heads, second, third in itertools.product(divisors(channels[0]), seconds, thirds):
        for chosen in choices:
            yield {
                "windows": [first, second, third, max(1, third // 2)],
                "global_blocks": list(chosen),
                "heads": heads,
                "image_size": side,
            }


def build(files: dict[str, dict[str, Tensor]], settings: dict[str, Any]) -> OpenWorldSAMModel:
    data = files["data"]
    adapter = next(f for f in files.values() if "positional_tokens" in f)
    sam_state = next(f for f in files.values() if "no_mem_embed" in f)
    reader_state = next(f for f in files.values() if "beit3.text_embed.weight" in f)
    pixels = data["input.image"]
    best: tuple[float, dict[str, Any]] | None = None
    for sizes in trunks(sam_state, pixels.shape[-1]):
        try:
            found = sam2_of(sam_state, **sizes).encode(pixels[:1]).coarse[0]
        except (RuntimeError, ZeroDivisionError):  # sizes that do not divide each other
            continue
        error = float((found.detach() - data["output.image_embed"]).abs().max())
        if best is None or error < best[0]:
            best = (error, sizes)
        if error < FEATURES:
            break
    assert best is not None
    run = next(iter(names(data, r"(\w+)\.beit_cls$")))
    keep = data[f"{run}.attention_mask"][0].bool()
    reader = openworldsam_beit3.build(
        reader_state,
        data["input.beit_image"][:1],
        data[f"{run}.input_ids"][:1, keep],
        data[f"{run}.beit_cls"][:1],
    )
    state = {
        **adapter,
        **{f"visual_model.{k}": v for k, v in sam_state.items()},
        **{f"mm_extractor.{k}": v for k, v in reader_state.items()},
    }
    assert beit3_part(state)
    return openworldsam_of(
        state,
        sam2=best[1],
        beit3={"num_heads": reader.config.num_attention_heads},
        dropout=0.0,
        score_threshold=settings["iou_threshold"],
        nms_iou=settings["nms_threshold"],
    )


@torch.no_grad()
def run(model: OpenWorldSAMModel, data: dict[str, Tensor], tag: str, picture: int) -> list[Row]:
    """One call of the official model, stage by stage."""
    want = below(data, f"{tag}.")
    pixels = data["input.beit_image"][picture : picture + 1]
    words = {"input_ids": want["input_ids"], "attention_mask": want["attention_mask"].bool()}
    flat = model.read(pixels, words, torch.zeros(len(want["input_ids"]), dtype=torch.int64))
    rows = [close(f"{tag}.beit_cls", flat, want["beit_cls"], TOKENS)]
    projected = model.adapter.projector(flat)
    rows.append(close(f"{tag}.projected", projected, want["projected"], TOKENS))
    features = model.look(data["input.image"][picture : picture + 1])
    queries = model.adapter.queries(flat[None])
    off = "soft_prompt_E" not in want
    if off:
        tokens = queries.flatten(1, 2)[:, :, None]
    else:
        memory = features.coarse.flatten(2).transpose(1, 2)
        refined = model.adapter.soft_prompting(queries, memory, False)
        rows.append(close(f"{tag}.Q", queries[0].flatten(0, 1), want["queries_Q"], TOKENS))
        rows.append(close(f"{tag}.E", refined[0].flatten(0, 1), want["soft_prompt_E"], TOKENS))
        tokens = model.tokens(features, flat[None])
    rows.append(close(f"{tag}.sparse_tokens", tokens[0], want["sparse_tokens"], 2 * TOKENS))
    found = model.segment(features, tokens)
    rows += compared(tag, found, want)
    four = model.segment(features, tokens, "all")
    rows.append(close(f"{tag}.all4_iou", four.iou, want["all4_iou"], IOU))
    inner = (four.logits[:, 0] > 0.05).flatten(1).sum(1)
    outer = (four.logits[:, 0] > -0.05).flatten(1).sum(1)
    stability = torch.where(outer > 0, inner / outer.clamp(min=1), torch.ones(()))
    name = f"{tag}.token0_stability"
    rows.append(close(name, stability, want["token0_stability"].flatten(), 1e-6))
    return rows


def compared(tag: str, found: Masks, want: dict[str, Tensor]) -> list[Row]:
    rows = [
        close(f"{tag}.low_res_masks", found.logits[:, 0], want["low_res_masks"], MASKS),
        close(f"{tag}.iou", found.iou, want["iou"], IOU),
    ]
    if "object_logits" in want:
        objects = found.object_logits[:, None]
        rows.append(close(f"{tag}.object_logits", objects, want["object_logits"], MASKS))
    return rows


def answers(
    data: dict[str, Tensor], tag: str, settings: dict[str, Any], queries: int
) -> Answers | None:
    """The stored queries of a run, with the categories of its phrases."""
    categories = settings["categories"].get(tag)
    if categories is None:
        return None
    if f"{tag}.refined_low_res_masks" in data:
        first = data[f"{tag}.kept_first_stage"]
        logits = data[f"{tag}.refined_low_res_masks"].flatten(0, -3)
        scores = data[f"{tag}.refined_iou"].flatten()
    else:
        logits, scores = data[f"{tag}.low_res_masks"], data[f"{tag}.iou"].flatten()
        first = torch.arange(len(scores))
    labels = torch.tensor(categories)[first // queries]
    return Answers(Canvas(logits, None, tuple(settings["original_size"])), scores, labels)


def post(data: dict[str, Tensor], tag: str, given: Answers, settings: dict[str, Any]) -> list[Row]:
    """The official results of one picture."""
    want = below(data, f"{tag}.post.")
    things, classes = settings["thing_ids"], settings["num_stuff_classes"]
    is_thing = [k in things for k in range(classes)]
    threshold, nms = settings["iou_threshold"], settings["nms_threshold"]
    full = F.interpolate(given.canvas.logits[None], given.canvas.size, mode="bilinear")[0]
    best = best_of_each(given.scores, given.labels)
    rows = [close(f"{tag}.grounding_scores", given.scores[best], want["grounding_scores"], IOU)]
    if "grounding_mask" in want:
        rows.append(close(f"{tag}.grounding_mask", full[best], want["grounding_mask"], MASKS))
    if "sem_seg" in want:
        table = class_shares(given.scores, given.labels, classes)
        scores = semantic_scores(given.canvas, table)
        rows.append(close(f"{tag}.sem_seg", scores, want["sem_seg"], 1e-5))
    countable = given[torch.isin(given.labels, torch.tensor(things))]
    found = instances(countable, threshold, nms, "box")
    rows.append(
        close(
            f"{tag}.instances.scores", countable.scores[found.rows], want["instances.scores"], IOU
        )
    )
    rows.append(
        equal(f"{tag}.instances.classes", countable.labels[found.rows], want["instances.classes"])
    )
    tight = torch.from_numpy(boxes(found.rles)).reshape(-1, 4)
    rows.append(equal(f"{tag}.instances.boxes", tight, want["instances.boxes"]))
    masks = torch.stack([torch.from_numpy(decode(r)) for r in found.rles]) if found.rles else None
    if masks is not None:
        rows.append(equal(f"{tag}.instances.masks", masks.byte(), want["instances.masks"]))
    ids, segments = panoptic_map(given, is_thing, threshold, nms)
    rows.append(equal(f"{tag}.panoptic_seg", torch.from_numpy(ids), want["panoptic_seg"]))
    listed = torch.tensor([[s.id, int(s.is_thing), s.category] for s in segments]).reshape(-1, 3)
    rows.append(equal(f"{tag}.panoptic_segments", listed, want["panoptic_segments"]))
    return rows


@torch.no_grad()
def two_stage(
    model: OpenWorldSAMModel, data: dict[str, Tensor], settings: dict[str, Any]
) -> list[Row]:
    want = below(data, "two_stage.")
    first = below(data, "all_pairs_3.")
    kept = (first["iou"].flatten() >= settings["iou_threshold"]).nonzero()[:, 0]
    rows = [equal("two_stage.kept_first_stage", kept, want["kept_first_stage"])]
    features = model.look(data["input.image"][:1])
    masks = first["low_res_masks"][kept][:, None]
    sam = model.sam
    dense = sam.dense(masks)
    rows.append(
        close("two_stage.dense_prompt", dense[0], want["dense_prompt_first"], FEATURES, 1e-4)
    )
    found = sam.ask(features, sam.no_points(1, len(kept))[0], masks)
    logits = found.logits[:, 0]
    rows.append(close("two_stage.masks", logits, want["refined_low_res_masks"], MASKS))
    rows.append(close("two_stage.refined_iou", found.iou, want["refined_iou"], IOU))
    return rows


def training(model: OpenWorldSAMModel, data: dict[str, Tensor]) -> list[Row]:
    """Losses, matches and gradients of one official training step."""
    prompts = [data[f"input.prompt_ids.p{k}"] for k in names(data, r"input\.prompt_ids\.p(\d+)")]
    pad = int(data["input.pad_token_id"])
    ids = torch.nn.utils.rnn.pad_sequence(prompts, batch_first=True, padding_value=pad)
    truth = [data[f"train.gt_masks{k}"].bool() for k in names(data, r"train\.gt_masks(\d+)")]
    queries = model.adapter.queries_per_phrase
    counts = [
        len(data[f"train.image{k}.iou"]) // queries for k in names(data, r"train\.image(\d+)\.")
    ]
    picture = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    model.train()
    model.zero_grad()
    words = {"input_ids": ids, "attention_mask": ids != pad}
    output = model(data["input.image"], data["input.beit_image"], words, picture, masks=truth)
    output.loss.backward()
    model.eval()
    rows = [close("train.loss_mask", output.loss[None], data["train.loss.loss_mask"], 1e-6, 1e-4)]
    for k, count in enumerate(counts):
        logits = output.mask_logits[k, :count].flatten(0, 1)
        want = below(data, f"train.image{k}.")
        rows.append(close(f"train.image{k}.masks", logits, want["low_res_masks"], MASKS))
        iou = output.iou[k, :count].flatten()[:, None]
        rows.append(close(f"train.image{k}.iou", iou, want["iou"], IOU))
    flat = [(k, p) for k, count in enumerate(counts) for p in range(count)]
    for number, (k, p) in enumerate(flat):
        cost = model.criterion.match(
            [output.mask_logits[k, p]], [output.iou[k, p]], [truth[number]]
        )
        want = below(data, f"train.prompt{number}.")
        rows.append(equal(f"train.prompt{number}.match_pred", cost[0][0], want["match_pred"]))
        rows.append(equal(f"train.prompt{number}.match_gt", cost[0][1], want["match_gt"]))
    rows += gradients(model, below(data, "train.grad."))
    return rows


def gradients(model: OpenWorldSAMModel, want: dict[str, Tensor]) -> list[Row]:
    from anymask.methods.openworldsam.convert import ADAPTER
    from anymask.nn.published import rename

    mine = {name: p.grad for name, p in model.adapter.named_parameters()}
    rows = []
    for name, theirs in rename(want, ADAPTER, (), "adapter").items():
        grad = mine[name]
        assert grad is not None
        # The stored float32 gradients themselves are up to 0.8e-3 of their tensor's largest value
        # away from ours in float64.
        atol = 1e-4 + 1e-3 * float(theirs.abs().max())
        rows.append(close(f"train.grad.{name}", grad, theirs, atol, 1e-3))
    return rows


@torch.no_grad()
def interactive(
    model: OpenWorldSAMModel, data: dict[str, Tensor], features: Sam2Features, size: tuple[int, int]
) -> list[Row]:
    """SAM 2's predictor: points, boxes, masks."""
    sam = model.sam
    rows = []
    for case in names(data, r"(\w+)\.multimask$"):
        want = below(data, f"{case}.")
        points, labels = [], []
        if "box_xyxy" in want:
            points.append(scaled(want["box_xyxy"].view(-1, 2, 2), size, sam.side))
            rows.append(close(f"{case}.box_model", points[-1], want["box_model"], 1e-4))
            labels.append(torch.tensor([[2, 3]]).expand(len(points[-1]), -1))
        if "points_xy" in want:
            points.append(scaled(want["points_xy"], size, sam.side))
            rows.append(close(f"{case}.points_model", points[-1], want["points_model"], 1e-4))
            labels.append(want["labels"])
        tokens = sam.point_tokens(torch.cat(points, 1)[None], torch.cat(labels, 1)[None])[0]
        rows.append(close(f"{case}.sparse", tokens, want["sparse_embeddings"], 2e-5))
        masks = want.get("mask_input")
        masks = None if masks is None else masks.view(-1, 1, *masks.shape[-2:])
        if masks is not None and "dense_embedding" in want:
            rows.append(
                close(f"{case}.dense", sam.dense(masks), want["dense_embedding"], 1e-5, 1e-4)
            )
        choice = "three" if int(want["multimask"]) else "best"
        found = sam.ask(features, tokens, masks, choice)
        low = found.logits.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        rows.append(close(f"{case}.low_res_clamped", low, want["low_res_clamped"], MASKS))
        rows.append(close(f"{case}.iou", found.iou, want["iou"], IOU))
        if "full_res_logits" in want:
            full = F.interpolate(found.logits, size, mode="bilinear", align_corners=False)
            rows.append(close(f"{case}.full_res", full, want["full_res_logits"], MASKS))
    return rows


def scaled(points: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Pixels of the picture -> of the model's square."""
    return points * torch.tensor([side / size[1], side / size[0]])


def check(folder: Path) -> list[Row]:
    files = tensors(folder)
    settings = json.loads((folder / "config.json").read_text())
    data = files["data"]
    model = build(files, settings)
    size = (int(settings["original_size"][0]), int(settings["original_size"][1]))
    with torch.no_grad():
        features = model.look(data["input.image"][:1])
        tokens = features.coarse[0].flatten(1).T
        position = model.sam2.get_image_wide_positional_embeddings()[0]
        dense = model.sam.dense()[0]
    rows = [
        close("image_embed", features.coarse[0], data["output.image_embed"], FEATURES),
        close("high_res_0", features.fine[0], data["output.high_res_0"], FEATURES),
        close("high_res_1", features.middle[0], data["output.high_res_1"], FEATURES),
        close("image_tokens", tokens, data["output.image_tokens"], FEATURES),
        close("image_pe", position, data["output.image_pe"], FEATURES),
        close("dense_prompt", dense, data["output.dense_prompt_item0"], FEATURES),
    ]
    for tag in names(data, r"(\w+)\.beit_cls$"):
        picture = re.search(r"image(\d+)$", tag)
        rows += run(model, data, tag, int(picture[1]) if picture else 0)
    with torch.no_grad():
        single = below(data, "single_layout.")
        found = model.segment(features, single["sparse_tokens"][None])
        rows += compared("single_layout", found, single)
        pairs = below(data, "all_pairs.")
        both = pairs["queries_Q"] + pairs["soft_prompt_E"]
        rows.append(close("single_layout.tokens", both[:, None], single["sparse_tokens"], TOKENS))
    queries = model.adapter.queries_per_phrase
    for tag in names(data, r"(\w+)\.post\."):
        given = answers(data, tag, settings, queries)
        if given is not None:
            rows += post(data, tag, given, settings)
    rows += two_stage(model, data, settings)
    rows += training(model, data)
    if "interactive" in files:
        rows += interactive(model, files["interactive"], features, size)
    return rows
