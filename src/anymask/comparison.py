"""Two results side by side: what both found, and what only one of them did.

Without a truth a segment is shared when the other side has one with IoU 0.5 or more. With a truth
the truth's objects are what is counted: an object is found by a side when one of its segments
reaches that IoU, each segment serving one object.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from anymask.data.coco import CocoDataset
from anymask.data.json_stream import read_json
from anymask.draw import Color, annotate, line_width, write_line
from anymask.errors import DataError
from anymask.image import Image
from anymask.ops import rle as rle_ops
from anymask.ops.rle import from_coco_any
from anymask.segments import Segments

FOUND_IOU = 0.5
GROUP_COLORS: dict[str, Color] = {
    "known": (66, 133, 244),
    "seen": (251, 166, 28),
    "unseen": (229, 57, 153),
    "object": (66, 133, 244),
    "no object": (150, 150, 150),
    "shared": (66, 133, 244),
    "only here": (251, 120, 28),
}
BOX: Color = (255, 255, 0)
GAP = 6


@dataclass(frozen=True, eq=False)
class Results:
    """Segments of pictures, by file name.

    Attributes:
        name: of the file.
        pictures: file name -> segments, best first.
    """

    name: str
    pictures: Mapping[str, Segments]

    @classmethod
    def read(cls, path: str | Path, truth: CocoDataset | None = None, top: int = 100) -> Results:
        """Read a COCO file with its own images, or a list of results for those of ``truth``.

        Args:
            path: what ``anymask discover --format coco-dataset`` writes, or a COCO results list.
            truth: the data set that image ids of a list refer to.
            top: segments a picture keeps, by score.

        Raises:
            DataError: neither of the two, a list without a truth, or an unknown picture.
        """
        path = Path(path)
        content = read_json(path)
        if isinstance(content, dict):
            data = CocoDataset.read(path)
            pictures = {
                str(data.image_record(i).get("file_name", i)): data.annotations_of(i)
                for i in data.image_ids
            }
        elif truth is None:
            raise DataError(
                f"{path} is a list of results, which does not say what its pictures are called: "
                "give the data set with --truth."
            )
        else:
            pictures = dict(_of_list(path, content, truth))
        ranked = {name: s.sorted_by_score()[:top] for name, s in pictures.items()}
        return cls(path.stem, ranked)


def _of_list(path: Path, records: Any, truth: CocoDataset) -> Iterator[tuple[str, Segments]]:
    by_image: dict[Any, list[Any]] = {}
    for number, record in enumerate(records):
        if not isinstance(record, dict) or not {"image_id", "segmentation"} <= set(record):
            raise DataError(f"{path}: result {number} needs the keys image_id and segmentation")
        by_image.setdefault(record["image_id"], []).append(record)
    unknown = set(by_image) - set(truth.image_ids)
    if unknown:
        raise DataError(
            f"{path} has results of image {sorted(unknown)[0]}, which {truth.path} does not have: "
            "do both belong to the same data set?"
        )
    for image_id in truth.image_ids:
        record = truth.image_record(image_id)
        size = (record["height"], record["width"])
        mine = by_image.get(image_id, [])
        rles = [from_coco_any(r["segmentation"], size) for r in mine]
        scores = [float(r.get("score", 1.0)) for r in mine]
        yield str(record.get("file_name", image_id)), Segments(size, rles, scores=scores)


@dataclass(frozen=True, eq=False)
class Comparison:
    """One picture seen by both sides.

    Attributes:
        name: file name.
        sides: the segments of both.
        groups: per side, the group of each segment (a key of ``GROUP_COLORS``).
        boxed: per side, what only this side found: (n, 4) xyxy.
        counts: (group, who) -> objects, where who is both, first, second or neither.
        truth: the true objects, or None.
        truth_groups: their groups.
    """

    name: str
    sides: tuple[Segments, Segments]
    groups: tuple[list[str], list[str]]
    boxed: tuple[NDArray[np.float64], NDArray[np.float64]]
    counts: Counter[tuple[str, str]]
    truth: Segments | None = None
    truth_groups: tuple[str, ...] = ()

    @property
    def difference(self) -> int:
        """Objects that only one side found."""
        return len(self.boxed[0]) + len(self.boxed[1])


def pairs(first: Segments, second: Segments, least: float = FOUND_IOU) -> dict[int, int]:
    """One-to-one pairs with IoU of at least ``least`` and the largest total: row -> row."""
    if not len(first) or not len(second):
        return {}
    iou = rle_ops.iou(list(first.rles), list(second.rles))
    iou = np.where(iou >= least, iou, 0)
    rows, columns = linear_sum_assignment(-iou)
    return {int(r): int(c) for r, c in zip(rows, columns) if iou[r, c] > 0}


def compare_picture(
    name: str,
    first: Segments,
    second: Segments,
    truth: Segments | None = None,
    truth_groups: Sequence[str] = (),
) -> Comparison:
    """Compare the two sides of one picture.

    Raises:
        DataError: the sides, or the truth, belong to pictures of different sizes.
    """
    if first.size != second.size or (truth is not None and truth.size != first.size):
        raise DataError(f"{name}: the results are of pictures of different sizes.")
    sides = (first, second)
    counts: Counter[tuple[str, str]] = Counter()
    if truth is None:
        found = pairs(first, second)
        shared = (set(found), set(found.values()))
        groups = tuple(
            ["shared" if row in both else "only here" for row in range(len(side))]
            for side, both in zip(sides, shared)
        )
        boxed = tuple(
            side.boxes[[row for row in range(len(side)) if row not in both]]
            for side, both in zip(sides, shared)
        )
        counts["object", "both"] = len(found)
        counts["object", "first"] = len(first) - len(found)
        counts["object", "second"] = len(second) - len(found)
        return Comparison(name, sides, groups, boxed, counts)  # type: ignore[arg-type]
    hits = [pairs(truth, side) for side in sides]
    groups = tuple(
        [
            {hit: truth_groups[row] for row, hit in hits[s].items()}.get(k, "no object")
            for k in range(len(side))
        ]
        for s, side in enumerate(sides)
    )
    only: tuple[list[int], list[int]] = ([], [])
    for row in range(len(truth)):
        who = (row in hits[0]) + 2 * (row in hits[1])
        counts[truth_groups[row], ("neither", "first", "second", "both")[who]] += 1
        if who in (1, 2):
            only[who - 1].append(row)
    boxed = tuple(truth.boxes[rows] for rows in only)
    return Comparison(name, sides, groups, boxed, counts, truth, tuple(truth_groups))  # type: ignore[arg-type]


def compare_results(
    first: Results, second: Results, truth: CocoDataset | None = None
) -> Iterator[Comparison]:
    """Compare every picture that both sides (and the truth) have, in alphabetical order.

    The group of a true object is its category's ``group`` (``known``, ``seen``, ``unseen``), or
    "object" where the categories have none.

    Raises:
        DataError: they have no picture in common.
    """
    names = set(first.pictures) & set(second.pictures)
    by_name: dict[str, int] = {}
    if truth is not None:
        by_name = {str(r.get("file_name", r["id"])): r["id"] for r in truth.images}
        names &= set(by_name)
    if not names:
        raise DataError(
            f"{first.name} and {second.name} have no picture in common"
            + (f" with {truth.path.name}" if truth is not None else "")
            + ": their file_name entries differ."
        )
    group_of = {} if truth is None else {c["name"]: c.get("group") for c in truth.categories}
    for name in sorted(names):
        sides = first.pictures[name], second.pictures[name]
        if truth is None:
            yield compare_picture(name, *sides)
        else:
            objects = truth.annotations_of(by_name[name], crowd=False)
            groups = [group_of.get(label) or "object" for label in objects.labels]
            yield compare_picture(name, *sides, objects, groups)


def summary(comparisons: Sequence[Comparison], names: tuple[str, str]) -> str:
    """A table: per group, how many objects both found, only one, or neither."""
    total: Counter[tuple[str, str]] = Counter()
    for comparison in comparisons:
        total.update(comparison.counts)
    groups = [g for g in GROUP_COLORS if any(total[g, who] for who in _WHO)]
    heads = ["group", "both", f"only {names[0]}", f"only {names[1]}", "neither"]
    rows = [heads] + [[g, *(str(total[g, who]) for who in _WHO)] for g in groups]
    widths = [max(len(row[k]) for row in rows) for k in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if k == 0 else cell.rjust(w)
            for k, (cell, w) in enumerate(zip(row, widths))
        )
        for row in rows
    )


_WHO = ("both", "first", "second", "neither")


# ------------------------------------------------------------------------------------ drawing


def draw_comparison(
    image: Image, comparison: Comparison, names: tuple[str, str]
) -> PIL.Image.Image:
    """Both sides (and the truth, where there is one) in a row, under a line of text each.

    Segments are coloured by group; what only one side found has a yellow box on that side.
    """
    panels = [
        _panel(image, segments, groups, f"{name}: {len(boxes)} only here", boxes)
        for name, segments, groups, boxes in zip(
            names, comparison.sides, comparison.groups, comparison.boxed
        )
    ]
    if comparison.truth is not None:
        title = f"truth: {len(comparison.truth)} objects"
        nothing = np.zeros((0, 4))
        truth_groups = list(comparison.truth_groups)
        panels.insert(0, _panel(image, comparison.truth, truth_groups, title, nothing))
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    used = {g for groups in comparison.groups for g in groups} | set(comparison.truth_groups)
    shown = [group for group in GROUP_COLORS if group in used]
    legend = _legend(width, shown, panels[0].height)
    row = PIL.Image.new("RGB", (width, panels[0].height + legend.height), "white")
    x = 0
    for panel in panels:
        row.paste(panel, (x, 0))
        x += panel.width + GAP
    row.paste(legend, (0, panels[0].height))
    return row


def _panel(
    image: Image, segments: Segments, groups: list[str], title: str, boxes: NDArray[np.float64]
) -> PIL.Image.Image:
    colors = [GROUP_COLORS[group] for group in groups]
    nothing = [None] * len(segments)
    drawn = annotate(image, segments, colors=colors, texts=nothing)
    pen = PIL.ImageDraw.Draw(drawn)
    width = 2 * line_width(image.size)
    for x0, y0, x1, y1 in boxes.tolist():
        pen.rectangle((x0 - width, y0 - width, x1 + width, y1 + width), outline=BOX, width=width)
    head = write_line(title, drawn.width, image.size)
    panel = PIL.Image.new("RGB", (drawn.width, drawn.height + head.height), "white")
    panel.paste(head, (0, 0))
    panel.paste(drawn, (0, head.height))
    return panel


def _legend(width: int, groups: Sequence[str], height: int) -> PIL.Image.Image:
    words = [(group, GROUP_COLORS[group]) for group in groups]
    return write_line("box: only found here", width, (height, height), words)
