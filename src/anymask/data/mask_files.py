"""Masks for pictures from files: proposals of other tools, to be named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.data.coco import CocoDataset
from anymask.data.dense import panoptic_ids
from anymask.data.formats.png import read_numbers
from anymask.data.json_stream import read_json
from anymask.errors import DataError
from anymask.image import Image
from anymask.ops.rle import encode_label_map
from anymask.segments import Segments

MasksOf = Callable[[Image], Segments]


def masks_from(path: str | Path) -> MasksOf:
    """picture -> its masks.

    Args:
        path: a COCO-style file (pictures by file name); a panoptic file such as kMaX-DeepLab's
            ``predictions.json``, whose PNG files lie beside it or in the folder of the same name
            (pictures by the PNG's name, ``score`` of a segment where there is one); or a folder of
            such PNG files, or of grey or indexed ones, as ``discover`` writes them.

    Returns:
        A function; it raises DataError for a picture the file does not know, or a map of another
        size.

    Raises:
        DataError: it is none of these.
    """
    path = Path(path)
    if path.is_dir():
        return _from_maps(path, {})
    try:
        content = read_json(path)
        rows = content["annotations"] if isinstance(content, dict) else content
        panoptic = bool(rows) and all("segments_info" in row for row in rows)
    except (KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO-style or panoptic file: {error!r}") from error
    if panoptic:
        beside = path.with_suffix("")
        return _from_maps(beside if beside.is_dir() else path.parent, _scores_of(path, rows))
    return _from_coco(path)


def _from_coco(path: Path) -> MasksOf:
    data = CocoDataset.read(path)
    by_file: dict[str, list[int]] = {}
    for image_id in data.image_ids:
        by_file.setdefault(data.image_path(image_id).name, []).append(image_id)

    def of(image: Image) -> Segments:
        name = image.path.as_posix() if image.path is not None else ""
        keys = by_file.get(name.rsplit("/", 1)[-1], [])
        if not keys:
            raise DataError(f"{path} has no picture of this name")
        if len(keys) > 1:  # pictures of one name: their folders tell
            keys = [k for k in keys if f"/{name}".endswith(f"/{_name_in(data, k)}")]
        if len(keys) != 1:
            raise DataError(
                f"{path} has several pictures of this name, and their folders do not tell which "
                f"of them {name} is"
            )
        key = keys[0]
        return data.annotations_of(key, crowd=False)

    return of


def _name_in(data: CocoDataset, image_id: int) -> str:
    return data.image_path(image_id).relative_to(data.images_dir).as_posix()


def _scores_of(path: Path, rows: list[Any]) -> dict[str, dict[int, float]]:
    """Picture -> segment -> score."""
    try:
        return {
            Path(row["file_name"]).stem: {
                int(s["id"]): float(s.get("score", np.nan)) for s in row["segments_info"]
            }
            for row in rows
        }
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is no panoptic file: {error!r}") from error


def _ids_of(file: Path) -> NDArray[np.int64]:
    """Segment ids: panoptic where the picture has colours, else its values."""
    try:
        with PIL.Image.open(file) as picture:
            colours = picture.mode in ("RGB", "RGBA")
    except (OSError, ValueError):
        colours = True  # the reader says what is wrong with it
    return panoptic_ids(file) if colours else read_numbers(file).astype(np.int64)


def _from_maps(folder: Path, scores: dict[str, dict[int, float]]) -> MasksOf:
    """Maps of segment ids, 0 = nothing; with scores only the listed segments are taken."""
    if not any(folder.glob("*.png")):
        raise DataError(f"{folder} holds no PNG files of segments")

    def of(image: Image) -> Segments:
        stem = image.path.stem if image.path is not None else ""
        file = folder / f"{stem}.png"
        if scores and stem not in scores:
            raise DataError(f"the panoptic file beside {folder} has no picture of this name")
        numbers = _ids_of(file)
        if numbers.shape != image.size:
            raise DataError(f"{file} is of {numbers.shape}, the picture of {image.size}")
        known = scores.get(stem)
        found = encode_label_map(numbers)
        kept = [k for k in found if k and (known is None or k in known)]
        sure = [known[k] if known is not None else np.nan for k in kept]
        return Segments(image.size, [found[k] for k in kept], scores=sure, ids=kept)

    return of
