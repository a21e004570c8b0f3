"""LVIS-OW: the open-world split of LVIS v1 (SegPrompt, section 4, Table 1).

known (123)   the classes COCO shares with LVIS and the 64 most frequent ones: masks in training
seen (743)    present in training pictures, never labelled
unseen (337)  the rare classes: absent from every training picture
"""

from __future__ import annotations

import csv
import importlib.resources
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from anymask.benchmarks.open_split import (
    OpenSplit,
    Progress,
    Statistics,
    make_split,
)
from anymask.data.coco import CocoDataset
from anymask.errors import DataError, InputError
from anymask.vocabulary import Group

TRAIN_FILE = "lvis_v1_train_ow.json"
TEST_FILE = "lvis_v1_val_resplit_r.json"

# Table 1; the picture numbers follow from LVIS's own files (the paper's "<1 %" moved is 1.46 %).
EXPECTED: Mapping[str, int] = {
    "train pictures": 98_708,
    "test pictures": 21_271,
    "moved pictures": 1_462,
    "train known classes": 123,
    "train seen classes": 743,
    "train unseen classes": 0,
    "test known classes": 123,
    "test seen classes": 738,
    "test unseen classes": 337,
    "train known instances": 1_511_257,
    "train seen instances": 452_524,
    "train unseen instances": 0,
    "test known instances": 168_798,
    "test seen instances": 99_230,
    "test unseen instances": 6_457,
}
# The choices of the paper's supplementary study: unseen is what at most so many pictures show.
STUDIED = (10, 29, 55, 134)


@dataclass(frozen=True)
class LvisClass:
    """A class of LVIS v1.

    Attributes:
        id: 1..1203.
        name: LVIS's own spelling.
        group: in LVIS-OW.
        coco_id: of the COCO class with the same synset, or None.
        train_images, train_instances: in LVIS v1 train.
    """

    id: int
    name: str
    group: Group
    coco_id: int | None
    train_images: int
    train_instances: int


@lru_cache(maxsize=1)
def lvis_classes() -> tuple[LvisClass, ...]:
    """All 1,203 classes, by id."""
    file = importlib.resources.files("anymask") / "benchmarks" / "lvis_ow_classes.tsv"
    rows = csv.DictReader(file.read_text(encoding="utf-8").splitlines(), delimiter="\t")
    return tuple(
        LvisClass(
            int(row["id"]),
            row["name"],
            row["group"],  # type: ignore[arg-type]
            int(row["coco_id"]) if row["coco_id"] else None,
            int(row["train_images"]),
            int(row["train_instances"]),
        )
        for row in rows
    )


def lvis_ow_split(unseen: str = "rare") -> OpenSplit:
    """The groups of LVIS-OW.

    Args:
        unseen: ``"rare"`` (the benchmark) or ``"max-images:N"``, the classes that at most N
            training pictures show (the paper's supplementary study). A known class among them is
            unseen then.

    Raises:
        InputError: the choice is malformed.
    """
    classes = lvis_classes()
    if unseen == "rare":
        chosen = {c.id for c in classes if c.group == "unseen"}
    else:
        word, _, number = unseen.partition(":")
        if word != "max-images" or not number.isdigit():
            raise InputError(f"unseen is {unseen!r}: give rare or max-images:N")
        chosen = {c.id for c in classes if c.train_images <= int(number)}
    known = {c.id for c in classes if c.group == "known"} - chosen
    return OpenSplit(frozenset(known), frozenset(chosen))


def build_lvis_ow(
    lvis_train: CocoDataset,
    lvis_val: CocoDataset,
    coco_train: CocoDataset,
    out: Path,
    *,
    unseen: str = "rare",
    progress: Progress | None = None,
) -> Statistics:
    """Write ``lvis_v1_train_ow.json`` and ``lvis_v1_val_resplit_r.json``.

    As released, nothing is removed where COCO and LVIS outline the same object: training pictures
    have both masks.

    Args:
        lvis_train, lvis_val: LVIS v1.
        coco_train: COCO train2017 instances.
        out: folder.
        unseen: see :func:`lvis_ow_split`.
        progress: called with (done, total) pictures.

    Raises:
        DataError: a file is broken, or is another data set than it should be.
    """
    _check_is_lvis(lvis_train)
    _check_is_lvis(lvis_val)
    split = lvis_ow_split(unseen)
    names = {c.coco_id: c.id for c in lvis_classes() if c.coco_id is not None}
    if max(coco_train.names, default=0) > 90:  # LVIS numbers its classes otherwise
        raise DataError(
            f"{coco_train.path} is not COCO's instances: it has the category "
            f"{max(coco_train.names)}, and COCO's end at 90"
        )
    there = set(coco_train.image_ids)
    offset = largest_id(lvis_train)

    def coco_annotations(image_id: int) -> list[dict[str, Any]]:
        if image_id not in there:
            return []
        found = []
        for record in coco_train.records_of(image_id):
            lvis_id = names.get(record["category_id"])
            if lvis_id is not None and lvis_id in split.known:
                moved = {"id": record["id"] + offset, "category_id": lvis_id}
                found.append({**record, **moved})
        return found

    return make_split(
        lvis_train,
        lvis_val,
        split,
        out / TRAIN_FILE,
        out / TEST_FILE,
        more=coco_annotations,
        progress=progress,
    )


def largest_id(data: CocoDataset) -> int:
    """The largest annotation id of a data set."""
    return max(
        (record["id"] for image_id in data.image_ids for record in data.records_of(image_id)),
        default=0,
    )


def _check_is_lvis(data: CocoDataset) -> None:
    ids = {category["id"] for category in data.categories}
    if not ids <= {c.id for c in lvis_classes()} or not all(
        "neg_category_ids" in image for image in data.images[:1]
    ):
        raise DataError(
            f"{data.path} is not LVIS v1: its categories are other than 1 to 1203, or its pictures "
            "have no neg_category_ids."
        )
