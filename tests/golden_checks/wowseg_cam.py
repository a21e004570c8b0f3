"""The Cascade Attention Mask: segments, all four switches, and the released collator's batch."""

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
from golden_checks.compare import Row, below, equal, names, tensors

VARIANTS = {
    "both": (True, True),
    "region": (True, False),
    "output": (False, True),
    "none": (False, False),
}


def matches(folder: Path) -> bool:
    path = folder / "cases.json"
    return path.is_file() and "additive_rule" in json.loads(path.read_text())


def known(config: dict[str, int]) -> SegmentIds:
    return SegmentIds(
        config["img_start"],
        config["img_end"],
        config["prompt_delimiter"],
        config["output_separator"],
        config["pad_token"],
    )


def flat(places: Any) -> Tensor:
    return torch.tensor(places, dtype=torch.int64).flatten()


def masks(ids: Tensor, config: SegmentIds) -> dict[str, Tensor]:
    region, output = tags_of(parse_segments(ids.tolist(), config), len(ids))
    keep = (ids != config.pad)[None]
    return {
        name: cascade_attention_mask(
            region[None], output[None], keep, region_rule=r, output_rule=o
        )[0, 0].byte()
        for name, (r, o) in VARIANTS.items()
    }


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "cases.json").read_text())
    data = next(iter(tensors(folder).values()))
    rows: list[Row] = []
    for case in cases["cases"]:
        name = f"{case['case']} {case['name']}"
        config = known(cases["configs"][case["config"]])
        ids = data[f"{case['case']}.input_ids"]
        found = parse_segments(ids.tolist(), config)
        want = case["segments"]
        for ours, theirs in (
            (found.prefix, "prefix_prompt"),
            (found.image, "original_image"),
            (found.infix, "infix_prompt"),
        ):
            rows.append(equal(f"{name}.{theirs}", flat(ours), flat(want[theirs])))
        for ours, theirs in ((found.regions, "foreground_regions"), (found.outputs, "outputs")):
            lengths = torch.tensor([len(x) for x in ours])
            wanted = torch.tensor([len(x) for x in want[theirs]])
            rows.append(equal(f"{name}.{theirs}.lengths", lengths, wanted))
            both = [flat([p for part in x for p in part]) for x in (ours, want[theirs])]
            rows.append(equal(f"{name}.{theirs}", *both))
        for variant, mask in masks(ids, config).items():
            rows.append(equal(f"{name}.{variant}", mask, data[f"{case['case']}.mask_{variant}"]))
            count = torch.tensor([int(mask.sum())])
            wanted = torch.tensor([case["allowed_entries"][variant]])
            rows.append(equal(f"{name}.{variant}.count", count, wanted))
    rows += collator(data, known(cases["configs"][cases["collator"]["config"]]))
    return rows


def collator(data: dict[str, Tensor], config: SegmentIds) -> list[Row]:
    parts = [below(data, f"collate.in{k}.") for k in names(data, r"collate\.in(\d+)\.")]
    want = below(data, "collate.out.")
    length = want["input_ids"].shape[1]
    ids = torch.full((len(parts), length), config.pad, dtype=torch.int64)
    for slot, part in zip(ids, parts, strict=True):
        slot[: len(part["input_ids"].flatten())] = part["input_ids"].flatten()
    stacked = torch.stack([masks(row, config)["both"] for row in ids])[:, None]
    allowed = want["attention_mask_allowed"]
    return [
        equal("collate.input_ids", ids, want["input_ids"]),
        equal("collate.attention_mask", stacked, allowed),
    ]
