"""Writing COCO JSON: one file per picture, or one for a whole data set."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from anymask.data.formats.atomic import atomic_write
from anymask.errors import SegmentsError
from anymask.segments import Segments
from anymask.version import __version__

UNLABELLED = "object"
"""The category name of regions without a label."""


def coco_dict(
    segments: Segments,
    file_name: str,
    *,
    image_id: int = 1,
    category_ids: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """One picture as a COCO dictionary with `info`, `images`, `annotations` and `categories`.

    Args:
        segments: the regions.
        file_name: what the picture is called.
        image_id: the number of the picture.
        category_ids: label -> category id; by default labels are numbered from 1 in the order in
            which they appear, and regions without a label are of the category "object".

    Raises:
        SegmentsError: `category_ids` lacks a label, or a region has none.
    """
    numbers = dict(category_ids) if category_ids is not None else {}
    annotations = _annotations(segments, image_id, numbers, fixed=category_ids is not None)
    return {
        "info": _info(),
        "images": [_image(segments, {"id": image_id, "file_name": file_name})],
        "annotations": annotations,
        "categories": _categories(numbers),
    }


def write_coco(
    path: str | Path,
    segments: Segments,
    file_name: str,
    *,
    image_id: int = 1,
    category_ids: Mapping[str, int] | None = None,
) -> None:
    """Write one picture's regions as a COCO file: :func:`coco_dict`, atomically.

    Raises:
        SegmentsError: as :func:`coco_dict`.
        OSError: the file cannot be written.
    """
    content = coco_dict(segments, file_name, image_id=image_id, category_ids=category_ids)
    with atomic_write(path) as stream:
        _dump(stream, content)
        stream.write(b"\n")


def write_coco_dataset(
    path: str | Path,
    pictures: Iterable[tuple[Mapping[str, Any], Segments]],
    *,
    category_ids: Mapping[str, int] | None = None,
    keep_ids: bool = False,
) -> int:
    """Write the regions of many pictures as one COCO file, picture by picture.

    Args:
        path: where the file goes (see `atomic_write`).
        pictures: the `images` record of each picture (with `file_name`, and `id` unless the
            pictures are to be numbered from 1; other entries are kept) and its regions. May be a
            generator: only one picture's regions are held.
        category_ids: as in :func:`coco_dict`.
        keep_ids: whether regions keep their own ids; by default they are numbered from 1.

    Returns:
        The number of pictures.

    Raises:
        SegmentsError: an id appears twice or is missing, or as :func:`coco_dict`.
        OSError: the file cannot be written; nothing is left then.
    """
    numbers = dict(category_ids) if category_ids is not None else {}
    images: dict[int, dict[str, Any]] = {}
    taken: set[int] = set()
    with atomic_write(path) as stream:
        stream.write(b'{"info": ')
        _dump(stream, _info())
        stream.write(b',\n"annotations": [')
        for record, segments in pictures:
            image = _image(segments, {"id": len(images) + 1, **record})
            if image["id"] in images:
                raise SegmentsError(f"the picture id {image['id']} appears twice.")
            images[image["id"]] = image
            if not keep_ids:
                first = len(taken) + 1
                segments = segments.with_ids(range(first, first + len(segments)))
            elif None in segments.ids:
                raise SegmentsError(f"a region of picture {image['id']} has no id to keep.")
            fixed = category_ids is not None
            for annotation in _annotations(segments, image["id"], numbers, fixed=fixed):
                if annotation["id"] in taken:
                    raise SegmentsError(f"the annotation id {annotation['id']} appears twice.")
                stream.write(b"\n" if not taken else b",\n")
                _dump(stream, annotation)
                taken.add(annotation["id"])
        stream.write(b'],\n"images": ')
        _dump(stream, list(images.values()))
        stream.write(b',\n"categories": ')
        _dump(stream, _categories(numbers))
        stream.write(b"}\n")
    return len(images)


def _annotations(
    segments: Segments, image_id: int, numbers: dict[str, int], *, fixed: bool
) -> list[dict[str, Any]]:
    """Records of one picture; new labels are added to `numbers` unless these are fixed."""
    if fixed:
        return segments.to_coco(image_id=image_id, category_ids=numbers)
    records = segments.to_coco(image_id=image_id)
    for record, label in zip(records, segments.labels):
        name = UNLABELLED if label is None else label
        record["category_id"] = numbers.setdefault(name, len(numbers) + 1)
    return records


def _image(segments: Segments, record: Mapping[str, Any]) -> dict[str, Any]:
    height, width = segments.size
    return {**record, "height": height, "width": width}


def _categories(numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    # A file without regions still says what they would have been.
    listed = numbers or {UNLABELLED: 1}
    return [{"id": number, "name": name} for name, number in listed.items()]


def _info() -> dict[str, str]:
    return {"description": "made by anymask", "version": __version__}


def _dump(stream: BinaryIO, value: Any) -> None:
    stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8"))
