"""WOW-Seg's texts: names, answers and questions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from anymask.methods.wowseg.names import clean_answer, normalise_category, region_question
from golden_checks.compare import Row

REST = "masks of other kinds, conversion of Osprey's files: part 6"
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
    return [
        (f"{kind} {case['input']!r}", float(ours(case["input"]) != case["output"]), 0.0)
        for kind, ours in PAIRS.items()
        for case in cases[kind]
    ]
