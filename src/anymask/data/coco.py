"""Reading COCO-style instance files: COCO, LVIS, and what this project writes.

The file is scanned once. Pictures and categories are kept as they stand; of each annotation only
its picture, its id, its category and its place in the file are, and the record itself is parsed
again from the file when asked for. LVIS (1.3 million annotations, 1.1 GB) so costs some hundred
megabytes instead of the five gigabytes of its parsed polygons.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anymask.data.json_stream import JsonFile, JsonText
from anymask.errors import DataError, SegmentsError
from anymask.image import Image, read_image
from anymask.segments import Segments

# What is kept of an annotation; the size of the mask is 0 for polygons.
_COLUMNS: Final = "id image_id category_id mask_height mask_width begin length".split()  # noqa: SIM905


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """Pictures and their annotated regions; made by :meth:`read`.

    Attributes:
        path: the annotation file.
        images_dir: the folder that the pictures' file names are relative to.
        images: the `images` records as they stand in the file (LVIS's `neg_category_ids` and
            `not_exhaustive_category_ids` included), in its order.
        categories: the `categories` records as they stand.
        info: every other small entry of the file (`info`, `licenses`, ...).
    """

    path: Path
    images_dir: Path
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    info: dict[str, Any]
    _index: _Index = field(repr=False)

    @classmethod
    def read(cls, json_path: str | Path, images_dir: str | Path | None = None) -> CocoDataset:
        """Scan an annotation file.

        Args:
            json_path: a COCO-style instances file: `images` (with `id`, `height`, `width`),
                `annotations` (with `id`, `image_id`, `segmentation`), `categories`.
            images_dir: the folder of the pictures; by default the folder of the file.

        Raises:
            DataError: the file is missing, is not JSON, is cut off, lacks a key, has an id twice,
                has an annotation that points at no picture or category, or has a mask of another
                size than its picture.
        """
        path = Path(json_path)
        images_dir = path.parent if images_dir is None else Path(images_dir)
        file = JsonFile(path)
        scan = _scan(file)
        index = _Index.build(file, scan)
        return cls(path, images_dir, scan.images, scan.categories, scan.other, index)

    # ---------------------------------------------------------------------------- pictures

    @property
    def image_ids(self) -> list[int]:
        """The picture numbers, in the order of the file."""
        return [record["id"] for record in self.images]

    @property
    def names(self) -> dict[int, str]:
        """Category id -> name."""
        return {record["id"]: record["name"] for record in self.categories}

    def __len__(self) -> int:
        """Pictures."""
        return len(self.images)

    def image_record(self, image_id: int) -> dict[str, Any]:
        """The `images` record of a picture.

        Raises:
            DataError: there is no such picture.
        """
        return self._index.image(image_id)

    def image_path(self, image_id: int) -> Path:
        """The file of a picture: `file_name`, or else the last two parts of `coco_url` (LVIS).

        Raises:
            DataError: there is no such picture, or it has neither.
        """
        record = self.image_record(image_id)
        file_name, address = record.get("file_name"), record.get("coco_url")
        if isinstance(file_name, str):
            return self.images_dir / file_name
        if isinstance(address, str):
            return self.images_dir.joinpath(*address.split("/")[-2:])
        raise DataError(f"{self.path}: picture {image_id} has neither file_name nor coco_url.")

    def read_image(self, image_id: int) -> Image:
        """Read a picture.

        Raises:
            ImageError: the file is missing or broken.
            DataError: there is no such picture, or it has another size than the file says.
        """
        record = self.image_record(image_id)
        image = read_image(self.image_path(image_id))
        if image.size != (record["height"], record["width"]):
            raise DataError(
                f"{self.path}: picture {image_id} is {record['height']}x{record['width']} (height "
                f"x width) by its record, but {image.path} has {image.height}x{image.width}."
            )
        return image

    # ------------------------------------------------------------------------- annotations

    @property
    def num_annotations(self) -> int:
        """Annotations of the pictures of this data set."""
        return sum(self._index.count(record["id"]) for record in self.images)

    def records_of(self, image_id: int) -> list[dict[str, Any]]:
        """The annotation records of a picture as they stand in the file, in its order.

        Raises:
            DataError: there is no such picture, or the file has changed since it was scanned.
        """
        return self._index.records(image_id)

    def annotations_of(self, image_id: int, crowd: bool = True) -> Segments:
        """The annotated regions of a picture, labelled with the names of their categories.

        Args:
            image_id: the picture.
            crowd: whether regions that hold many objects (`iscrowd`) are among them.

        Returns:
            Rows in the order of :meth:`records_of`; `ids` are the annotations' numbers.

        Raises:
            DataError: there is no such picture, or a mask is broken.
        """
        record = self.image_record(image_id)
        rows = self.records_of(image_id)
        if not crowd:
            rows = [row for row in rows if not row.get("iscrowd")]
        try:
            return Segments.from_coco(
                rows, (record["height"], record["width"]), self.names if self.categories else None
            )
        except SegmentsError as error:
            raise DataError(f"{self.path}: picture {image_id}: {error}") from error

    def subset(self, image_ids: Iterable[int]) -> CocoDataset:
        """The same data set with only some of its pictures, in the given order.

        Raises:
            DataError: one of them does not exist.
        """
        kept = {image_id: self.image_record(image_id) for image_id in image_ids}
        return replace(self, images=list(kept.values()), _index=replace(self._index, by_id=kept))

    def digest(self) -> str:
        """SHA-256 of the annotation file, in hex: what a report calls the data."""
        with self.path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()


# ----------------------------------------------------------------------------------- the index


@dataclass(frozen=True, eq=False)
class _Index:
    """Where the annotations of each picture lie in the file."""

    file: JsonFile
    by_id: dict[int, dict[str, Any]]
    begins: NDArray[np.int64]
    lengths: NDArray[np.int64]
    rows: dict[int, NDArray[np.intp]]

    @classmethod
    def build(cls, file: JsonFile, scan: _Scan) -> _Index:
        path = file.path
        by_id: dict[int, dict[str, Any]] = {}
        for number, record in enumerate(scan.images):
            where = f"{path}: images[{number}]"
            for key in ("id", "height", "width"):
                if not _is_int(record.get(key)):
                    raise DataError(f"{where} has no whole number {key!r}.")
            if record["height"] < 1 or record["width"] < 1:
                raise DataError(f"{where} is {record['height']}x{record['width']} pixels.")
            if record["id"] in by_id:
                raise DataError(f"{path}: the picture id {record['id']} appears twice.")
            by_id[record["id"]] = record
        categories: set[int] = set()
        for number, record in enumerate(scan.categories):
            if not _is_int(record.get("id")) or not isinstance(record.get("name"), str):
                raise DataError(f"{path}: categories[{number}] needs a number id and a name.")
            if record["id"] in categories:
                raise DataError(f"{path}: the category id {record['id']} appears twice.")
            categories.add(record["id"])
        columns = np.frombuffer(scan.annotations, np.int64).reshape(-1, len(_COLUMNS)).T
        table = dict(zip(_COLUMNS, columns))
        _check_pointers(path, table, by_id, categories)
        image_ids, begins, lengths = table["image_id"], table["begin"], table["length"]
        # Sorting by picture keeps the order of the file within each.
        order = np.argsort(image_ids, kind="stable")
        present, starts = np.unique(image_ids[order], return_index=True)
        groups = np.split(order, starts[1:]) if len(order) else []
        rows = {int(image_id): group for image_id, group in zip(present, groups)}
        return cls(file, by_id, begins.copy(), lengths.copy(), rows)

    def image(self, image_id: int) -> dict[str, Any]:
        try:
            return self.by_id[image_id]
        except KeyError:
            raise DataError(f"{self.file.path} has no picture with the id {image_id}.") from None

    def count(self, image_id: int) -> int:
        return len(self.rows.get(image_id, ()))

    def records(self, image_id: int) -> list[dict[str, Any]]:
        self.image(image_id)
        rows = self.rows.get(image_id)
        if rows is None:
            return []
        places = zip(self.begins[rows].tolist(), self.lengths[rows].tolist(), strict=True)
        return self.file.records(list(places))


def _check_pointers(
    path: Path,
    table: dict[str, NDArray[np.int64]],
    images: dict[int, dict[str, Any]],
    categories: set[int],
) -> None:
    ids, image_ids = table["id"], table["image_id"]
    unique, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: the annotation id {unique[counts > 1][0]} appears twice.")
    sizes = np.array(
        sorted((number, image["height"], image["width"]) for number, image in images.items()),
        np.int64,
    ).reshape(-1, 3)
    for row in np.flatnonzero(~np.isin(image_ids, sizes[:, 0]))[:1]:
        raise DataError(
            f"{path}: annotation {ids[row]} belongs to picture {image_ids[row]}, which is not in "
            "the file."
        )
    known = np.array(sorted(categories), np.int64)
    for row in np.flatnonzero(~np.isin(table["category_id"], known))[: 1 if categories else 0]:
        raise DataError(
            f"{path}: annotation {ids[row]} has the category {table['category_id'][row]}, which is "
            "not in the file."
        )
    if len(ids) == 0:
        return
    expected = sizes[np.searchsorted(sizes[:, 0], image_ids), 1:]
    given = np.stack([table["mask_height"], table["mask_width"]], axis=1)
    wrong = (given[:, 0] > 0) & (given != expected).any(axis=1)
    for row in np.flatnonzero(wrong)[:1]:
        raise DataError(
            f"{path}: the mask of annotation {ids[row]} was made for {given[row, 0]}x"
            f"{given[row, 1]} (height x width), but picture {image_ids[row]} has "
            f"{expected[row, 0]}x{expected[row, 1]}."
        )


# ---------------------------------------------------------------------------------- the scanner


@dataclass
class _Scan:
    images: list[dict[str, Any]] = field(default_factory=list)
    categories: list[dict[str, Any]] = field(default_factory=list)
    # _COLUMNS of one annotation after the other: a list of Python numbers would take 6 times more.
    annotations: array[int] = field(default_factory=lambda: array("q"))
    other: dict[str, Any] = field(default_factory=dict)


def _scan(file: JsonFile) -> _Scan:
    scan = _Scan()
    path = file.path
    with file.open() as stream:
        text = JsonText(stream, path)
        seen = set()
        for key in text.members("a COCO-style file is a JSON object with images and annotations"):
            seen.add(key)
            _scan_entry(text, key, scan)
        text.end()
    missing = [key for key in ("images", "annotations") if key not in seen]
    if missing:
        raise DataError(
            f"{path} has no {' and no '.join(missing)}: a COCO-style file with images, annotations "
            "and categories is expected."
        )
    return scan


def _scan_entry(text: JsonText, key: str, scan: _Scan) -> None:
    if key == "annotations":
        for number, (record, begin, length) in enumerate(text.items(key)):
            scan.annotations.extend(_annotation_row(text.path, number, record, begin, length))
    elif key in ("images", "categories"):
        records = scan.images if key == "images" else scan.categories
        for number, (record, _, _) in enumerate(text.items(key, as_utf8=True)):
            if not isinstance(record, dict):
                raise DataError(f"{text.path}: {key}[{number}] is not an object.")
            records.append(record)
    else:
        scan.other[key] = text.value(as_utf8=True)[0]


def _annotation_row(
    path: Path, number: int, record: Any, begin: int, length: int
) -> tuple[int, int, int, int, int, int, int]:
    where = f"{path}: annotations[{number}]"
    if not isinstance(record, dict):
        raise DataError(f"{where} is not an object.")
    for key in ("id", "image_id"):
        if not _is_int(record.get(key)):
            raise DataError(f"{where} has no whole number {key!r}.")
    if not record.get("segmentation"):
        raise DataError(
            f"{where} (id {record['id']}) has no segmentation; anymask works on masks, and a file "
            "of boxes alone cannot be used."
        )
    height = width = 0
    segmentation = record["segmentation"]
    if isinstance(segmentation, dict):
        size = segmentation.get("size")
        if not isinstance(size, list) or len(size) != 2 or not all(_is_int(n) for n in size):
            raise DataError(f"{where} (id {record['id']}) has a mask without a size [H, W].")
        height, width = size
    category = record.get("category_id", -1)
    if not _is_int(category):
        raise DataError(f"{where} has a category_id that is not a whole number.")
    return record["id"], record["image_id"], category, height, width, begin, length


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
