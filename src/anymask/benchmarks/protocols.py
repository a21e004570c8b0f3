"""Measuring the results of any tool against a data set, one function a protocol.

    recall     class-agnostic AR and AP: all regions compete (SegPrompt, Tables 3 and 4)
    coco       COCO's AP and AR by class
    lvis       LVIS's federated AP (rare, common, frequent)
    lvis-ow    class-wise AR of known, seen and unseen classes (SegPrompt, section 5.1)

Predictions are a COCO results list, or a COCO file whose annotations have scores; masks as polygons
or run lengths; either may be gzipped.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymask.data.coco import CocoDataset
from anymask.errors import AnymaskError, DataError, InputError
from anymask.evaluation import truth_of
from anymask.metrics.matching import AREA_RANGES, THRESHOLDS
from anymask.metrics.segmentation import (
    Federation,
    Pictures,
    Regions,
    class_agnostic,
    class_aware,
    class_wise_recall,
    federated,
)
from anymask.ops.rle import from_coco_any
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
    nothing = Regions.of([])
    pictures = {i: (truth_of(data, i), found.get(i, nothing)) for i in data.image_ids}
    return measure_pictures(
        data,
        pictures,
        protocol,
        name=Path(predictions).name,
        vocabulary=vocabulary,
        max_dets=max_dets,
        digests={data.path.name: data.digest(), Path(predictions).name: _digest(predictions)},
    )


def measure_pictures(
    data: CocoDataset,
    pictures: Pictures,
    protocol: str,
    *,
    name: str = "predictions",
    vocabulary: Vocabulary | None = None,
    max_dets: int | None = None,
    digests: Mapping[str, str] | None = None,
) -> Report:
    """The same from regions in memory: image id -> (truth, found)."""
    kept = max_dets or (300 if protocol == "lvis" else 100)
    about: dict[str, Any] = {
        "protocol": protocol,
        "overlap": "mask IoU",
        "iou_thresholds": [round(float(t), 2) for t in THRESHOLDS],
        "max_dets": kept,
        "areas": {key: list(value) for key, value in AREA_RANGES.items()},
        "images": len(pictures),
        "regions": sum(int((~t.crowd).sum()) for t, _ in pictures.values()),
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
        metrics=metrics,
        protocol=about,
        data=dict(digests or {}),
        vocabulary=used,
    )


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


# ------------------------------------------------------------------------------- predictions


def read_predictions(
    path: str | Path, data: CocoDataset, *, with_classes: bool = False
) -> dict[int, Regions]:
    """Read predictions: image id -> regions.

    Args:
        path: see the module.
        data: the truth they belong to.
        with_classes: every prediction needs a category of the truth.

    Raises:
        DataError: the file is broken, or a record has an unknown picture or category, a score that
            is no number, or a mask of another size; the message names the record.
    """
    path = Path(path)
    records = _load(path)
    if isinstance(records, dict) and isinstance(records.get("annotations"), list):
        records = _rename_pictures(path, records, data)
    if not isinstance(records, list):
        raise DataError(f"{path} is neither a list of results nor a COCO file.")
    sizes = {r["id"]: (int(r["height"]), int(r["width"])) for r in data.images}
    classes = {category["id"] for category in data.categories}
    by_image: dict[int, list[tuple[Any, float, int]]] = defaultdict(list)
    for number, record in enumerate(records):
        where = f"{path}: result {number}"
        if not isinstance(record, dict) or not {"image_id", "segmentation", "score"} <= set(record):
            raise DataError(f"{where} needs the keys image_id, segmentation and score.")
        image_id, score = record["image_id"], record["score"]
        if image_id not in sizes:
            raise DataError(
                f"{where} is of image {image_id}, which {data.path} does not have: do both belong "
                "to the same data set?"
            )
        if not isinstance(score, (int, float)) or not math.isfinite(score):
            raise DataError(f"{where} has the score {score!r}: a finite number is needed.")
        category = record.get("category_id", 0)
        if with_classes and category not in classes:
            raise DataError(
                f"{where} has the category {category!r}, which {data.path} does not have."
            )
        try:
            rle = from_coco_any(record["segmentation"], sizes[image_id])
        except AnymaskError as error:
            raise DataError(f"{where} (image {image_id}): {error}") from error
        by_image[image_id].append((rle, float(score), category if with_classes else 0))
    return {
        image_id: Regions.of(
            [rle for rle, _, _ in rows],
            scores=[score for _, score, _ in rows],
            classes=[category for _, _, category in rows],
        )
        for image_id, rows in by_image.items()
    }


def _load(path: Path) -> Any:
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        return json.loads(data)
    except (OSError, EOFError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error


def _rename_pictures(path: Path, content: dict[str, Any], data: CocoDataset) -> list[Any]:
    """Annotations of a COCO file as results: its pictures are found in the truth by name."""
    ids = {str(r.get("file_name", r["id"])): r["id"] for r in data.images}
    number: dict[Any, Any] = {}
    for image in content.get("images", []):
        name = str(image.get("file_name", image.get("id")))
        if name not in ids:
            raise DataError(
                f"{path} has the picture {name}, which {data.path} does not have: do both belong "
                "to the same data set?"
            )
        number[image.get("id")] = ids[name]
    found = []
    for record in content["annotations"]:
        if isinstance(record, dict) and record.get("image_id") in number:
            record = {**record, "image_id": number[record["image_id"]]}
        found.append(record)
    return found


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
