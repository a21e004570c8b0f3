"""Names of masks, whichever method gave them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from anymask.segments import Segments


@dataclass(frozen=True)
class Named:
    """The name of one mask.

    Attributes:
        row: which mask.
        name: cleaned; empty when the model said nothing.
        answer: as the model wrote it.
        log_probability: of the whole answer, its end included.
        status: ``"ok"``, ``"empty_mask"`` or ``"no_token"``.
    """

    row: int
    name: str
    answer: str
    log_probability: float
    status: str = "ok"


def in_order(named: Iterable[Named], count: int) -> list[str]:
    """The names of ``count`` masks by row; empty where nothing was said."""
    names = [""] * count
    for one in named:
        names[one.row] = one.name
    return names


def labelled(segments: Segments, named: Iterable[Named], source: str) -> Segments:
    """Segments with their names as labels, and the names' probabilities as label scores; a mask
    that nothing can be said of keeps the label it had."""
    labels = list(segments.labels)
    scores = np.array(segments.label_scores, np.float32)
    sources = list(segments.label_sources)
    for one in named:
        if one.status == "ok" and one.name:
            labels[one.row] = one.name
            scores[one.row] = float(np.exp(one.log_probability))
            sources[one.row] = source
    return segments.with_labels(labels, scores, sources)
