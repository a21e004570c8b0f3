"""Predictions of any tool, as regions by picture.

A COCO results list, or a COCO file whose annotations have scores; masks as polygons or run lengths;
either may be gzipped.
"""

from __future__ import annotations

import gzip
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from anymask.data.coco import CocoDataset
from anymask.errors import AnymaskError, DataError
from anymask.metrics.segmentation import Regions
from anymask.ops.rle import from_coco_any


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
    if isinstance(records, dict) and {"annotations", "images"} <= set(records):
        records = _rename_pictures(path, records, data)
    if not isinstance(records, list):
        raise DataError(f"{path} is not a list of results, nor a COCO file with its images.")
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
