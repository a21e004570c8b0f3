"""Splitting any COCO-style data set for open-world evaluation (SegPrompt, section 4; LVIS-OW).

Unseen classes must be absent from training pictures, not only unlabelled: so every training picture
with an instance of one moves to the test side, and of the others only the known classes keep their
annotations. Files are read and written picture by picture.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anymask.data.coco import CocoDataset
from anymask.data.formats.atomic import atomic_write
from anymask.errors import DataError, InputError
from anymask.vocabulary import GROUPS, Group

MOVED_ID_OFFSET = 2_000_000
Records = list[dict[str, Any]]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class OpenSplit:
    """Which classes are known, and which must not appear in training.

    Attributes:
        known, unseen: category ids; every other class is seen.
    """

    known: frozenset[int]
    unseen: frozenset[int]

    def __post_init__(self) -> None:
        both = self.known & self.unseen
        if both:
            raise InputError(f"the class {min(both)} cannot be both known and unseen.")

    def group(self, category_id: int) -> Group:
        """The group of a class."""
        if category_id in self.known:
            return "known"
        return "unseen" if category_id in self.unseen else "seen"


@dataclass
class Statistics:
    """What a split made of a data set (Table 1 of the paper).

    Attributes:
        pictures: side -> pictures.
        moved: training pictures that went to the test side.
        instances: (side, group) -> annotations that exist there; of the train side's seen classes
            none are in its file.
        classes: (side, group) -> classes with an annotation.
    """

    pictures: Counter[str] = field(default_factory=Counter)
    moved: int = 0
    instances: Counter[tuple[str, str]] = field(default_factory=Counter)
    classes: dict[tuple[str, str], set[int]] = field(default_factory=dict)

    def count(self, side: str, split: OpenSplit, records: Records) -> None:
        """Take the annotations of a picture in."""
        self.pictures[side] += 1
        for record in records:
            group = split.group(record["category_id"])
            self.instances[side, group] += 1
            self.classes.setdefault((side, group), set()).add(record["category_id"])

    def facts(self) -> dict[str, int]:
        """The numbers by name."""
        found = {f"{side} pictures": self.pictures[side] for side in ("train", "test")}
        found["moved pictures"] = self.moved
        for side in ("train", "test"):
            for group in GROUPS:
                found[f"{side} {group} classes"] = len(self.classes.get((side, group), ()))
                found[f"{side} {group} instances"] = self.instances[side, group]
        return found

    def table(self, expected: Mapping[str, int] | None = None) -> str:
        """The numbers as text; beside those that were expected, where they are given."""
        facts = self.facts()
        width = max(map(len, facts))
        lines = []
        for name, value in facts.items():
            line = f"{name:<{width}}  {value:>9,}"
            if expected is not None and name in expected:
                wanted = expected[name]
                verdict = "as expected" if value == wanted else f"expected {wanted:,}"
                line += f"  {verdict}"
            lines.append(line)
        share = self.moved / max(1, self.moved + self.pictures["train"])
        return "\n".join([*lines, f"{100 * share:.2f} % of the training pictures moved"])


def make_split(
    train: CocoDataset,
    val: CocoDataset | None,
    split: OpenSplit,
    train_file: Path,
    test_file: Path,
    *,
    more: Callable[[int], Records] | None = None,
    progress: Progress | None = None,
) -> Statistics:
    """Write the training file and the test file of a split.

    Args:
        train: pictures to train on, with all their annotations.
        val: pictures that are on the test side anyway; None = none.
        split: the groups.
        train_file: gets the kept pictures with annotations of known classes only.
        test_file: gets ``val`` and the moved pictures with all their annotations; the ids of moved
            annotations grow by two million.
        more: further annotations of a kept picture, by its id, of known classes (LVIS-OW adds
            COCO's).
        progress: called with (done, total) pictures.

    Raises:
        DataError: a file is broken, or a picture is on both sides already.
        OSError: a file cannot be written; the other one may be there then.
    """
    doubled = set(train.image_ids) & set(val.image_ids if val is not None else ())
    if doubled:
        raise DataError(
            f"{train.path} and {val.path if val else ''} share the picture {min(doubled)}: a "
            "picture is on one side only."
        )
    statistics = Statistics()
    total = len(train) + (len(val) if val is not None else 0)
    done = 0
    moved: list[int] = []

    def tick() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    def train_side() -> Iterator[tuple[dict[str, Any], Records]]:
        for image in train.images:
            records = train.records_of(image["id"])
            if any(record["category_id"] in split.unseen for record in records):
                moved.append(image["id"])
                continue
            known = [r for r in records if r["category_id"] in split.known]
            added = [] if more is None else more(image["id"])
            statistics.count("train", split, [*records, *added])
            yield image, [{**r, "iscrowd": r.get("iscrowd", 0)} for r in known] + added
            tick()

    def test_side() -> Iterator[tuple[dict[str, Any], Records]]:
        for image in val.images if val is not None else ():
            records = val.records_of(image["id"]) if val is not None else []
            statistics.count("test", split, records)
            yield image, records
            tick()
        for image_id in moved:
            records = [
                {**record, "id": record["id"] + MOVED_ID_OFFSET}
                for record in train.records_of(image_id)
            ]
            statistics.count("test", split, records)
            yield train.image_record(image_id), records
            tick()

    _write(train_file, train, train_side())
    statistics.moved = len(moved)
    _write(test_file, train, test_side())
    return statistics


def survey(
    train: CocoDataset, choices: Mapping[str, frozenset[int]], progress: Progress | None = None
) -> dict[str, int]:
    """How many training pictures each choice of unseen classes would move.

    Args:
        train: the training side before the split.
        choices: name -> unseen category ids.
        progress: called with (done, total) pictures.
    """
    moved = dict.fromkeys(choices, 0)
    for done, image_id in enumerate(train.image_ids, 1):
        present = {record["category_id"] for record in train.records_of(image_id)}
        for name, unseen in choices.items():
            moved[name] += not present.isdisjoint(unseen)
        if progress is not None:
            progress(done, len(train))
    return moved


def _write(
    path: Path, like: CocoDataset, pictures: Iterable[tuple[dict[str, Any], Records]]
) -> None:
    """Write a COCO-style file annotation by annotation; categories and the rest as in ``like``."""
    images = []
    taken: set[int] = set()
    with atomic_write(path) as stream:
        stream.write(b'{"annotations": [')
        for image, records in pictures:
            images.append(image)
            for record in records:
                if record["id"] in taken:
                    raise DataError(f"{path}: the annotation id {record['id']} appears twice.")
                stream.write(b",\n" if taken else b"\n")
                stream.write(json.dumps(record, separators=(",", ":")).encode())
                taken.add(record["id"])
        stream.write(b'],\n"images": ')
        stream.write(json.dumps(images).encode())
        stream.write(b',\n"categories": ')
        stream.write(json.dumps(like.categories).encode())
        for key, value in like.info.items():
            stream.write(b",\n" + json.dumps(key).encode() + b": " + json.dumps(value).encode())
        stream.write(b"}\n")
