"""How well a discoverer, or a file of results, covers the truth of a data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anymask.data.coco import CocoDataset
from anymask.errors import AnymaskError, DataError
from anymask.image import Image
from anymask.metrics.matching import AREA_RANGES, THRESHOLDS
from anymask.metrics.segmentation import Pairs, Regions, class_agnostic
from anymask.ops.rle import from_coco_any
from anymask.predictions import read_predictions
from anymask.report import Report
from anymask.segments import Segments

Discover = Callable[[Image], Segments]


def evaluate_discoverer(
    discover: Discover,
    dataset: CocoDataset,
    *,
    max_dets: int = 100,
    by: str | None = None,
    name: str = "discoverer",
    checkpoint: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run a discoverer over a data set and measure its proposals without regard to class.

    Args:
        discover: picture -> ranked segments.
        dataset: truth; its image ids are used, its categories are not.
        max_dets: proposals a picture may keep.
        by: field of the image records (``source``, ``coco_split``, ...) to report slices by.
        name: of the model, for the title.
        checkpoint: name -> digest of the weights, for the report.
        progress: called with (done, total) after every picture.

    Returns:
        AR@1, AR@10, AR@``max_dets``, AR and AP by size, AP50, AP75. A picture that cannot be
        read or segmented counts as one without proposals; its id and reason stand in the protocol.
    """
    found: dict[int, Regions] = {}
    failed: dict[str, str] = {}
    for done, image_id in enumerate(dataset.image_ids, 1):
        try:
            segments = discover(dataset.read_image(image_id))
            found[image_id] = Regions.of(list(segments.rles), scores=segments.scores)
        except AnymaskError as error:
            failed[str(image_id)] = str(error)
        if progress is not None:
            progress(done, len(dataset))
    return _report(dataset, found, max_dets, by, name, checkpoint, failed)


def evaluate_results(
    results: str | Path, dataset: CocoDataset, *, max_dets: int = 100, by: str | None = None
) -> Report:
    """The same for predictions in a file (see :func:`anymask.predictions.read_predictions`).

    Raises:
        DataError: the file is broken, or a record does not fit the data set; the message names it.
    """
    found = read_predictions(results, dataset)
    return _report(dataset, found, max_dets, by, Path(results).name, None, {})


def _size(dataset: CocoDataset, image_id: int) -> tuple[int, int]:
    record = dataset.image_record(image_id)
    return int(record["height"]), int(record["width"])


def truth_of(dataset: CocoDataset, image_id: int) -> Regions:
    """The annotated regions of a picture, with the area its annotations state."""
    records = dataset.records_of(image_id)
    size = _size(dataset, image_id)
    rles = [from_coco_any(r["segmentation"], size) for r in records]
    regions = Regions.of(
        rles,
        classes=[r.get("category_id", 0) for r in records],
        crowd=[bool(r.get("iscrowd", 0)) for r in records],
    )
    stated = [r.get("area") for r in records]
    areas = np.array([own if s is None else s for s, own in zip(stated, regions.areas)], float)
    return Regions(regions.rles, regions.scores, regions.classes, areas, regions.crowd)


def _report(
    dataset: CocoDataset,
    found: Mapping[int, Regions],
    max_dets: int,
    by: str | None,
    name: str,
    checkpoint: Mapping[str, str] | None,
    failed: Mapping[str, str],
) -> Report:
    pictures = Pairs({i: truth_of(dataset, i) for i in dataset.image_ids}, found)
    slices: dict[str, Any] = {}
    if by is not None:
        members: dict[str, list[int]] = defaultdict(list)
        for record in dataset.images:
            if by not in record:
                raise DataError(f"{dataset.path}: image {record['id']} has no field {by!r}")
            members[str(record[by])].append(record["id"])
        slices = {
            f"{by}={value}": class_agnostic(pictures.subset(ids), max_dets)
            for value, ids in sorted(members.items())
        }
    protocol: dict[str, Any] = {
        "classes": "ignored (class-agnostic): all regions compete",
        "overlap": "mask IoU",
        "iou_thresholds": [round(float(t), 2) for t in THRESHOLDS],
        "max_dets": max_dets,
        "areas": {k: list(v) for k, v in AREA_RANGES.items()},
        "images": len(pictures),
        "regions": sum(int((~t.crowd).sum()) for t in pictures.truth.values()),
        "crowds": "ignored",
    }
    if failed:
        protocol["failed"] = dict(failed)
    return Report(
        title=f"{name} on {dataset.path.name}: class-agnostic masks",
        metrics=class_agnostic(pictures, max_dets),
        slices=slices,
        protocol=protocol,
        data={dataset.path.name: dataset.digest()},
        checkpoint=dict(checkpoint or {}),
    )
