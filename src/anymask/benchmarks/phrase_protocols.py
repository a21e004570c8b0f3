"""Measuring answers to phrases, of any tool.

referring   cIoU, gIoU, precision: everything a phrase means as one mask
concept     cgF1: every thing a phrase means, and whether there is any
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anymask.data.json_stream import read_json
from anymask.data.phrases import PhraseData, PhraseTruth
from anymask.errors import DataError
from anymask.image import read_image
from anymask.metrics.concept import ConceptMeter
from anymask.metrics.referring import ReferringMeter
from anymask.ops.masks import nms
from anymask.ops.rle import RLE, area, from_coco_any, intersect, iou, merge
from anymask.report import Report
from anymask.segments import Segments

SAME = 0.5  # IoU from which two masks are one thing, which has one name
Answer = Callable[[int, Sequence[PhraseTruth]], Mapping[int, list[RLE]]]
"""(image id, its phrases) -> phrase id -> found masks."""


def measure_referring(
    data: PhraseData,
    answer: Answer,
    *,
    name: str = "predictions",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """cIoU, gIoU and precision of every phrase's masks taken together.

    Args:
        data: the truth.
        answer: who answers.
        name: of what is measured.
        progress: called with (done, total) pictures.
    """
    meters: dict[str, ReferringMeter] = {"": ReferringMeter()}
    for truth, size, found in _asked(data, answer, progress):
        true, said = truth.union(size), merge(found) if found else None
        shared = int(area([intersect([true, said])])[0]) if said is not None else 0
        union = int(area([true])[0]) + (int(area([said])[0]) if said is not None else 0) - shared
        for group in {"", truth.kind}:
            meters.setdefault(group, ReferringMeter()).add_counts(shared, union)
    return _report("Referring segmentation", data, name, meters)


def measure_concept(
    data: PhraseData,
    answer: Answer,
    *,
    name: str = "predictions",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """cgF1: every thing a phrase means, and whether there is any; arguments as above."""
    meters: dict[str, ConceptMeter] = {"": ConceptMeter()}
    for truth, _, found in _asked(data, answer, progress):
        table = np.zeros((len(found), len(truth.masks)))
        if table.size:
            table = iou(found, truth.masks)
        for group in {"", truth.kind}:
            meters.setdefault(group, ConceptMeter()).add(table)
    return _report("Concept segmentation", data, name, meters)


def _asked(
    data: PhraseData, answer: Answer, progress: Callable[[int, int], None] | None
) -> Iterator[tuple[PhraseTruth, tuple[int, int], list[RLE]]]:
    """Every phrase, the size of its picture, and what was found."""
    pictures = list(data.by_picture())
    for done, (image_id, phrases) in enumerate(pictures):
        found = answer(image_id, phrases)
        for phrase in phrases:
            yield phrase, data.sizes[image_id], list(found.get(phrase.id, ()))
        if progress is not None:
            progress(done + 1, len(pictures))


def _report(title: str, data: PhraseData, name: str, meters: Mapping[str, Any]) -> Report:
    kinds = {f"kind {k}": m.summary() for k, m in sorted(meters.items()) if k}
    return Report(
        title=f"{title}: {name} on {data.name}",
        metrics=meters[""].summary(),
        slices=kinds,
        protocol={
            "phrases": len(data),
            "which": data.note or "all",
            "pictures": len({p.image_id for p in data.phrases}),
        },
        data={"truth": data.digest},
    )


def answers_from(path: Path, data: PhraseData) -> Answer:
    """Read predictions: a JSON list of ``{"phrase_id" or ("image_id", "phrase"), "segmentation"}``,
    or, where the phrases are class names, COCO results with ``category_id``.

    Several records of a phrase are several things; a phrase without a record is answered with
    "nothing", and COCO results of classes that are not asked for are passed over. ``"score"`` may
    be there and is not used: choose a threshold before.

    Raises:
        DataError: it cannot be read, or a record fits no phrase; the message names it.
    """
    rows = read_json(path)
    if not isinstance(rows, list):
        raise DataError(f"{path} is no list of records")
    by_id = {p.id: p for p in data.phrases}
    by_text: dict[tuple[int, str], list[PhraseTruth]] = {}
    for p in data.phrases:
        by_text.setdefault((p.image_id, p.text.lower()), []).append(p)
    found: dict[int, list[RLE]] = {}
    for number, row in enumerate(rows):
        try:
            # What is said of several things alike has one answer, which counts for each.
            if "phrase_id" in row:
                meant = [by_id[int(row["phrase_id"])]]
            else:
                own = "phrase" not in row and "category_id" in row and data.classes
                text = data.classes[int(row["category_id"])] if own else str(row["phrase"])
                place = int(row["image_id"]), text.lower()
                if own and place not in by_text and place[0] in data.sizes:
                    continue  # a class that is not asked for in this picture
                meant = by_text[place]
            rle = from_coco_any(row["segmentation"], data.sizes[meant[0].image_id])
        except KeyError as error:
            raise DataError(
                f"{path}: record {number} fits no phrase of {data.name} ({error}): give phrase_id, "
                "or image_id and phrase (of class names: or category_id), and segmentation"
            ) from error
        except (TypeError, ValueError) as error:
            raise DataError(f"{path}: record {number}: {error}") from error
        for phrase in meant:
            found.setdefault(phrase.id, []).append(rle)
    return lambda image_id, phrases: found


def answers_of(find: Callable[[Any, list[str]], Segments], data: PhraseData) -> Answer:
    """Ask a model.

    Args:
        find: (picture, phrases) -> segments whose labels are the phrases.
        data: says where the pictures lie.
    """

    def answer(image_id: int, phrases: Sequence[PhraseTruth]) -> Mapping[int, list[RLE]]:
        segments = find(read_image(data.files[image_id]), [p.text for p in phrases])
        if data.one_name:
            segments = segments[nms(segments, iou_threshold=SAME)]
        return {
            phrase.id: [
                rle
                for rle, label in zip(segments.rles, segments.labels, strict=True)
                if label == phrase.text
            ]
            for phrase in phrases
        }

    return answer
