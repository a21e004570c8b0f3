"""Data sets of parts and of boxes as named regions (OSM, section 4; specification 3.7 and 3.8).

A part is called after its object: "impala head" rather than "head".
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.data.regions import RegionRecord, below
from anymask.errors import DataError
from anymask.ops.rle import RLE, encode, from_run_lengths
from anymask.vocabulary import Vocabulary

WHOLE, REPLACED = 0.2, 0.8  # shares of samples: whole objects; parts called after their object
PART_BACKGROUND, WHOLE_BACKGROUND = 40, 158  # of PartImageNet's maps


def part_image_net_name(part: str, animal: str | None) -> str:
    """``("Quadruped Head", "impala")`` -> ``impala head``; without an object ``quadruped head``."""
    super_category, _, rest = part.partition(" ")
    return f"{animal or super_category} {rest}".lower()


@cache
def _pascal_names() -> dict[str, str]:
    return {str(c.original): c.name for c in Vocabulary.builtin("pascal-part").categories}


def pascal_part_name(raw: str) -> str | None:
    """``"person:lhand"`` -> ``human hand``; None for the surfaces that are left out, such as
    ``bus:leftside``, and for what the table does not know."""
    return _pascal_names().get(raw)


def regions_of_part_image_net(
    root: Path, split: str = "train", draws: int = 5, seed: int = 0
) -> Iterator[RegionRecord]:
    """PartImageNet's segmentation files: ``images/SPLIT``, ``annotations/SPLIT`` and
    ``annotations/SPLIT_whole``.

    The paper draws anew each time a picture is seen; here each picture gives ``draws`` lines.

    Args:
        root: its folder.
        split: ``train``, ``val`` or ``test``.
        draws: lines a picture.
        seed: of the drawing.

    Raises:
        DataError: a folder or map is missing or broken.
    """
    parts = [c.name for c in Vocabulary.builtin("partimagenet-parts").categories]
    objects = [c.name for c in Vocabulary.builtin("partimagenet-objects").categories]
    rng = np.random.default_rng(seed)
    for picture in _pictures(root / "images" / split):
        inside = picture.relative_to(root / "images" / split).with_suffix(".png")
        part_map = _map(root / "annotations" / split / inside)
        whole_map = _map(root / "annotations" / f"{split}_whole" / inside)
        there = [int(k) for k in np.unique(whole_map) if k < WHOLE_BACKGROUND]
        for draw in range(draws):
            if rng.random() < WHOLE:
                named = [(objects[k], whole_map == k) for k in there]
            else:
                replaced = bool(rng.random() < REPLACED)
                if replaced and len(there) != 1:
                    continue  # whose part it is cannot be told
                animal = objects[there[0]] if replaced else None
                named = [
                    (part_image_net_name(parts[k], animal), part_map == k)
                    for k in np.unique(part_map).tolist()
                    if k < PART_BACKGROUND
                ]
            if named:
                yield _record(f"{picture.stem}_{draw}", picture, root, named)


def regions_of_pascal_part(annotations: Path, images: Path, root: Path) -> Iterator[RegionRecord]:
    """Pascal-Part's ``Annotations_Part/*.mat`` beside VOC's pictures; objects without parts keep
    their own name.

    Args:
        annotations: folder of the ``.mat`` files.
        images: VOC's ``JPEGImages``.
        root: what the pictures' names will be relative to.

    Raises:
        DataError: there is none, or one is broken.
    """
    files = sorted(annotations.glob("*.mat"))
    if not files:
        raise DataError(f"{annotations} holds no .mat file: give Pascal-Part's Annotations_Part")
    for file in files:
        masks: dict[str, NDArray[np.bool_]] = {}
        for raw, mask in _raw_parts(file):
            masks[raw] = masks[raw] | mask if raw in masks else mask
        named = [(pascal_part_name(raw), mask) for raw, mask in masks.items()]
        kept = [(name, mask) for name, mask in named if name is not None]
        if kept:
            yield _record(file.stem, images / f"{file.stem}.jpg", root, kept)


def _raw_parts(file: Path) -> list[tuple[str, NDArray[np.bool_]]]:
    """The "object:part" masks of a ``.mat`` file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    broken = (OSError, ValueError, KeyError, AttributeError, TypeError, NotImplementedError)
    try:
        annotation = loadmat(file, squeeze_me=True, struct_as_record=False)["anno"]
        found = []
        for thing in np.atleast_1d(annotation.objects):
            parts = np.atleast_1d(thing.parts)
            name = str(getattr(thing, "class"))  # a word of the language
            found += [(f"{name}:{part.part_name}", np.asarray(part.mask) > 0) for part in parts]
            if not len(parts):
                found.append((name, np.asarray(thing.mask) > 0))
    except (*broken, MatReadError) as error:
        raise DataError(f"{file} is no annotation of Pascal-Part: {error!r}") from error
    return found


def regions_of_boxes(path: Path, prefix: str = "") -> Iterator[RegionRecord]:
    """A COCO-style file with boxes and no masks (V3Det): every box is a filled rectangle.

    Corners are rounded outwards and cut at the border (specification 3.7). Names are the built-in
    vocabulary's where the file is V3Det's, otherwise the file's own.

    Args:
        path: the file.
        prefix: put before every picture's file name.

    Raises:
        DataError: it is another kind of file, or a box has no area inside of its picture.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        names = {int(c["id"]): str(c["name"]) for c in data["categories"]}
        builtin = Vocabulary.builtin("v3det").categories
        if len(names) == len({c.id for c in builtin}):
            names = {c.id: c.name for c in builtin}
        rows: dict[int, list[Any]] = {}
        for row in data["annotations"]:
            rows.setdefault(int(row["image_id"]), []).append(row)
        for image in data["images"]:
            size = (int(image["height"]), int(image["width"]))
            given = rows.get(int(image["id"]), [])
            if given:
                yield RegionRecord(
                    str(image["id"]),
                    prefix + str(image["file_name"]),
                    size,
                    tuple(_rectangle(row["bbox"], size) for row in given),
                    tuple(names[int(row["category_id"])] for row in given),
                )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no COCO-style file of boxes: {error!r}") from error


def _rectangle(box: Any, size: tuple[int, int]) -> RLE:
    """A filled box, by its runs down the columns: there are millions of boxes."""
    x, y, width, height = (float(v) for v in box)
    x1, y1 = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
    x2 = min(size[1], int(np.ceil(x + width)))
    y2 = min(size[0], int(np.ceil(y + height)))
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"the box {box} lies outside of its picture of {size} (height, width)")
    height, columns, rows = size[0], x2 - x1, y2 - y1
    runs = np.array([rows, height - rows] * columns, np.int64)
    runs[-1] = height - y2 + (size[1] - x2) * height
    return from_run_lengths(np.concatenate([[x1 * height + y1], runs]), size)


def _pictures(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not found:
        raise DataError(f"{folder} holds no pictures: give PartImageNet's folder")
    return found


def _map(path: Path) -> NDArray[np.int64]:
    try:
        with PIL.Image.open(path) as picture:
            return np.asarray(picture).astype(np.int64)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is missing or no label map: {error}") from error


def _record(
    name: str, picture: Path, root: Path, named: list[tuple[str, NDArray[np.bool_]]]
) -> RegionRecord:
    size = (int(named[0][1].shape[0]), int(named[0][1].shape[1]))
    file = below(picture, root)
    rles = tuple(encode(np.ascontiguousarray(mask)) for _, mask in named)
    return RegionRecord(name, file, size, rles, tuple(name for name, _ in named))
