"""Regions to be named: from SA-1B's files, COCO-style files or lines of regions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anymask.data.coco import CocoDataset
from anymask.data.regions import RegionFile
from anymask.errors import DataError, SegmentsError
from anymask.ops.rle import RLE, area, from_coco_any, iou

MIN_SHARE = 0.001  # of the picture; the paper does not say its own


@dataclass(frozen=True)
class Candidate:
    """One region.

    Attributes:
        key: picture and place, unique in the data set.
        file: the picture.
        size: (height, width) in pixels.
        rle: the mask.
        share: of the picture that it covers, 0..1.
    """

    key: str
    file: Path
    size: tuple[int, int]
    rle: RLE
    share: float


def read_candidates(
    source: Path,
    images: Path | None = None,
    *,
    min_share: float = MIN_SHARE,
    max_share: float = 1.0,
    duplicates: float = 1.0,
) -> list[Candidate]:
    """Stage 1: the regions that are large enough.

    Args:
        source: a folder with SA-1B's ``sa_*.json`` beside their pictures, a COCO-style file (such
            as ``anymask discover --format coco-dataset`` writes) or lines of regions (``.jsonl``).
        images: folder of the pictures; by default that of the source.
        min_share, max_share: of the picture.
        duplicates: of two regions of a picture that overlap more (IoU), the later is dropped.

    Raises:
        DataError: it is none of these, or has no region.
    """
    found = []
    for name, file, size, rles in _pictures(source, images):
        kept: list[RLE] = []
        for number, (rle, pixels) in enumerate(zip(rles, area(rles), strict=True)):
            share = float(pixels) / (size[0] * size[1])
            if not min_share <= share <= max_share or not pixels:
                continue
            if duplicates < 1 and kept and float(np.max(iou([rle], kept))) > duplicates:
                continue
            kept.append(rle)
            found.append(Candidate(f"{name}/{number}", file, size, rle, share))
    if not found:
        raise DataError(
            f"{source} has no region that covers at least {min_share:g} of its picture: give masks "
            "(anymask discover --format coco-dataset writes them), or a smaller --min-share"
        )
    keys = [one.key for one in found]
    if len(set(keys)) != len(keys):
        again = next(key for k, key in enumerate(keys) if key in keys[:k])
        raise DataError(f"{source} has two regions {again}: its pictures need different names")
    return found


Picture = tuple[str, Path, tuple[int, int], list[RLE]]


def _pictures(source: Path, images: Path | None) -> Iterator[Picture]:
    if source.is_dir():
        files = sorted(source.rglob("*.json"))
        if not files:
            raise DataError(f"{source} has no .json file beside its pictures, as SA-1B has")
        for path in files:
            yield _sa1b(path, images)
    elif source.suffix == ".jsonl":
        file = RegionFile.read(source, images)
        for record in file:
            yield record.id, file.root / record.image, record.size, list(record.rles)
    else:
        data = CocoDataset.read(source, images)
        for key in data.image_ids:
            path = data.image_path(key)
            size = data.image_record(key)["height"], data.image_record(key)["width"]
            yield str(key), path, size, list(data.annotations_of(key, crowd=False).rles)


def _sa1b(path: Path, images: Path | None) -> Picture:
    try:
        row: Any = json.loads(path.read_text(encoding="utf-8"))
        about = row["image"]
        size = int(about["height"]), int(about["width"])
        rles = [from_coco_any(one["segmentation"], size) for one in row["annotations"]]
        return path.stem, (images or path.parent) / about["file_name"], size, rles
    except SegmentsError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is none of SA-1B's files ({error!r})") from error
