"""OSM's canvas, context boxes, and panoptic maps of named masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from anymask.image import Image
from anymask.methods.osm.canvas import mask_canvas, picture_canvas, resized
from anymask.methods.osm.regions import context_masks
from anymask.ops.merging import merged
from anymask.ops.resize import long_side_size
from golden_checks.compare import Row, close, equal, names, tensors


def matches(folder: Path) -> bool:
    path = folder / "data.json"
    return path.is_file() and {"panoptic_merge", "context_boxes"} <= set(
        json.loads(path.read_text())
    )


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "data.json").read_text())
    data = next(iter(tensors(folder).values()))
    rows: list[Row] = []
    for case in cases["resize_rule"]:
        width, height = case["width"], case["height"]
        for side in (int(k[4:-3]) for k in case if k.startswith("size")):
            found = long_side_size(width, height, side)
            wrong = list(found) != case[f"size{side}_wh"]
            rows.append((f"resize {width}x{height} to {side}", float(wrong), 0.0))
    for number, case in enumerate(cases["context_boxes"]):
        mask = torch.zeros(1, case["canvas"], case["canvas"], dtype=torch.bool)
        (top, bottom), (left, right) = case["rows"], case["cols"]
        mask[0, top : bottom + 1, left : right + 1] = True
        found = context_masks(mask, case["ratio"])[0]
        bounds = [[int(x[0]), int(x[-1])] for x in (found.any(k).nonzero()[:, 0] for k in (1, 0))]
        wrong = bounds != [case["context_rows"], case["context_cols"]]
        rows.append((f"context box {number}", float(wrong), 0.0))
    side = cases["canvas"]
    for name in names(data, r"(image\d+)\.input"):
        image = Image(data[f"{name}.input"].numpy())
        for kind, ours in (("resized", resized), ("canvas", picture_canvas)):
            theirs = data[f"{name}.{kind}"]
            rows.append(close(f"{name}.{kind}", torch.from_numpy(ours(image, side)), theirs, 1.0))
        masks = mask_canvas(list(data[f"{name}.masks"].numpy() > 0), side)
        order = np.argsort(-masks.sum((1, 2)), kind="stable")
        theirs = data[f"{name}.masks_resized_sorted"]
        mine = torch.from_numpy(masks[order][:, : theirs.shape[1], : theirs.shape[2]])
        rows.append(equal(f"{name}.masks_resized_sorted", mine.to(torch.uint8), theirs))
    for case in cases["panoptic_merge"]:
        name = f"panoptic{case['case']}"
        masks = data[f"{name}.masks"].numpy() > 0
        found, kept = merged(list(masks), case["probabilities"], min_pixels=case["mask_min_size"])
        theirs = data[f"{name}.output"]
        rows.append(equal(f"{name}.output", torch.from_numpy(found).to(torch.uint8), theirs))
        wrong = [case["classes"][k] for k in kept] != case["final_classes"]
        rows.append((f"{name}.final_classes", float(wrong), 0.0))
    return rows
