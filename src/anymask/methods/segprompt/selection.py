"""Which instances become examples, and which classes candidates (SegPrompt, sections 3.3 and 3.4).

Classes are rows 0..C-1 of the prompt tables throughout.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np

MaskTruth = Literal["all_present", "examples_only"]


class Kind(IntEnum):
    """What is known of a candidate class in a picture."""

    OUTLINED = 0  # present, its instances have masks
    PRESENT = 1  # present, known at image level only
    ABSENT = 2
    PADDING = 3  # no class: the vocabulary was too small


@dataclass(frozen=True)
class Candidates:
    """The candidate classes of one picture.

    Attributes:
        classes: C_max rows; -1 = padding.
        kinds: what is known of each.
    """

    classes: tuple[int, ...]
    kinds: tuple[Kind, ...]


def choose_examples(
    labels: Sequence[int],
    areas: Sequence[float],
    *,
    known: Collection[int],
    rng: np.random.Generator,
    max_examples: int = 5,
    min_area: float = 100,
) -> list[int]:
    """Choose the instances whose masks become example queries: different classes first.

    Args:
        labels, areas: of the instances; areas in pixels after augmentation.
        known: classes with masks in training.
        rng: decides where there are more than enough.
        max_examples: E.
        min_area: instances must be larger than this.

    Returns:
        At most E positions. Of every class chosen for its own sake the first instance is taken.
    """
    usable = [k for k, c in enumerate(labels) if c in known and areas[k] > min_area]
    if len(usable) < max_examples:
        return sorted(usable, key=lambda k: labels[k])
    first: dict[int, int] = {}
    for k in usable:
        first.setdefault(labels[k], k)
    if len(first) >= max_examples:
        classes = rng.choice(sorted(first), max_examples, replace=False)
        return [first[int(c)] for c in classes]
    chosen = [first[c] for c in sorted(first)]
    rest = [k for k in usable if k not in set(chosen)]
    more = rng.choice(rest, max_examples - len(chosen), replace=False)
    return chosen + [int(k) for k in more]


def choose_candidates(
    labels: Sequence[int],
    areas: Sequence[float],
    *,
    known: Collection[int],
    rng: np.random.Generator,
    unlabelled: Collection[int] = (),
    negatives: Sequence[int] = (),
    not_exhaustive: Sequence[int] = (),
    image_labels: Sequence[int] = (),
    max_classes: int = 30,
    min_area: float = 100,
    mask_truth: MaskTruth = "all_present",
    example_classes: Collection[int] = (),
) -> Candidates:
    """Choose the classes whose prompts are tried on a picture.

    First the classes that are present, in ascending order, then those the data set says are absent,
    then others at random.

    Args:
        labels, areas: of the instances with masks.
        known: classes with masks in training.
        rng: draws the random negatives.
        unlabelled: further classes of the vocabulary, without masks. The data set's lists are
            looked at only when there are any (the released rule).
        negatives: classes the data set says are absent.
        not_exhaustive: classes that are present and not outlined completely.
        image_labels: classes known to be present, without masks (section 5.4).
        max_classes: C_max.
        min_area: a class counts as present through instances larger than this.
        mask_truth: ``"all_present"`` trusts the masks of every known class; the released code's
            ``"examples_only"`` those of the classes among the examples.
        example_classes: classes of the chosen examples, for ``"examples_only"``.
    """
    federated = bool(unlabelled)
    loose = set(not_exhaustive) if federated else set()
    refused = list(dict.fromkeys(negatives)) if federated else []
    large = {c for c, area in zip(labels, areas, strict=True) if area > min_area}
    present = sorted(large | loose | set(image_labels))[:max_classes]
    outlined = large & set(known)
    if mask_truth == "examples_only":
        outlined &= set(example_classes)
    outlined -= loose | set(refused)
    absent = [c for c in refused if c not in set(present)][: max_classes - len(present)]
    taken = {*present, *absent, *large, *refused, *not_exhaustive, *image_labels}
    pool = sorted({*known, *unlabelled} - taken)
    wanted = max_classes - len(present) - len(absent)
    drawn = rng.choice(pool, min(wanted, len(pool)), replace=False).tolist() if pool else []
    classes = [*present, *absent, *map(int, drawn)]
    kinds = [Kind.OUTLINED if c in outlined else Kind.PRESENT for c in present]
    kinds += [Kind.ABSENT] * (len(classes) - len(present))
    padding = max_classes - len(classes)
    return Candidates((*classes, *[-1] * padding), (*kinds, *[Kind.PADDING] * padding))
