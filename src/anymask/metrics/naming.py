"""How near a free name is to the true one: semantic similarity and semantic IoU (WOW-Seg, 6).

Two scorers are in use and differ: ``"wowseg"`` (the released code) and ``"osprey"`` (its
predecessor's, which reads the answer behind a colon and keeps brackets in the truth).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anymask.errors import InputError

Scorer = Literal["wowseg", "osprey"]
Encode = Callable[[Sequence[str]], NDArray[Any]]

_BRACKETS = re.compile(r"_\(.*?\)")


def prepared(found: str, truth: str, scorer: Scorer = "wowseg") -> tuple[str, str]:
    """Prediction and truth as the scorer compares them.

    Args:
        found, truth: names.
        scorer: whose rules.

    Raises:
        InputError: an unknown scorer.
    """
    if scorer == "wowseg":
        if "_(" in truth and ")" in truth:
            truth = _BRACKETS.sub("", truth)
        return tuple(text.replace("_", " ").replace(":", " ") for text in (found, truth))  # type: ignore[return-value]
    if scorer == "osprey":
        answer = found.split(":", 1)[1] if ":" in found else found
        for mark in ".:,":
            answer = answer.replace(mark, " ")
        return answer, truth.replace("_", " ").replace(":", " ")
    raise InputError(f"scorer is {scorer!r}: use wowseg or osprey")


def semantic_iou(found: str, truth: str) -> float:
    """Shared words over all words, lower case, each word once; 0 for two empty names."""
    a, b = set(found.lower().split()), set(truth.lower().split())
    return len(a & b) / len(a | b) if a | b else 0.0


def naming_scores(
    found: Sequence[str], truth: Sequence[str], encode: Encode, scorer: Scorer = "wowseg"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Every name's semantic similarity (cosine, -1..1) and semantic IoU (0..1).

    Args:
        found, truth: N names each.
        encode: texts -> unit vectors, such as a
            :class:`~anymask.nn.sentence_encoder.SentenceEncoder`.
        scorer: whose rules.

    Raises:
        InputError: other numbers of names.
    """
    if len(found) != len(truth):
        raise InputError(f"{len(found)} names were found for {len(truth)} true ones")
    if not len(found):
        return np.zeros(0), np.zeros(0)
    pairs = [prepared(a, b, scorer) for a, b in zip(found, truth, strict=True)]
    first, second = (np.asarray(encode([p[k] for p in pairs]), np.float64) for k in (0, 1))
    overlap = np.array([semantic_iou(a, b) for a, b in pairs])
    return (first * second).sum(1), overlap


def naming_summary(
    similarity: NDArray[np.float64], overlap: NDArray[np.float64]
) -> dict[str, float]:
    """Means over instances: ``semantic_similarity``, ``semantic_iou`` and ``instances``."""
    if not len(similarity):
        return {"semantic_similarity": float("nan"), "semantic_iou": float("nan"), "instances": 0.0}
    return {
        "semantic_similarity": float(similarity.mean()),
        "semantic_iou": float(overlap.mean()),
        "instances": float(len(similarity)),
    }
