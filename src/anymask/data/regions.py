"""Named regions of pictures, one picture a line (WOW-Seg, section 4.1 of its specification).

A line is ``{"id", "image", "width", "height", "masks": [RLE, ...], "label": [name, ...],
"conversations": [...]}``: what the released converter writes, its trainer and its evaluator read.
A meta file names several such files and how each is used.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from anymask.data.coco import CocoDataset
from anymask.data.dense import DenseDataset
from anymask.data.formats.atomic import atomic_write
from anymask.errors import DataError, InputError, SegmentsError
from anymask.image import Image, read_image
from anymask.ops.polygon_fill import fill_polygons
from anymask.ops.rle import RLE, encode, encode_label_map, from_coco_any, to_coco_str
from anymask.segments import Segments

MOST = 30  # regions a line: the paper's limit, for even loads
SEPARATOR = " , "  # between the names of one answer
Pairing = Literal["position", "released"]
_BRACKETS = re.compile(r"_?\([^)]*\)")


def normalise_category(name: str) -> str:
    """A data set's class name as WOW-Seg learns it: ``bow_(decorative_ribbons)`` -> ``bow``,
    ``trash_can:body`` -> ``trash can: body``."""
    before = None
    while before != name:
        before, name = name, _BRACKETS.sub("", name)
    name = name.replace("_", " ").replace("-", " ")
    if ":" in name:
        name = ": ".join(part.strip() for part in name.split(":"))
    return " ".join(name.split())


@dataclass(frozen=True)
class RegionRecord:
    """Regions of one picture and what they are called.

    Attributes:
        id: of the record.
        image: the picture's file, relative to a root.
        size: (height, width) in pixels.
        rles: M masks.
        names: M names.
    """

    id: str
    image: str
    size: tuple[int, int]
    rles: tuple[RLE, ...]
    names: tuple[str, ...]

    def segments(self) -> Segments:
        """The regions with their names as labels."""
        return Segments(self.size, self.rles, labels=self.names)

    def to_json(self) -> dict[str, Any]:
        """The line."""
        return {
            "id": self.id,
            "image": self.image,
            "width": self.size[1],
            "height": self.size[0],
            "masks": [to_coco_str(rle) for rle in self.rles],
            "label": list(self.names),
            "conversations": [
                {"from": "human", "value": ""},
                {"from": "gpt", "value": SEPARATOR.join(self.names)},
            ],
        }


def record_of(row: Mapping[str, Any], where: str) -> RegionRecord:
    """A line's record.

    Args:
        row: the line, parsed. Without ``label`` the answer is split at its separators.
        where: for messages.

    Raises:
        DataError: a key is missing, a mask is broken or of another size, or there are more names
            than masks or the other way round.
    """
    try:
        masks = row["masks"]
        if "height" in row and "width" in row:
            size = (int(row["height"]), int(row["width"]))
        else:
            size = tuple(int(side) for side in masks[0]["size"])  # type: ignore[assignment]
        names = row.get("label")
        if names is None:
            answer = next(c["value"] for c in row["conversations"] if c["from"] == "gpt")
            names = answer.split(SEPARATOR) if masks else []
        rles = tuple(from_coco_any(mask, size) for mask in masks)
        found = RegionRecord(
            str(row["id"]), str(row["image"]), size, rles, tuple(str(n) for n in names)
        )
    except SegmentsError as error:
        raise DataError(f"{where}: {error}") from error
    except (KeyError, IndexError, TypeError, ValueError, StopIteration) as error:
        raise DataError(
            f"{where} is no record of regions (id, image, width, height, masks and label): "
            f"{error!r}"
        ) from error
    if len(found.rles) != len(found.names):
        raise DataError(f"{where} has {len(found.rles)} masks and {len(found.names)} names")
    return found


@dataclass(frozen=True)
class RegionFile(Sequence[RegionRecord]):
    """A file of such lines; each is parsed when it is asked for.

    Attributes:
        path: the file.
        root: folder that the pictures' names are relative to.
        counts: regions of every line.
    """

    path: Path
    root: Path
    counts: tuple[int, ...]
    _begins: array[int] = field(repr=False)

    @classmethod
    def read(cls, path: str | Path, root: str | Path | None = None) -> RegionFile:
        """Scan a file.

        Args:
            path: the lines.
            root: folder of the pictures; by default the folder of the file.

        Raises:
            DataError: the file is missing or a line is no such record; the message names it.
        """
        path = Path(path)
        begins, counts = array("q"), []
        try:
            with path.open("rb") as stream:
                begin = stream.tell()
                for number, line in enumerate(iter(stream.readline, b""), 1):
                    if line.strip():
                        counts.append(len(parsed(line, f"{path}:{number}").names))
                        begins.append(begin)
                    begin = stream.tell()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        return cls(path, path.parent if root is None else Path(root), tuple(counts), begins)

    def __len__(self) -> int:
        return len(self._begins)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        with self.path.open("rb") as stream:
            stream.seek(self._begins[index])
            return parsed(stream.readline(), f"{self.path}, record {index}")

    def read_image(self, index: int) -> Image:
        """The picture of a line; raises as :meth:`picture_of`."""
        return self.picture_of(self[index])

    def picture_of(self, record: RegionRecord) -> Image:
        """The picture of a record that is already parsed.

        Raises:
            ImageError: it is missing or broken.
            DataError: it has another size than its record says.
        """
        return checked_size(read_image(self.root / record.image), record, self.path)


def checked_size(image: Image, record: RegionRecord, file: Path) -> Image:
    """The picture, if it is of the size its record says; otherwise a DataError."""
    if image.size != record.size:
        raise DataError(
            f"{file}: record {record.id} was made for a picture of {record.size} (height, width), "
            f"but {image.path} has {image.size}"
        )
    return image


def parsed(line: bytes, where: str) -> RegionRecord:
    """A line's record; raises as :func:`record_of`."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where} is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where} is no JSON object")
    return record_of(row, where)


def write_regions(records: Iterable[RegionRecord], path: str | Path) -> int:
    """Write a file of lines; it appears when it is complete. Returns how many lines."""
    count = 0
    with atomic_write(path) as stream:
        for record in records:
            stream.write(json.dumps(record.to_json(), ensure_ascii=False).encode() + b"\n")
            count += 1
    return count


# ------------------------------------------------------------------------------------ sources


def regions_of_coco(
    data: CocoDataset, most: int = MOST, prefix: str = ""
) -> Iterator[RegionRecord]:
    """COCO, LVIS, PACO (its parts are categories ``thing:part``) and COCO-Stuff's pixel files.

    Crowd regions are left out; a picture with more than ``most`` regions becomes several lines.

    Args:
        data: the file.
        most: regions a line.
        prefix: put before every picture's file name.
    """
    for key in data.image_ids:
        record = data.image_record(key)
        found = data.annotations_of(key, crowd=False)
        names = tuple(normalise_category(str(label)) for label in found.labels)
        file = prefix + str(data.image_path(key).relative_to(data.images_dir))
        whole = RegionRecord(
            str(key), file, (record["height"], record["width"]), tuple(found.rles), names
        )
        yield from _split(whole, most)


def regions_of_dense(data: DenseDataset, root: Path, most: int = MOST) -> Iterator[RegionRecord]:
    """Every class of a label map is a region: COCO-Stuff and other data sets of ``data.dense``.

    Args:
        data: the data set.
        root: what the pictures' names will be relative to.
        most: regions a line.
    """
    for picture in data.pictures:
        labels = data.labels(picture)
        found = {k: rle for k, rle in encode_label_map(labels).items() if k >= 0}
        names = tuple(normalise_category(data.vocabulary.names[k]) for k in found)
        file = below(picture.image, root)
        size = (int(labels.shape[0]), int(labels.shape[1]))
        yield from _split(
            RegionRecord(picture.image.stem, file, size, tuple(found.values()), names), most
        )


def below(path: Path, root: Path) -> str:
    """The path relative to a folder, with slashes.

    Raises:
        InputError: it does not lie in there.
    """
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        raise InputError(
            f"{path} does not lie in {root}: give a --root above all pictures"
        ) from None


def regions_of_osprey(
    path: Path, prefix: str = "", pairing: Pairing = "position"
) -> Iterator[RegionRecord]:
    """Osprey's evaluation files (``lvis_val_1k_category.json``, ``paco_val_1k_category.json``).

    Args:
        path: the file.
        prefix: put before every picture's file name.
        pairing: name k belongs to annotation k (``"position"``), and one without a mask is left
            out; or, as the released converter does, to the k-th annotation that has a mask.

    Raises:
        DataError: it is another kind of file.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        for number, row in enumerate(rows):
            yield osprey_record(row, f"{path}: record {number}", prefix, pairing)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is no file of Osprey's categories: {error!r}") from error


def osprey_record(row: Any, where: str, prefix: str, pairing: Pairing) -> RegionRecord:
    try:
        size = (int(row["height"]), int(row["width"]))
        names = [normalise_category(str(name)) for name in row["categories"]]
        given = [_osprey_mask(one.get("segmentation"), size) for one in row["annotations"]]
        number, file = str(row["id"]), prefix + str(row["file_name"])
    except SegmentsError as error:
        raise DataError(f"{where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{where} is none of Osprey's: {error!r}") from error
    masks = [mask for mask in given if mask is not None]
    if pairing == "position":
        paired = [(m, n) for m, n in zip(given, names, strict=False) if m is not None]
        masks, names = [m for m, _ in paired], [n for _, n in paired]
    kept = min(len(masks), len(names))
    return RegionRecord(number, file, size, tuple(masks[:kept]), tuple(names[:kept]))


def _osprey_mask(segmentation: Any, size: tuple[int, int]) -> RLE | None:
    """Polygons by OpenCV's rule, as the released converter fills them; None if there is nothing."""
    if not segmentation:
        return None
    if isinstance(segmentation, list) and isinstance(segmentation[0], list):
        rings = [np.asarray(ring, float).reshape(-1, 2) for ring in segmentation if len(ring) >= 6]
        return encode(fill_polygons(rings, size)) if rings else None
    if isinstance(segmentation, list):
        segmentation = {"size": list(size), "counts": segmentation}
    return from_coco_any(segmentation, size)


def _split(record: RegionRecord, most: int) -> Iterator[RegionRecord]:
    """Lines of at most so many regions; a picture without any gives none."""
    count = len(record.names)
    for part, start in enumerate(range(0, count, most)):
        kept = slice(start, start + most)
        name = record.id if count <= most else f"{record.id}_{part}"
        yield RegionRecord(name, record.image, record.size, record.rles[kept], record.names[kept])
