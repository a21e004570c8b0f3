"""Predictions of any tool, as regions by picture.

A COCO results list, or a COCO file whose annotations have scores; masks as polygons or run lengths;
either may be gzipped. The file is scanned and checked once, and a picture's masks are parsed again
when asked for: six million predictions take some hundred megabytes, not ten thousand.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anymask.data.coco import CocoDataset
from anymask.data.json_stream import JsonFile, JsonText
from anymask.errors import AnymaskError, DataError
from anymask.metrics.segmentation import Regions
from anymask.ops.rle import from_coco_any, from_coco_many

_COLUMNS: Final = 4  # picture, category, where the record begins, its length


class Predictions(Mapping[int, Regions]):
    """Image id -> regions, for the pictures that have any; made by :func:`read_predictions`.

    Looking a picture up raises DataError if a mask is broken; the message names the record.
    """

    def __init__(
        self,
        file: JsonFile,
        data: CocoDataset,
        table: NDArray[np.int64],
        with_classes: bool,
    ) -> None:
        self._file = file
        self._data = data
        self._with_classes = with_classes
        self._classes, self._begins, self._lengths = table[:, 1], table[:, 2], table[:, 3]
        # Sorting by picture keeps the order of the file within each.
        order = np.argsort(table[:, 0], kind="stable")
        present, starts = np.unique(table[order, 0], return_index=True)
        groups = np.split(order, starts[1:]) if len(order) else []
        self._rows = dict(zip(present.tolist(), groups, strict=True))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __getitem__(self, image_id: int) -> Regions:
        rows = self._rows[image_id]
        places = zip(self._begins[rows].tolist(), self._lengths[rows].tolist(), strict=True)
        records = self._file.records(list(places))
        picture = self._data.image_record(image_id)
        size = (int(picture["height"]), int(picture["width"]))
        rles = []
        quick = from_coco_many([record["segmentation"] for record in records], size)
        for row, record, read in zip(rows.tolist(), records, quick, strict=True):
            try:
                rles.append(read or from_coco_any(record["segmentation"], size))
            except AnymaskError as error:
                where = f"{self._file.path}: result {row}"
                raise DataError(f"{where} (image {image_id}): {error}") from error
        return Regions.of(
            rles,
            scores=[float(record["score"]) for record in records],
            classes=self._classes[rows] if self._with_classes else None,
        )


def read_predictions(
    path: str | Path, data: CocoDataset, *, with_classes: bool = False
) -> Predictions:
    """Scan predictions and check their records: image id -> regions.

    Args:
        path: see the module.
        data: the truth they belong to.
        with_classes: every prediction needs a category of the truth.

    Raises:
        DataError: the file is broken, or a record has an unknown picture or category, or a score
            that is no number; the message names the record. Broken masks are named when their
            picture is looked up.
    """
    file = JsonFile(path)
    columns = array("q")
    numbers = {image_id: image_id for image_id in data.image_ids}
    categories: dict[int, int] | None = None
    with file.open() as stream:
        text = JsonText(stream, file.path)
        start = text.peek()
        if start == "[":
            _scan_results(text, columns, "a list of results", with_classes)
        elif start == "{":
            seen = set()
            for key in text.members("a COCO file"):
                seen.add(key)
                if key == "annotations":
                    _scan_results(text, columns, key, with_classes)
                elif key == "images":
                    numbers = _pictures_by_name(text, data)
                elif key == "categories" and with_classes:
                    categories = _categories_by_name(text, data)
                else:
                    text.value()
            if not {"annotations", "images"} <= seen:
                raise DataError(f"{path} is not a list of results, nor a COCO file with images.")
        else:
            raise DataError(f"{path} is not a list of results, nor a COCO file with its images.")
        text.end()
    table = np.frombuffer(columns, np.int64).reshape(-1, _COLUMNS).copy()
    _renumber(
        table[:, 0],
        numbers,
        lambda row, image: (
            f"{path}: result {row} is of image {image}, which {data.path} does not have: do both "
            "belong to the same data set?"
        ),
    )
    if with_classes:
        own = {int(category["id"]): int(category["id"]) for category in data.categories}
        which = "which" if categories is None else "whose name"
        _renumber(
            table[:, 1],
            own if categories is None else categories,
            lambda row, category: (
                f"{path}: result {row} has the category {category}, {which} {data.path} does not "
                "have."
            ),
        )
    return Predictions(file, data, table, with_classes)


def _scan_results(text: JsonText, columns: array[int], key: str, with_classes: bool) -> None:
    for number, (record, begin, length) in enumerate(text.items(key)):
        where = f"{text.path}: result {number}"
        if not isinstance(record, dict) or not {"image_id", "segmentation", "score"} <= set(record):
            raise DataError(f"{where} needs the keys image_id, segmentation and score.")
        score = record["score"]
        number = isinstance(score, (int, float)) and not isinstance(score, bool)
        if not number or not math.isfinite(score):
            raise DataError(f"{where} has the score {score!r}: a finite number is needed.")
        image = _whole(record["image_id"], f"{where} has the image_id")
        category = (
            _whole(record.get("category_id"), f"{where} has the category") if with_classes else 0
        )
        columns.extend((image, category, begin, length))


def _whole(value: Any, says: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 2**63:
        raise DataError(f"{says} {value!r}: a whole number is needed.")
    return value


def _pictures_by_name(text: JsonText, data: CocoDataset) -> dict[int, int]:
    """The picture numbers of a COCO file -> those of the truth: pictures are found by name."""
    ids = _ids_by_name(data)
    numbers: dict[int, int] = {}
    names: dict[int, str] = {}
    for image, _, _ in text.items("images", as_utf8=True):
        if not isinstance(image, dict) or not isinstance(image.get("id"), int):
            raise DataError(f"{text.path} has a picture without a whole number as its id.")
        name = str(image.get("file_name", image["id"]))
        found = next((ids[end] for end in _ends(name) if ids.get(end) is not None), None)
        if found is None:
            raise DataError(
                f"{text.path} has the picture {name}, which {data.path} does not have: do both "
                "belong to the same data set?"
            )
        if found in names:
            raise DataError(
                f"{text.path} has two pictures, {names[found]} and {name}, which are both picture "
                f"{found} of {data.path}: give them different names, with their folders."
            )
        names[found] = name
        numbers[image["id"]] = found
    return numbers


def _ids_by_name(data: CocoDataset) -> dict[str, int | None]:
    """Names of pictures with and without the folders before them -> ids; None for a name without
    its folders that several pictures have."""
    whole: dict[str, int | None] = {}
    ends: dict[str, int | None] = {}
    for record in data.images:
        # LVIS has addresses instead of names.
        address = str(record.get("coco_url", record["id"])).split("/")[-2:]
        name = str(record.get("file_name") or "/".join(address))
        whole[name] = record["id"]
        for end in _ends(name)[1:]:
            ends[end] = None if end in ends else record["id"]
    return {**ends, **whole}


def _ends(name: str) -> list[str]:
    """``a/b/c.jpg`` -> itself, ``b/c.jpg`` and ``c.jpg``."""
    parts = name.split("/")
    return ["/".join(parts[k:]) for k in range(len(parts))]


def _categories_by_name(text: JsonText, data: CocoDataset) -> dict[int, int]:
    """The category numbers of a COCO file -> those of the truth, of names that both have."""
    ids = {str(c.get("name", c["id"])): int(c["id"]) for c in data.categories}
    found: dict[int, int] = {}
    for category, _, _ in text.items("categories", as_utf8=True):
        if not isinstance(category, dict) or not isinstance(category.get("id"), int):
            raise DataError(f"{text.path} has a category without a whole number as its id.")
        name = str(category.get("name", category["id"]))
        if name in ids:
            found[category["id"]] = ids[name]
    return found


def _renumber(
    column: NDArray[np.int64], numbers: Mapping[int, int], wrong: Callable[[int, int], str]
) -> None:
    """Replace the file's numbers by the truth's, in place.

    Args:
        column: of the table.
        numbers: the file's -> the truth's.
        wrong: result and its number, which is none of them -> what to say.
    """
    theirs = np.array(sorted(numbers), np.int64)
    for row in np.flatnonzero(~np.isin(column, theirs))[:1].tolist():
        raise DataError(wrong(row, int(column[row])))
    ours = np.array([numbers[number] for number in theirs.tolist()], np.int64)
    if len(column):
        column[:] = ours[np.searchsorted(theirs, column)]
