"""OSM's Acc and NIV on all six vocabularies."""

from __future__ import annotations

import json
from pathlib import Path

from anymask.metrics.open_naming import OpenNames
from anymask.ops.word_forms import accepted
from anymask.vocabulary import Vocabulary
from golden_checks.compare import Row

WORDS = {
    "coco": "coco-panoptic",
    "ade20k": "ade20k-150",
    "cityscapes": "cityscapes",
    "lvis": "lvis",
    "a847": "ade20k-847",
    "pc459": "pc-459",
}


def matches(folder: Path) -> bool:
    path = folder / "data.json"
    return path.is_file() and {"datasets", "augmentation"} <= set(json.loads(path.read_text()))


def check(folder: Path) -> list[Row]:
    data = json.loads((folder / "data.json").read_text())
    rows: list[Row] = []
    for number, case in enumerate(data["augmentation"]):
        wrong = accepted(case["input"]) != frozenset(case["output_set"])
        rows.append((f"augmentation {number}", float(wrong), 0.0))
    for name, one in data["datasets"].items():
        vocabulary = Vocabulary.builtin(WORDS[name])
        judge = OpenNames(vocabulary)
        rows.append((f"{name}.classes", float(len(vocabulary) != one["num_classes"]), 0.0))
        for kind, want in one["result"].items():
            counted = [item for item in one["items"] if item["counted"]]
            found = [judge.judge(item[kind] or "", item["gt_id"]) for item in counted]
            for item, verdict in zip(counted, found, strict=True):
                wrong = (verdict.correct, verdict.not_in_vocabulary) != (
                    item[f"{kind}_correct"],
                    item[f"{kind}_niv"],
                )
                rows.append((f"{name}.{kind}.{item['index']}", float(wrong), 0.0))
            summary = judge.summary(
                [item[kind] or "" for item in counted], [item["gt_id"] for item in counted]
            )
            for ours, theirs in (("accuracy", "acc"), ("not_in_vocabulary", "niv")):
                rows.append((f"{name}.{kind}.{theirs}", abs(summary[ours] - want[theirs]), 1e-12))
    return rows
