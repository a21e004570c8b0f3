"""Scenes as files: pictures, and their truth in the formats people use.

DIR/
  scenes.json        what the folder was made from, and how far it got
  images/            000000.png, ...
  panoptic/          COCO panoptic PNGs
  instances.json     COCO instances: what a training may see (known things; in val all)
  everything.json    COCO instances of all things, with their groups
  parts.json         COCO instances of parts; each names the instance it belongs to
  panoptic.json      COCO panoptic, of what instances.json labels, and stuff
  lvis.json          LVIS-style: federated, with negative and not-exhaustive lists
  phrases.json       referring phrases: the annotations of everything.json that each means
  captions.json      COCO captions
  vocabulary.json    names, synonyms, thing or stuff, groups
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.data.formats.atomic import atomic_write
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.dice import Dice
from anymask.data.scenes.language import caption_of, phrases_of
from anymask.data.scenes.palette import STUFF
from anymask.data.scenes.scene import SPLITS, Scene, Split, make_scene
from anymask.errors import DataError, InputError
from anymask.ops.rle import encode, to_coco_str
from anymask.vocabulary import Category, Vocabulary

FIRST_STUFF_ID = 101
FIRST_PART_ID = 1001
INSTANCES_A_PICTURE = 100  # annotation id = image id * 100 + position of the thing + 1
PARTS_AN_INSTANCE = 20  # part annotation id = instance id * 20 + number of the part

THING_IDS = {thing.name: number for number, thing in enumerate(THINGS, 1)}
STUFF_IDS = {stuff.name: number for number, stuff in enumerate(STUFF, FIRST_STUFF_ID)}
PART_IDS = {
    (thing.name, part): FIRST_PART_ID + number
    for number, (thing, part) in enumerate((t, p) for t in THINGS for p in t.parts)
}


def scene_vocabulary() -> Vocabulary:
    """All things and stuff of the scenes world; the ids are those of its files."""
    things = [
        Category(t.name, THING_IDS[t.name], t.synonyms, is_thing=True, group=t.group)
        for t in THINGS
    ]
    stuff = [Category(s.name, STUFF_IDS[s.name], s.synonyms, is_thing=False) for s in STUFF]
    return Vocabulary((*things, *stuff), title="scenes")


@dataclass(frozen=True)
class World:
    """What a folder of scenes is made from."""

    count: int
    seed: int = 0
    size: int = 256
    split: Split = "train"


def write_scenes(folder: Path, world: World, workers: int = 1) -> Iterator[int]:
    """Make the scenes of a world as files, yielding the number of finished pictures as it grows.

    An interrupted call is continued by the same call: pictures that are there are kept. The JSON
    files appear at the end, each at once.

    Args:
        folder: made if need be.
        world: how many scenes and which.
        workers: processes that draw.

    Raises:
        InputError: size, split or count are out of range.
        DataError: the folder holds the scenes of another world.
        OSError: a file cannot be written.
    """
    if world.count < 1:
        raise InputError(f"a world has at least one scene, not {world.count}.")
    make_scene(world.seed, 0, world.size, world.split)  # checks the arguments
    _claim(folder, world)
    collected: dict[str, list[dict[str, Any]]] = {}
    for done, records in enumerate(_draw_all(folder, world, workers), 1):
        for name, rows in records.items():
            collected.setdefault(name, []).extend(rows)
        yield done
    for name, content in _documents(world, collected).items():
        with atomic_write(folder / f"{name}.json") as stream:
            stream.write(json.dumps(content).encode())
    with atomic_write(folder / "vocabulary.json") as stream:
        stream.write(scene_vocabulary().to_json().encode())
    _mark(folder, world, complete=True)


def _draw_all(folder: Path, world: World, workers: int) -> Iterable[dict[str, Any]]:
    draw = partial(_draw_one, folder, world)
    if workers <= 1:
        yield from map(draw, range(world.count))
        return
    with ProcessPoolExecutor(workers) as pool:
        try:
            yield from pool.map(draw, range(world.count), chunksize=8)
        finally:
            pool.shutdown(cancel_futures=True)


def _claim(folder: Path, world: World) -> None:
    marker = folder / "scenes.json"
    if marker.is_file():
        try:
            there = json.loads(marker.read_text(encoding="utf-8"))
            other = {key: there[key] for key in ("seed", "size", "split")}
        except (ValueError, KeyError, TypeError):
            raise DataError(f"{marker} is broken: delete it, or give another folder.") from None
        if other != {"seed": world.seed, "size": world.size, "split": world.split}:
            raise DataError(
                f"{folder} holds scenes of seed {other['seed']}, size {other['size']}, split "
                f"{other['split']}: give another folder, or the same values."
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty and holds no scenes: give another folder.")
    _mark(folder, world, complete=False)


def _mark(folder: Path, world: World, *, complete: bool) -> None:
    with atomic_write(folder / "scenes.json") as stream:
        stream.write(json.dumps({**vars(world), "complete": complete}).encode())


# --------------------------------------------------------------------------------- one scene


def _draw_one(folder: Path, world: World, index: int) -> dict[str, list[dict[str, Any]]]:
    scene = make_scene(world.seed, index, world.size, world.split)
    name = f"{index:06}.png"
    panoptic, segments = _panoptic(scene)
    _write_png(folder / "images" / name, scene.image)
    _write_png(folder / "panoptic" / name, panoptic)
    return {**_records(scene, name), "panoptic": [segments | {"file_name": name}]}


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    if path.is_file():  # written whole or not at all
        return
    with atomic_write(path) as stream:
        PIL.Image.fromarray(pixels).save(stream, format="PNG", compress_level=1)


def is_labelled(scene: Scene, index: int) -> bool:
    """Whether objects[index] has a label: in training scenes only known things have one."""
    return scene.split == "val" or scene.objects[index].thing.group == "known"


def _records(scene: Scene, name: str) -> dict[str, list[dict[str, Any]]]:
    image_id = scene.index + 1
    image = {"id": image_id, "file_name": name, "height": scene.size, "width": scene.size}
    instances, parts = [], []
    for k, found in enumerate(scene.objects):
        x0, y0, x1, y1 = found.box
        number = image_id * INSTANCES_A_PICTURE + k + 1
        instance: dict[str, Any] = {
            "id": number,
            "image_id": image_id,
            "category_id": THING_IDS[found.thing.name],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": found.area,
            "iscrowd": 0,
            "segmentation": to_coco_str(encode(scene.mask(k))),
            "color": found.color,
            "pattern": found.pattern,
            "visible": round(found.visible, 4),
        }
        instances.append(instance)
        for part, mask in scene.parts(k).items():
            position = found.thing.parts.index(part) + 1
            parts.append(
                {
                    "id": number * PARTS_AN_INSTANCE + position,
                    "image_id": image_id,
                    "category_id": PART_IDS[found.thing.name, part],
                    "instance_id": number,
                    "bbox": _xywh(mask),
                    "area": int(np.count_nonzero(mask)),
                    "iscrowd": 0,
                    "segmentation": to_coco_str(encode(mask)),
                }
            )
    labelled = [row for k, row in enumerate(instances) if is_labelled(scene, k)]
    phrases = [
        {
            "id": image_id * INSTANCES_A_PICTURE + nth,
            "image_id": image_id,
            "phrase": phrase.text,
            "kind": phrase.kind,
            "annotation_ids": [instances[k]["id"] for k in phrase.objects],
        }
        for nth, phrase in enumerate(phrases_of(scene), 1)
    ]
    federated, lvis_image = _federate(scene, labelled, image)
    return {
        "images": [image],
        "instances": labelled,
        "everything": instances,
        "parts": parts,
        "lvis_images": [lvis_image],
        "lvis": federated,
        "phrases": phrases,
        "captions": [{"id": image_id, "image_id": image_id, "caption": caption_of(scene)}],
    }


def _xywh(mask: NDArray[np.bool_]) -> list[int]:
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(xs[0]), int(ys[0]), int(xs[-1] - xs[0] + 1), int(ys[-1] - ys[0] + 1)]


def _federate(
    scene: Scene, labelled: list[dict[str, Any]], image: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """LVIS's rules: of each picture only some categories are checked.

    A category that is there is checked 85 times in a hundred; one in ten of those is not
    exhaustively outlined when it has several instances, and loses some. Of the absent ones some
    are known to be absent (negative).
    """
    dice = Dice(scene.seed, scene.index, list(SPLITS).index(scene.split), 2)
    groups = ("known",) if scene.split == "train" else SPLITS["val"]
    present = Counter(row["category_id"] for row in labelled)
    checked = {category for category in sorted(present) if dice.chance(85)}
    partial_ = {c for c in sorted(checked) if present[c] > 1 and dice.chance(10)}
    kept = []
    first = set(partial_)
    for row in labelled:
        category = row["category_id"]
        if category not in checked:
            continue
        # The first instance stays, so that the category is there.
        if category in partial_ and category not in first and dice.chance(60):
            continue
        first.discard(category)
        kept.append({k: v for k, v in row.items() if k != "iscrowd"})
    everything = {THING_IDS[found.thing.name] for found in scene.objects}
    absent = [THING_IDS[t.name] for t in THINGS if t.group in groups]
    negative = dice.some([c for c in absent if c not in everything], dice.between(3, 8))
    return kept, image | {
        "neg_category_ids": sorted(negative),
        "not_exhaustive_category_ids": sorted(partial_),
    }


def _panoptic(scene: Scene) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """COCO panoptic: colours R + 256 G + 65536 B = segment id; unlabelled things are void."""
    ids = np.zeros((scene.size, scene.size), np.int32)
    info = []
    for k, found in enumerate(scene.objects):
        if is_labelled(scene, k):
            ids[scene.mask(k)] = k + 1
            x0, y0, x1, y1 = found.box
            category = THING_IDS[found.thing.name]
            info.append(_segment(k + 1, category, found.area, [x0, y0, x1 - x0, y1 - y0]))
    for name, mask in scene.stuff().items():
        number = STUFF_IDS[name] * 256  # far from the things, and another colour
        ids[mask] = number
        info.append(_segment(number, STUFF_IDS[name], int(np.count_nonzero(mask)), _xywh(mask)))
    colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], -1).astype(np.uint8)
    return colors, {"image_id": scene.index + 1, "segments_info": info}


def _segment(number: int, category_id: int, area: int, bbox: list[int]) -> dict[str, Any]:
    return {
        "id": number,
        "category_id": category_id,
        "area": area,
        "bbox": bbox,
        "iscrowd": 0,
    }


# --------------------------------------------------------------------------------- documents


def _documents(world: World, rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    info = {
        "description": "scenes made by anymask",
        "seed": world.seed,
        "size": world.size,
        "split": world.split,
        "images": "images",
    }
    groups = ("known",) if world.split == "train" else SPLITS["val"]
    things = [
        {
            "id": THING_IDS[t.name],
            "name": t.name,
            "supercategory": t.kind,
            "isthing": 1,
            "synonyms": list(t.synonyms),
            "group": t.group,
        }
        for t in THINGS
    ]
    labelled = [row for row in things if row["group"] in groups]
    stuff = [
        {"id": STUFF_IDS[s.name], "name": s.name, "supercategory": "stuff", "isthing": 0}
        for s in STUFF
    ]
    parts = [
        {"id": PART_IDS[t.name, p], "name": f"{t.name}/{p}", "supercategory": t.name}
        for t in THINGS
        for p in t.parts
    ]
    images = rows["images"]

    def coco(annotations: str, categories: list[dict[str, Any]]) -> dict[str, Any]:
        found = rows.get(annotations, [])
        return {"info": info, "images": images, "annotations": found, "categories": categories}

    return {
        "instances": coco("instances", labelled),
        "everything": coco("everything", things),
        "parts": coco("parts", parts),
        "panoptic": coco("panoptic", labelled + stuff),
        "lvis": {
            "info": info,
            "images": rows["lvis_images"],
            "annotations": rows["lvis"],
            "categories": _lvis_categories(labelled, rows["lvis"]),
        },
        "phrases": {"info": info, "images": images, "phrases": rows["phrases"]},
        "captions": {"info": info, "images": images, "annotations": rows["captions"]},
    }


def _lvis_categories(
    categories: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    instances = Counter(row["category_id"] for row in annotations)
    pictures = Counter(c for c, _ in {(r["category_id"], r["image_id"]) for r in annotations})
    return [
        row
        | {
            "synset": f"{row['name'].replace(' ', '_')}.n.01",
            "def": f"a kind of {row['supercategory']}",
            "synonyms": [row["name"], *row["synonyms"]],  # LVIS lists the name as well
            "image_count": pictures[row["id"]],
            "instance_count": instances[row["id"]],
            # LVIS: rare in at most 10 pictures, common in at most 100.
            "frequency": "rcf"[(pictures[row["id"]] > 10) + (pictures[row["id"]] > 100)],
        }
        for row in categories
    ]
