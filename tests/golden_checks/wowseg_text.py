"""WOW-Seg's texts: names, answers and questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anymask.data.regions import normalise_category, osprey_record
from anymask.methods.wowseg.names import clean_answer, region_question
from anymask.ops.masks import binarised
from golden_checks.compare import Row

PAIRS: dict[str, Callable[[Any], str]] = {
    "category_normalisation": normalise_category,
    "answer_cleaning": clean_answer,
    "region_prompt": region_question,
}


def matches(folder: Path) -> bool:
    path = folder / "data.json"
    return path.is_file() and "category_normalisation" in json.loads(path.read_text())


def check(folder: Path) -> list[Row]:
    cases = json.loads((folder / "data.json").read_text())
    rows: list[Row] = [
        (f"{kind} {case['input']!r}", float(ours(case["input"]) != case["output"]), 0.0)
        for kind, ours in PAIRS.items()
        for case in cases[kind]
    ]
    for number, case in enumerate(cases["mask_binarisation"]):
        found = binarised(np.array(case["input"], case["dtype"]))
        wrong = np.abs(found - np.array(case["output"], np.float64)).max()
        rows.append((f"mask_binarisation {number}", float(wrong), 0.0))
    for number, case in enumerate(cases["osprey_conversion"]):
        ours = osprey_record(case["input"], "case", "val2017/", "released").to_json()
        for key, value in case["output"].items():
            rows.append((f"osprey_conversion {number} {key}", float(ours[key] != value), 0.0))
    return rows
