"""Meta files: which lines or shards of regions a run learns from, and how each is used."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from anymask.data.regions import RegionFile
from anymask.data.shards import RegionShards
from anymask.errors import DataError, VocabularyError
from anymask.vocabulary import Vocabulary

Boxes = Literal["drawn", "always", "never"]
# OSM, specification 3.7: where masks are never shown as boxes, and where there are only boxes.
BOXES: dict[str, Boxes] = {
    "a847": "never", "pc459": "never", "partimagenet": "never", "pascal_part": "never",
    "v3det": "always",
}  # fmt: skip


@dataclass(frozen=True)
class RegionSource:
    """One data set of a meta file.

    Attributes:
        name: what the meta file calls it.
        file: its lines, or its shards.
        jpeg: tiles and crops are compressed anew in training (``data_augment``).
        repeat: how often it is gone through; below 1 only the head of the file is.
        most_tiles: of a picture, when it says so (``max_dynamic_patch``).
        mode: which of OSM's modes its words belong to (``mode``); the name by default.
        boxes: whether OSM may show a mask as its box (``boxes``): drawn, always or never.
        stuff: names that are no things and have no box (from ``vocabulary``).
    """

    name: str
    file: RegionFile | RegionShards
    jpeg: bool = False
    repeat: float = 1.0
    most_tiles: int | None = None
    mode: str = ""
    boxes: Boxes = "drawn"
    stuff: frozenset[str] = frozenset()

    def rows(self) -> list[int]:
        """Lines of one epoch."""
        if self.repeat < 1:
            return list(range(int(len(self.file) * self.repeat)))
        return list(range(len(self.file))) * int(self.repeat)


def read_meta(path: str | Path) -> list[RegionSource]:
    """Read a meta file (data set -> root and annotation, or shards; data_augment, repeat_time), or
    a single file of lines whose pictures lie beside it.

    Raises:
        DataError: it cannot be read, or an entry lacks something.
    """
    path = Path(path)
    if path.suffix == ".jsonl":
        return [RegionSource(path.stem, RegionFile.read(path))]
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return [_source(name, entry, path.parent) for name, entry in entries.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is no meta file (data set -> root and annotation, or shards): {error!r}"
        ) from error


def _source(name: str, entry: dict[str, Any], folder: Path) -> RegionSource:
    file: RegionFile | RegionShards
    if "shards" in entry:
        file = RegionShards.read(folder / entry["shards"])
    else:
        file = RegionFile.read(folder / entry["annotation"], folder / entry["root"])
    most, mode = entry.get("max_dynamic_patch"), str(entry.get("mode", name))
    boxes = entry.get("boxes", BOXES.get(mode, "drawn"))
    if boxes not in get_args(Boxes):
        raise DataError(f"{name}: boxes is {boxes!r}: write {', '.join(get_args(Boxes))}")
    return RegionSource(
        name,
        file,
        bool(entry.get("data_augment", False)),
        float(entry.get("repeat_time", 1)),
        None if most is None else int(most),
        mode,
        boxes,
        _stuff_of(entry.get("vocabulary")),
    )


def _stuff_of(vocabulary: str | None) -> frozenset[str]:
    if vocabulary is None:
        return frozenset()
    try:
        categories = Vocabulary.of(vocabulary).categories
    except VocabularyError as error:
        raise DataError(str(error)) from error
    return frozenset(c.name for c in categories if c.is_thing is False)
