"""Named masks that overlap -> a map in which every pixel has at most one name."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from anymask.errors import InputError
from anymask.ops.merging import mask_wise, merged
from anymask.ops.rle import encode
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

Task = Literal["objects", "panoptic", "semantic"]
TASKS: tuple[Task, ...] = get_args(Task)
LEAST_IN_VOCABULARY = 0.1  # OSM with kMaX's masks (specification 4.5)


def as_map(segments: Segments, task: Task, vocabulary: Vocabulary | None = None) -> Segments:
    """What is left of named masks when every pixel belongs to one of them.

    With a vocabulary by kMaX-DeepLab's rules (OSM, section 4.3): masks in the order of the name's
    score times the mask's own, those below 0.1 and names outside of the vocabulary left out, stuff
    of a class joined. Without one by OSM's demonstration: in the order of the name's score, those
    below 0.2 left out, nothing joined. Either way a mask that lost a fifth to others goes.

    Args:
        segments: named masks; those without a name are left out. Where a score is not known, 1
            counts.
        task: ``"objects"`` returns the segments as they are; ``"semantic"`` joins all segments of
            a name.
        vocabulary: says what is stuff; what it does not say is a thing.

    Returns:
        Segments that do not overlap, the surest first; by their names for ``"semantic"``.

    Raises:
        InputError: there is no such task.
    """
    if task not in TASKS:
        raise InputError(f"task is {task!r}: use one of {', '.join(TASKS)}")
    if task == "objects":
        return segments
    places = [_place(label, vocabulary) for label in segments.labels]
    named = segments[np.array([place is not None for place in places], bool)]
    words = [str(label) for label in named.labels]
    sure = np.nan_to_num(named.label_scores, nan=1.0)
    masks = [named.mask(row) for row in range(len(named))]
    if vocabulary is None:
        numbers, kept = merged(masks, sure.tolist())
    else:
        enough = np.flatnonzero(sure >= LEAST_IN_VOCABULARY).tolist()
        classes = [place for place in places if place is not None]
        scores = sure * np.nan_to_num(named.scores, nan=1.0)
        numbers, rows = mask_wise(
            [masks[k] for k in enough],
            [float(scores[k]) for k in enough],
            [classes[k] for k in enough],
            [vocabulary.categories[classes[k]].is_thing is not False for k in enough],
        )
        kept = [enough[row] for row in rows]
    if task == "semantic":
        order = sorted(range(len(kept)), key=lambda k: words[kept[k]])
        groups: dict[str, list[int]] = {}
        for k in order:
            groups.setdefault(words[kept[k]], []).append(k)
        joined = list(groups.values())
    else:
        joined = [[k] for k in range(len(kept))]
    first = named[[kept[group[0]] for group in joined]]
    return Segments(
        segments.size,
        [encode(np.isin(numbers, [k + 1 for k in group])) for group in joined],
        scores=first.scores,
        labels=first.labels,
        label_scores=first.label_scores,
        label_sources=first.label_sources,
    )


def _place(label: str | None, vocabulary: Vocabulary | None) -> int | None:
    """The class of a name; without a vocabulary all names are alike."""
    if label is None:
        return None
    return 0 if vocabulary is None else vocabulary.find(label)
