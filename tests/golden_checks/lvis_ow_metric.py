"""The official LVIS-OW evaluation on synthetic data."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from anymask.metrics.segmentation import Regions, class_agnostic, class_wise_recall
from anymask.ops.rle import from_coco_any

TOLERANCE = 1e-9


def matches(folder: Path) -> bool:
    return {"gt.json", "predictions.json", "expected.json", "groups.json"} <= {
        p.name for p in folder.iterdir()
    }


def pictures(folder: Path) -> dict[int, tuple[Regions, Regions]]:
    truth = json.loads((folder / "gt.json").read_text())
    sizes = {r["id"]: (r["height"], r["width"]) for r in truth["images"]}
    ours: dict[int, list[Any]] = defaultdict(list)
    theirs: dict[int, list[Any]] = defaultdict(list)
    for record in truth["annotations"]:
        ours[record["image_id"]].append(record)
    for record in json.loads((folder / "predictions.json").read_text()):
        theirs[record["image_id"]].append(record)

    def regions(records: list[Any], size: tuple[int, int], found: bool) -> Regions:
        rles = [from_coco_any(r["segmentation"], size) for r in records]
        if found:
            return Regions.of(rles, scores=[r["score"] for r in records])
        return Regions.of(
            rles,
            classes=[r["category_id"] for r in records],
            areas=[r["area"] for r in records],
        )

    return {
        i: (regions(ours[i], size, False), regions(theirs[i], size, True))
        for i, size in sizes.items()
    }


def check(folder: Path) -> list[tuple[str, float, float]]:
    expected = json.loads((folder / "expected.json").read_text())
    groups = {
        name: set(ids)
        for name, ids in json.loads((folder / "groups.json").read_text()).items()
        if name in ("known", "seen", "unseen")
    }
    data = pictures(folder)
    rows: list[tuple[str, float, float]] = []

    def compare(name: str, value: float, wanted: float) -> None:
        undefined = np.isnan(value) and wanted == -1
        rows.append((name, 0.0 if undefined else abs(value - wanted), TOLERANCE))

    for case, cap in (("class_wise_official_cap300", 300), ("class_wise_cap100", 100)):
        result = class_wise_recall(data, groups, max_dets=cap)
        wanted = expected[case]
        for official, ours in (
            ("AR@", "AR"),
            ("ARs@", "AR_small"),
            ("ARm@", "AR_medium"),
            ("ARl@", "AR_large"),
        ):
            # The official label carries the cap it was given, not the one it used.
            key = next(k for k in wanted["results"] if k.startswith(official))
            compare(f"{case}.{ours}", result[ours], wanted["results"][key])
            for group in groups:
                key = next(
                    (
                        k
                        for k in wanted["derived_groups"]
                        if k.startswith(official) and k.endswith(f"_{group}")
                    ),
                    None,
                )
                if key is not None:
                    compare(
                        f"{case}.{ours}_{group}",
                        result[f"{ours}_{group}"],
                        wanted["derived_groups"][key],
                    )
        for record in wanted["per_class"]:
            value = result["per_class"].get(str(record["id"]), float("nan"))
            official = next(v for k, v in record.items() if k.startswith("AR@"))
            compare(f"{case}.per_class.{record['name']}", value, official)

    merged = class_agnostic(data)
    names = {
        "AP": "AP",
        "AP50": "AP50",
        "AP75": "AP75",
        "APs": "AP_small",
        "APm": "AP_medium",
        "APl": "AP_large",
    }
    for key, wanted_value in expected["merged_class_cap100"]["results"].items():
        ours = names.get(key)
        if ours is None and key.startswith("AR"):
            size = {"AR@": "AR@100", "ARs": "AR_small", "ARm": "AR_medium", "ARl": "AR_large"}
            ours = size.get(key[:3])
        if ours is not None:
            compare(f"merged_class.{ours}", merged[ours], wanted_value)
    names = {
        "AP@[.50:.95]": "AP",
        "AP50": "AP50",
        "AP75": "AP75",
        "AP_small": "AP_small",
        "AP_medium": "AP_medium",
        "AP_large": "AP_large",
        "AR@1": "AR@1",
        "AR@10": "AR@10",
        "AR@100": "AR@100",
        "AR_small@100": "AR_small",
        "AR_medium@100": "AR_medium",
        "AR_large@100": "AR_large",
    }
    for key, wanted_value in expected["coco_class_agnostic"].items():
        compare(f"coco.{names[key]}", merged[names[key]], wanted_value)

    # The official tool misaligns class id 1: we must give the correct value, not the official one.
    quirk = expected["quirk_category_id_1"]
    source = int(quirk["renumbered_from"])
    for truth, _ in data.values():
        truth.classes[truth.classes == source] = 1
    renumbered = class_wise_recall(data, max_dets=300)
    compare(
        "class_id_1 (deviation: correct value)",
        renumbered["per_class"]["1"],
        quirk["correct_AR_of_that_class"],
    )
    return rows
