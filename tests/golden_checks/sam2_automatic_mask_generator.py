"""SAM 2's automatic mask generator: grids, crops, filters, suppression, specks, whole runs."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymask.image import Image
from anymask.methods.sam2.automatic import (
    AutomaticSettings,
    Box,
    Clicked,
    _boxes_of,
    _Kept,
    masks_of,
    records,
    without_specks,
)
from anymask.ops.point_grid import crop_boxes, cut_off, layer_grids, point_grid
from anymask.ops.rle import area, encode, from_coco_any, iou, run_lengths
from anymask.ops.small_regions import without_small_regions
from golden_checks.compare import Row, close, equal, names, tensors

FEW_PIXELS = 4  # an upscaled logit within 1e-5 of the threshold may fall either way


def matches(folder: Path) -> bool:
    path = folder / "cases.json"
    return path.is_file() and "layer_point_grids" in json.loads(path.read_text())


def numbers(values: Any) -> Tensor:
    return torch.tensor(np.asarray(values, np.float64))


def units(data: dict[str, Tensor], cases: dict[str, Any]) -> list[Row]:
    rows = []
    for case in cases["point_grids"]:
        name = f"point_grid.{case['n_per_side']}"
        grid = point_grid(case["n_per_side"])
        if "points" in case:
            rows.append(close(name, numbers(grid), numbers(case["points"]), 1e-12))
            continue
        ends = [*grid[: len(case["first"])].tolist(), grid[-1].tolist()]
        wanted = numbers([*case["first"], case["last"]])
        rows.append(close(name, numbers(ends), wanted, 1e-12))
        rows.append(
            equal(f"{name}.count", torch.tensor([len(grid)]), torch.tensor([case["count"]]))
        )
    for case in cases["layer_point_grids"]:
        args = case["n_per_side"], case["n_layers"], case["scale_per_layer"]
        counts = torch.tensor([len(g) for g in layer_grids(*args)])
        rows.append(equal(f"layer_grids.{args}", counts, torch.tensor(case["points_per_layer"])))
    for case in cases["crop_boxes"]:
        found = crop_boxes((case["height"], case["width"]), case["n_layers"], case["overlap_ratio"])
        name = f"crop_boxes.{case['height']}x{case['width']}.{case['n_layers']}"
        rows.append(equal(name, numbers([b for b, _ in found]), numbers(case["boxes_xyxy"])))
        rows.append(equal(name + ".layer", numbers([k for _, k in found]), numbers(case["layer"])))
    for k, case in enumerate(cases["near_crop_edge"]):
        width, height = case["image_wh"]
        near = cut_off([case["box_in_crop"]], tuple(case["crop_box"]), (height, width))
        rows.append(equal(f"near_crop_edge.{k}", torch.tensor(near), torch.tensor([case["near"]])))
    masks = data["unit.masks"].bool()
    boxes = torch.from_numpy(_boxes_of(masks)).long()
    rows.append(equal("unit.boxes", boxes, data["unit.boxes"]))
    logits = data["unit.logits"]
    for offset in names(data, r"unit\.stability\.offset(.+)"):
        inner = (logits > float(offset)).flatten(1).sum(1)
        outer = (logits > -float(offset)).flatten(1).sum(1)
        stability = (inner / outer).nan_to_num(-1.0)
        key = f"unit.stability.offset{offset}"
        rows.append(close(key, stability, data[key], 1e-6))
    for case in cases["unit_rle"]:
        rle = encode(masks[case["index"]].numpy())
        name = f"unit_rle.{case['index']}"
        rows.append(
            equal(name, torch.from_numpy(run_lengths(rle)), torch.tensor(case["rle"]["counts"]))
        )
        rows.append(
            equal(name + ".area", torch.from_numpy(area([rle])), torch.tensor([case["area"]]))
        )
    for case in cases["small_regions"]:
        name = f"small.mask{case['mask']}"
        mask = data[f"{name}.input"].bool().numpy()
        after, changed = without_small_regions(mask, case["area"], case["mode"])
        key = f"{name}.{case['mode']}.{case['area']}"
        rows.append(equal(key, torch.from_numpy(after).byte(), data[key]))
        rows.append(
            equal(key + ".changed", torch.tensor([changed]), torch.tensor([case["changed"]]))
        )
    return rows


def specks(data: dict[str, Tensor], case: dict[str, Any]) -> list[Row]:
    count = len(names(data, r"small\.mask(\d+)\.input"))
    rles = [encode(data[f"small.mask{k}.input"].bool().numpy()) for k in range(count)]
    given = _Kept(
        rles, [np.zeros(4)] * count, [0.0] * count, [float(k) for k in range(count)],
        [(0.0, 0.0)] * count, [(0, 0, 1, 1)] * count,
    )  # fmt: skip
    nms = case["nms_thresh"]
    settings = AutomaticSettings(
        min_mask_region_area=case["min_area"], box_nms_thresh=nms, crop_nms_thresh=nms
    )
    found = without_specks(given, settings)
    rows = [
        equal("postprocess.kept", numbers(found.stability), numbers(case["kept"])),
        equal("postprocess.boxes", numbers(np.stack(found.boxes)), numbers(case["boxes"])),
    ]
    for k, (ours, theirs) in enumerate(zip(found.rles, case["rles"], strict=True)):
        counts = torch.tensor(theirs["counts"])
        rows.append(equal(f"postprocess.rle{k}", torch.from_numpy(run_lengths(ours)), counts))
    return rows


class Recorded:
    """Answers clicks with the stored masks, in the order of the grid."""

    def __init__(self, data: dict[str, Tensor], name: str, crops: list[Box]) -> None:
        self.data, self.name, self.crops = data, name, crops

    def look(self, image: Image, crop: Box) -> None:
        self.key = f"{self.name}.crop{self.crops.index(crop)}"
        self.at = self.refined = 0

    def click(self, points: NDArray[np.float64], multimask: bool, min_iou: float) -> Clicked:
        rows = slice(self.at, self.at + len(points))
        self.at += len(points)
        logits, iou = (self.data[f"{self.key}.{n}"][rows] for n in ("low_res_logits", "iou"))
        if not multimask:
            logits, iou = logits[:, :1], iou[:, :1]
        which = torch.arange(len(points)).repeat_interleave(logits.shape[1])
        return Clicked(which, logits.flatten(0, 1), iou.flatten())

    def refine(self, points: NDArray[np.float64], logits: Tensor) -> tuple[Tensor, Tensor]:
        rows = slice(self.refined, self.refined + len(points))
        self.refined += len(points)
        return self.data[f"{self.key}.m2m_low_res_logits"][rows], self.data[f"{self.key}.m2m_iou"][
            rows
        ]


def runs(data: dict[str, Tensor], cases: dict[str, Any]) -> list[Row]:
    scene = cases["scene"]
    size = (scene["height"], scene["width"])
    image = Image(np.zeros((*size, 3), np.uint8))
    known = {f.name for f in fields(AutomaticSettings)}
    rows = []
    for case in cases["generate"]:
        options = {**scene["sets"][case["set"]], **case["settings"]}
        # The original's generate() never removes specks on a processor; ours does when asked.
        options.pop("min_mask_region_area", None)
        assert set(options) <= known, options
        settings = AutomaticSettings(**options, exact=True)
        crops = [
            b for b, _ in crop_boxes(size, settings.crop_n_layers, settings.crop_overlap_ratio)
        ]
        found = records(masks_of(image, Recorded(data, case["set"], crops), settings))
        name = f"{case['set']}.{case['run']}"
        theirs = case.get("records", [])  # where the original raises there is nothing
        rows.append(equal(f"{name}.count", torch.tensor([len(found)]), torch.tensor([len(theirs)])))
        if len(found) != len(theirs) or not theirs:
            continue
        for key, mine, tolerance in (
            ("bbox_xywh", "bbox", 0.0),
            ("crop_box_xywh", "crop_box", 0.0),
            ("point_coords", "point_coords", 1e-4),
            ("predicted_iou", "predicted_iou", 1e-6),
            ("stability_score", "stability_score", 1e-6),
        ):
            ours, wanted = (
                numbers([r[k] for r in who]) for r_, who, k in ((0, found, mine), (0, theirs, key))
            )
            rows.append(
                close(f"{name}.{key}", ours, wanted, tolerance)
                if tolerance
                else equal(f"{name}.{key}", ours, wanted)
            )
        masks = [from_coco_any(r["segmentation"], size) for r in theirs]
        worst = 0.0
        for ours, wanted in zip([r["segmentation"] for r in found], masks, strict=True):
            overlap = float(iou([ours], [wanted])[0, 0])
            total = float(area([ours])[0] + area([wanted])[0])
            worst = max(worst, total * (1 - overlap) / (1 + overlap))  # pixels that differ
        rows.append((f"{name}.masks, differing pixels", worst, float(FEW_PIXELS)))
    return rows


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "cases.json").read_text())
    data = next(f for f in tensors(folder).values() if "unit.logits" in f)
    return units(data, cases) + specks(data, cases["postprocess_small_regions"]) + runs(data, cases)
