"""The official choice of examples and candidate classes: exact where it is not random."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from anymask.methods.segprompt.selection import Kind, choose_candidates, choose_examples
from anymask.vocabulary import Vocabulary
from golden_checks.compare import Row


def matches(folder: Path) -> bool:
    path = folder / "cases.json"
    return path.is_file() and "known_ids_1based" in json.loads(path.read_text())


def check(folder: Path) -> list[Row]:
    content = json.loads((folder / "cases.json").read_text())
    known = {number - 1 for number in content["known_ids_1based"]}
    rare = {number - 1 for number in Vocabulary.builtin("lvis").group("unseen").ids}
    rows = []
    for case in content["cases"]:
        # The released code reads the vocabulary from the data set's name.
        name = case["train_dataset"]
        others = set() if "only" in name else set(range(1203)) - known
        others -= rare if "rm_r" in name else set()
        for number, run in enumerate(case["runs"]):
            wrong = differences(case, run, known, others, seed=number)
            rows.append((f"{case['name']} run {number}", float(wrong), 0.0))
    return rows


def differences(
    case: dict[str, Any], run: dict[str, Any], known: set[int], others: set[int], seed: int
) -> float:
    """Facts about one official run that ours does not share."""
    if "error" in run:
        return 0.0
    labels, areas = case["labels_0based"], case["areas"]
    least, slots = case["min_mask_area"], case["K"]
    rng = np.random.default_rng(seed)
    examples = choose_examples(
        labels, areas, known=known, rng=rng, max_examples=case["max_examples"], min_area=least
    )
    negatives = [number - 1 for number in case["neg_category_ids_1based"]]
    loose = [number - 1 for number in case["not_exhaustive_category_ids_1based"]]
    # Which classes have mask truth depends on the examples in the released rule: take theirs.
    theirs_examples = [c for c, area in zip(run["example_labels"], run["example_areas"]) if area]
    found = choose_candidates(
        labels,
        areas,
        known=known,
        rng=rng,
        unlabelled=others,
        negatives=negatives,
        not_exhaustive=loose,
        max_classes=case["C_max"],
        min_area=least,
        mask_truth="all_present" if case["new_mask_idset"] else "examples_only",
        example_classes=set(theirs_examples),
    )
    ids = run["candidate_ids"][::slots]
    labels_of = run["candidate_labels"][::slots]
    outlined = run["has_mask_gt"][::slots]
    kinds = [
        Kind.ABSENT if label else Kind.OUTLINED if mask else Kind.PRESENT
        for label, mask in zip(labels_of, outlined)
    ]
    wrong = 0.0 if len(ids) == len(found.classes) else math.inf
    present = [c for c, kind in zip(ids, kinds) if kind != Kind.ABSENT]
    # Positives and what the data set calls absent come first, in this order; then chance begins.
    listed = [c for c in ids[len(present) :] if c in negatives]
    fixed = len(present) + len(listed)
    wrong += list(found.classes[: len(present)]) != present
    wrong += set(found.classes[len(present) : fixed]) != set(listed)
    wrong += list(found.kinds) != kinds
    taken = {*present, *negatives, *loose} if others else set(present)
    for drawn in (ids[fixed:], found.classes[fixed:]):
        wrong += len(set(drawn)) != len(drawn)
        wrong += bool(set(drawn) & taken)
        wrong += not set(drawn) <= known | others
    # Examples: as many, of as many different classes; the same classes where there is no choice.
    mine = Counter(labels[k] for k in examples)
    theirs = Counter(theirs_examples)
    wrong += len(examples) != len(theirs_examples)
    wrong += len(mine) != len(theirs)
    if len(examples) < case["max_examples"]:
        wrong += mine != theirs
        wrong += sorted(areas[k] for k in examples) != sorted(a for a in run["example_areas"] if a)
    wrong += any(areas[k] <= least or labels[k] not in known for k in examples)
    return wrong
