"""Measuring free names of any tool: semantic similarity and semantic IoU (WOW-Seg, section 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.data.json_stream import read_json
from anymask.errors import DataError
from anymask.metrics.matching import AREA_RANGES
from anymask.metrics.naming import Encode, Scorer, naming_scores, naming_summary
from anymask.report import Report

SIZES = {size: AREA_RANGES[size] for size in ("small", "medium", "large")}
RARE, FREQUENT = 10, 100  # regions of a class: LVIS's borders for pictures


@dataclass(frozen=True)
class NamedPair:
    """One region.

    Attributes:
        found, truth: names.
        area: in pixels, or None.
        where: what to look at ("image id, position").
    """

    found: str
    truth: str
    area: float | None = None
    where: str = ""


def read_pairs(path: Path) -> list[NamedPair]:
    """Read results: a JSON file, or a folder of them.

    A file is a list of ``{"prediction", "truth"}`` (and perhaps ``"area"``), or of WOW-Seg's
    records of pictures with ``pred_labels`` and ``gt_labels`` (and perhaps ``areas``).

    Raises:
        DataError: a file cannot be read, or a record is of another kind; the message names it.
    """
    files = sorted([*path.glob("*.json"), *path.glob("*.json.gz")]) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no .json file")
    found: list[NamedPair] = []
    for file in files:
        rows = read_json(file)
        if not isinstance(rows, list):
            raise DataError(f"{file} is no list of records")
        for number, row in enumerate(rows):
            found += _pairs_of(file, number, row)
    return found


def _pairs_of(file: Path, number: int, row: Any) -> list[NamedPair]:
    try:
        if "prediction" in row:
            area = row.get("area")
            return [
                NamedPair(
                    _said(row["prediction"]),
                    str(row["truth"]),
                    None if area is None else float(area),
                    str(row.get("id", number)),
                )
            ]
        found, truth = row["pred_labels"], row["gt_labels"]
        areas: Sequence[Any] = row.get("areas") or [None] * len(truth)
        if not len(found) == len(truth) == len(areas):
            raise DataError(
                f"{file}: record {number} has {len(found)} names for {len(truth)} true ones"
            )
        return [
            NamedPair(_said(a), str(b), c, f"{row.get('id', number)}, {k}")
            for k, (a, b, c) in enumerate(zip(found, truth, areas, strict=True))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: record {number} has neither prediction and truth nor pred_labels and "
            f"gt_labels ({error!r})"
        ) from error


def _said(name: Any) -> str:
    """Null is no name, and not the word "None"."""
    return "" if name is None else str(name)


Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def scored(pairs: Sequence[NamedPair], encode: Encode, scorer: Scorer = "wowseg") -> Scores:
    """Semantic similarity and semantic IoU of every pair: (N,) each."""
    return naming_scores([p.found for p in pairs], [p.truth for p in pairs], encode, scorer)


def measure_naming(
    pairs: Sequence[NamedPair],
    scores: Scores,
    *,
    name: str = "predictions",
    scorer: Scorer = "wowseg",
    encoder: str = "",
    masks: str | None = None,
    about: Mapping[str, float] | None = None,
) -> Report:
    """Means over regions (micro, as released) and over classes, by size and by frequency.

    A region without a name counts as a wrong one; the released evaluation leaves regions whose mask
    is empty out, which is ``named``'s slice here.

    Args:
        pairs: names and truths.
        scores: of :func:`scored`.
        name: of what is measured.
        scorer: whose rules.
        encoder: where its weights came from, for the report.
        masks: which kind was named, for the report.
        about: further numbers for the report, such as the masks' own IoU.
    """
    similarity, overlap = scores
    counts = Counter(p.truth for p in pairs)
    rows: dict[str, list[int]] = {}
    for k, pair in enumerate(pairs):
        rows.setdefault(pair.truth, []).append(k)
    per_class = {truth: float(similarity[mine].mean()) for truth, mine in sorted(rows.items())}
    metrics: dict[str, Any] = naming_summary(similarity, overlap)
    metrics["class_mean_similarity"] = _mean(list(per_class.values()))
    metrics["class_mean_iou"] = _mean([float(overlap[mine].mean()) for mine in rows.values()])
    metrics["classes"] = float(len(rows))
    metrics["unnamed"] = float(sum(not p.found.strip() for p in pairs))
    metrics |= about or {}
    metrics["per_class"] = per_class
    slices: dict[str, dict[str, float]] = {}
    for group, chosen in groups(pairs, counts).items():
        if chosen.any():
            slices[group] = naming_summary(similarity[chosen], overlap[chosen])
    return Report(
        title=f"Naming: {name}",
        metrics=metrics,
        slices=slices,
        protocol={
            "protocol": "naming",
            "scorer": scorer,
            "means": "over regions; class_mean over classes",
            "encoder": encoder,
            **({} if masks is None else {"masks": masks}),
        },
    )


def groups(pairs: Sequence[NamedPair], counts: Counter[str]) -> dict[str, NDArray[np.bool_]]:
    """(N,) bool for each kind of region: by how often its class occurs and by its size."""
    number = np.array([counts[p.truth] for p in pairs])
    area = np.array([np.nan if p.area is None else p.area for p in pairs], float)
    named = np.array([bool(p.found.strip()) for p in pairs], bool)
    return {
        **({} if named.all() else {"named": named}),
        "rare": number <= RARE,
        "common": (number > RARE) & (number <= FREQUENT),
        "frequent": number > FREQUENT,
        **{size: (area >= low) & (area < high) for size, (low, high) in SIZES.items()},
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else float("nan")
