"""Mask2Token: tilings, windows and token selection, and the pictures that come of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymask.image import Image
from anymask.methods.wowseg.mask2token import crop_box, on_canvas, selector
from anymask.methods.wowseg.picture import prepare
from anymask.ops.rle import decode, from_coco_any
from anymask.ops.tile_grid import tile_grid
from golden_checks.compare import Row, below, close, equal, tensors


def matches(folder: Path) -> bool:
    path = folder / "data.json"
    return path.is_file() and {"box_cases", "tiling"} <= set(json.loads(path.read_text()))


def window(name: str, mask: np.ndarray, case: dict[str, Any], grid: int) -> list[Row]:
    box = crop_box(mask, case["scale"])
    if case.get("status") == "empty_on_canvas":
        return [equal(f"{name}.empty", torch.tensor([box is None]), torch.tensor([True]))]
    assert box is not None, name
    rows = [equal(f"{name}.box", torch.tensor(box), torch.tensor(case["crop_box_xyxy_exclusive"]))]
    chosen = np.flatnonzero(selector(mask, box, grid, "none"))
    wanted = torch.tensor(case["selected_tokens"], dtype=torch.int64)
    return [*rows, equal(f"{name}.tokens", torch.from_numpy(chosen), wanted)]


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "data.json").read_text())
    grid = int(cases["grid"])
    rows: list[Row] = []
    for case in cases["cases"]:
        rle = case["mask_rle"]
        mask = on_canvas(decode(from_coco_any(rle, tuple(rle["size"]))), tuple(case["canvas_wh"]))
        rows += window(f"case{case['index']} {case['kind']}", mask, case, grid)
    for case in cases["box_cases"]:
        width, height = case["canvas_wh"]
        mask = np.zeros((height, width), bool)
        (r0, r1), (c0, c1) = case["rows_inclusive"], case["cols_inclusive"]
        mask[r0 : r1 + 1, c0 : c1 + 1] = True
        rows += window(f"box{case['index']}", mask, case, grid)
    for case in cases["tiling"]:
        for key, want in case.items():
            if not key.startswith("max"):
                continue
            most = int(key[3:])
            for tile in (448, 28):
                found = tile_grid(case["width"], case["height"], most, tile)
                name = f"tiling {case['width']}x{case['height']} {key} tile {tile}"
                wanted = torch.tensor(want[f"cols_rows_tile{tile}"])
                rows.append(equal(name, torch.tensor(found), wanted))
    return rows + pictures(folder)


def pictures(folder: Path) -> list[Row]:
    """Canvas, tiles, crops and selectors of whole pictures."""
    if not (folder / "preprocess.json").is_file():
        return []
    samples = json.loads((folder / "preprocess.json").read_text())
    data = next(f for name, f in tensors(folder).items() if name == "preprocess")
    rows: list[Row] = []
    for sample in samples:
        given = below(data, f"sample{sample['sample']}.")
        image = Image(given["input.image"].numpy())
        masks = list(given["input.masks"].bool().numpy())
        found = prepare(
            image,
            masks,
            most_tiles=sample["max_num"],
            scale=sample["scale"],
            side=sample["tile"],
            thin="none",
        )
        name = f"sample{sample['sample']}"
        rows.append(
            equal(f"{name}.canvas", torch.tensor(found.canvas), torch.tensor(sample["canvas_wh"]))
        )
        rows.append(close(f"{name}.tiles", found.tiles, given["output.tiles"], 1e-5))
        # The official code keeps crops that no token survives of; ours says so and leaves them out.
        theirs = given["output.selectors"].bool().flatten(1).any(1)
        rows.append(
            close(f"{name}.crops", found.crops_of_masks, given["output.crops"][theirs], 1e-5)
        )
        wanted = given["output.selectors"][theirs]
        rows.append(equal(f"{name}.selectors", found.selectors.to(wanted.dtype), wanted.squeeze(1)))
        boxes = torch.tensor(found.boxes)
        rows.append(equal(f"{name}.boxes", boxes, given["output.crop_boxes"][theirs]))
        named = [sample["labels_in"][k] for k, s in enumerate(found.status) if s != "empty_mask"]
        same = torch.tensor([named == sample["labels_kept"]])
        rows.append(equal(f"{name}.labels", same, torch.tensor([True])))
    return rows
