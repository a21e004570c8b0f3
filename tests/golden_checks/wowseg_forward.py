"""The packed forward of the official WOW-Seg: visual tokens, logits and loss under every mask."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.methods.wowseg.cascade_attention_mask import (
    SegmentIds,
    cascade_attention_mask,
    parse_segments,
    tags_of,
)
from anymask.methods.wowseg.convert import internvl_of
from anymask.methods.wowseg.packed import (
    embeddings,
    name_loss,
    packed_logits,
    region_tokens,
    visual_tokens,
)
from golden_checks.compare import Row, below, close, equal, names, tensors
from golden_checks.wowseg_cam import VARIANTS

VISUAL, LOGITS, LOSS = 2e-5, 1e-4, 1e-5


def matches(folder: Path) -> bool:
    return (
        any("mlp1.0.weight" in f for f in tensors(folder).values())
        and (folder / "config.json").is_file()
    )


def build(state: dict[str, Tensor], settings: dict[str, Any]) -> Any:
    return internvl_of(
        state,
        vision_heads=settings["vision"]["num_attention_heads"],
        text_heads=settings["llm"]["num_attention_heads"],
        image_token_id=settings["ids"]["img_context"],
        rms_norm_eps=settings["llm"]["rms_norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": settings["llm"]["rope_theta"]},
    )


def allowed_of(ids: Tensor, known: SegmentIds) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {name: [] for name in VARIANTS}
    for row in ids:
        region, output = tags_of(parse_segments(row.tolist(), known), len(row))
        keep = (row != known.pad)[None]
        for name, (r, o) in VARIANTS.items():
            mask = cascade_attention_mask(
                region[None], output[None], keep, region_rule=r, output_rule=o
            )
            found[name].append(mask[0])
    return {name: torch.stack(masks) for name, masks in found.items()}


@torch.inference_mode()
def check_file(name: str, model: Any, data: dict[str, Tensor], known: SegmentIds) -> list[Row]:
    given = below(data, "input.")
    ids = given["input_ids"]
    tokens = visual_tokens(model, given["pixel_values"])
    rows: list[Row] = []
    if "output.visual_tokens" in data:
        want = data["output.visual_tokens"]
        rows.append(close(f"{name}.visual_tokens", tokens, want, VISUAL))
        seen = model.model.vision_tower(given["pixel_values"][:1]).last_hidden_state[0]
        want = data["output.vit_last_hidden_state_tile0"]
        rows.append(close(f"{name}.vit", seen, want, VISUAL))
    visual = region_tokens(
        tokens, given["mask_region_idx"].bool(), given["pixel_masks"].flatten(0, 1).bool()
    )
    embeds = embeddings(model, ids, visual)
    keep = ids != known.pad
    for variant, mask in allowed_of(ids, known).items():
        if f"output.logits_{variant}" not in data:
            continue
        if f"input.allowed_{variant}" in data:
            want = data[f"input.allowed_{variant}"]
            rows.append(equal(f"{name}.allowed_{variant}", mask.byte(), want))
        else:
            want = data[f"input.allowed_row_counts_{variant}"]
            rows.append(equal(f"{name}.allowed_{variant}", mask[:, 0].sum(-1).int(), want))
        logits = packed_logits(model, embeds, mask, given["position_ids"])
        want = data[f"output.logits_{variant}"]
        rows.append(close(f"{name}.logits_{variant}", logits[keep], want[keep], LOGITS))
        loss = name_loss(logits, given["labels"])[None]
        rows.append(close(f"{name}.loss_{variant}", loss, data[f"output.loss_{variant}"], LOSS))
    return rows + single(model, data, tokens, given)


def single(
    model: Any, data: dict[str, Tensor], tokens: Tensor, given: dict[str, Tensor]
) -> list[Row]:
    """One mask a call, causal: the official inference."""
    rows = []
    crops = given["mask_region_idx"].bool().nonzero()[:, 0]
    tile = int((~given["mask_region_idx"].bool()).nonzero()[0, 0])
    for number in names(data, r"single\.region(\d+)\."):
        k = int(number)
        ids = data[f"single.region{k}.input_ids"][None]
        pictures = tokens[[tile, int(crops[k])]]
        visual = region_tokens(
            pictures, torch.tensor([False, True]), given["pixel_masks"][k].bool()
        )
        causal = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()[None, None]
        places = torch.arange(ids.shape[1])[None]
        logits = packed_logits(model, embeddings(model, ids, visual), causal, places)
        want = data[f"single.region{k}.last_logits"]
        rows.append(close(f"single.region{k}.last_logits", logits[0, -1], want, LOGITS))
    return rows


def check(folder: Path) -> list[Row]:
    settings = json.loads((folder / "config.json").read_text())
    files = tensors(folder)
    state = next(f for f in files.values() if "mlp1.0.weight" in f)
    model = build(state, settings)
    ids = settings["ids"]
    known = SegmentIds(
        ids["img_start"],
        ids["img_end"],
        ids["prompt_delimiter"],
        ids["output_separator"],
        ids["pad_token"],
    )
    rows: list[Row] = []
    native = next((f for f in files.values() if "lm_head.weight" in f), None)
    if native is not None:
        mine = model.state_dict()
        rows += [equal(f"converted.{key}", mine[key], value) for key, value in native.items()]
    for name, data in files.items():
        if "input.input_ids" in data:
            rows += check_file(name, model, data, known)
    return rows
