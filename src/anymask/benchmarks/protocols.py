"""Measuring the results of any tool against a data set, one function a protocol.

    recall     class-agnostic AR and AP: all regions compete (SegPrompt, Tables 3 and 4)
    coco       COCO's AP and AR by class
    lvis       LVIS's federated AP (rare, common, frequent)
    lvis-ow    class-wise AR of known, seen and unseen classes (SegPrompt, section 5.1)

Predictions are a COCO results list, or a COCO file whose annotations have scores; masks as polygons
or run lengths; either may be gzipped.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymask.data.coco import CocoDataset
from anymask.errors import DataError, InputError
from anymask.evaluation import truth_of
from anymask.metrics.matching import AREA_RANGES, THRESHOLDS
from anymask.metrics.segmentation import (
    Federation,
    Pairs,
    class_agnostic,
    class_aware,
    class_wise_recall,
    federated,
)
from anymask.predictions import read_predictions
from anymask.report import Report
from anymask.vocabulary import GROUPS, Vocabulary

PROTOCOLS = ("recall", "coco", "lvis", "lvis-ow")


def measure(
    truth: str | Path,
    predictions: str | Path,
    protocol: str,
    *,
    vocabulary: Vocabulary | None = None,
    max_dets: int | None = None,
) -> Report:
    """Measure predictions.

    Args:
        truth: COCO- or LVIS-style instances file.
        predictions: results of any tool, see above.
        protocol: ``"recall"``, ``"coco"``, ``"lvis"`` or ``"lvis-ow"``.
        vocabulary: groups for ``"lvis-ow"``, by category id; None = the ``group`` of the truth's
            own categories, or LVIS-OW's groups when these are LVIS's.
        max_dets: predictions a picture keeps; None = the protocol's own number (100; 300 for
            LVIS).

    Returns:
        Metrics, protocol and digests. ``per_class`` of the metrics is by category name.

    Raises:
        InputError: no such protocol, or groups are needed and there are none.
        DataError: a file is broken; the message names the record.
    """
    if protocol not in PROTOCOLS:
        raise InputError(f"no protocol {protocol!r}: there are {', '.join(PROTOCOLS)}")
    data = CocoDataset.read(truth)
    found = read_predictions(predictions, data, with_classes=protocol in ("coco", "lvis"))
    pictures = Pairs({i: truth_of(data, i) for i in data.image_ids}, found)
    return measure_pictures(
        data,
        pictures,
        protocol,
        name=Path(predictions).name,
        vocabulary=vocabulary,
        max_dets=max_dets,
        digests={data.path.name: data.digest()},
        source={Path(predictions).name: _digest(predictions)},
    )


def measure_pictures(
    data: CocoDataset,
    pictures: Pairs,
    protocol: str,
    *,
    name: str = "predictions",
    vocabulary: Vocabulary | None = None,
    max_dets: int | None = None,
    digests: Mapping[str, str] | None = None,
    source: Mapping[str, str] | None = None,
) -> Report:
    """The same from regions that need no file.

    ``digests`` are the report's data, ``source`` is what made the predictions: two reports may be
    compared when the former are equal.
    """
    kept = max_dets or (300 if protocol == "lvis" else 100)
    about: dict[str, Any] = {
        "protocol": protocol,
        "overlap": "mask IoU",
        "iou_thresholds": [round(float(t), 2) for t in THRESHOLDS],
        "max_dets": kept,
        "areas": {key: list(value) for key, value in AREA_RANGES.items()},
        "images": len(pictures),
        "regions": sum(int((~t.crowd).sum()) for t in pictures.truth.values()),
    }
    used: dict[str, str] = {}
    if protocol == "recall":
        metrics = class_agnostic(pictures, kept)
        about["classes"] = "ignored: all regions compete"
    elif protocol == "coco":
        metrics = class_aware(pictures, kept)
        about["classes"] = "a prediction counts for its own class"
    elif protocol == "lvis":
        metrics = federated(pictures, federation_of(data), kept)
        about["classes"] = "federated: judged where a picture has truth or a negative label"
    else:
        groups, used = groups_of(data, vocabulary)
        metrics = class_wise_recall(pictures, groups, kept)
        about["classes"] = "each class alone against all predictions; mean over classes with truth"
        about["group_classes"] = {g: len(members) for g, members in groups.items()}
    if "per_class" in metrics:
        names = data.names
        metrics["per_class"] = {
            names.get(int(number), number): value for number, value in metrics["per_class"].items()
        }
    return Report(
        title=f"{name} on {data.path.name}: {protocol}",
        notes=unanswered(pictures),
        metrics=metrics,
        protocol=about,
        data=dict(digests or {}),
        checkpoint=dict(source or {}),
        vocabulary=used,
    )


def unanswered(pictures: Pairs) -> list[str]:
    """What to say of pictures without a prediction; nothing when there are none.

    Found nothing, or never asked: a file of results does not tell them apart, but who sees that
    most are missing knows that another split was predicted.
    """
    missing = sum(image not in pictures.found for image in pictures)
    if not missing:
        return []
    return [f"{missing:,} of {len(pictures):,} pictures have no prediction and count as missed"]


def groups_of(
    data: CocoDataset, vocabulary: Vocabulary | None = None
) -> tuple[dict[str, set[int]], dict[str, str]]:
    """Group -> category ids, and the digest of the vocabulary that says so.

    Raises:
        InputError: nobody says which classes are known.
    """
    ids = {category["id"] for category in data.categories}
    own = {category["id"]: category.get("group") for category in data.categories}
    if vocabulary is None and not any(own.values()):
        vocabulary = Vocabulary.builtin("lvis")
        if not ids <= set(vocabulary.ids):
            raise InputError(
                f"the categories of {data.path} have no group and are not LVIS's: give a "
                "vocabulary with groups (--groups FILE; see Vocabulary.read)."
            )
    if vocabulary is None:
        groups = {g: {i for i, group in own.items() if group == g} for g in GROUPS}
        return groups, {}
    by_id = {category.id: category.group for category in vocabulary.categories}
    groups = {g: {i for i in ids if by_id.get(i) == g} for g in GROUPS}
    return groups, {vocabulary.title: vocabulary.digest}


def federation_of(data: CocoDataset) -> Federation:
    """What an LVIS-style file knows of its pictures.

    Raises:
        DataError: the file has no frequencies or no lists.
    """
    try:
        frequency = {category["id"]: category["frequency"] for category in data.categories}
        negatives = {image["id"]: set(image["neg_category_ids"]) for image in data.images}
        loose = {image["id"]: set(image["not_exhaustive_category_ids"]) for image in data.images}
    except KeyError as error:
        raise DataError(
            f"{data.path} is not an LVIS-style file: {error} is missing. Measure it with the "
            "protocol coco or recall."
        ) from None
    return Federation(negatives, loose, frequency)


def _digest(path: str | Path) -> str:
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def frequencies(data: CocoDataset) -> dict[str, int]:
    """Category name -> pictures that show it: what recall is drawn against.

    The ``image_count`` of the file's categories is taken where all have one (LVIS's counts its
    training side); otherwise the pictures of this file are counted.
    """
    if all("image_count" in category for category in data.categories):
        return {c["name"]: int(c["image_count"]) for c in data.categories}
    counts: Counter[int] = Counter()
    for image_id in data.image_ids:
        counts.update({record["category_id"] for record in data.records_of(image_id)})
    return {name: counts[number] for number, name in data.names.items()}
