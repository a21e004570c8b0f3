"""Scenes on disk: the files agree with each other, and nothing is lost when a run stops."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pycocotools.coco import COCO
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.coco import CocoDataset
from anymask.data.scenes import make_scene
from anymask.data.scenes.files import World, scene_vocabulary, write_scenes
from anymask.errors import DataError, InputError
from anymask.ops.rle import decode, from_coco_any
from anymask.vocabulary import Vocabulary

SIZE = 64


def make(folder: Path, **changes: Any) -> Path:
    world = World(**{"count": 60, "seed": 2, "size": SIZE, "split": "train", **changes})
    for _ in write_scenes(folder, world):
        pass
    return folder


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("scenes") / "train")


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("scenes") / "val", split="val")


def load(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}.json").read_text())


def mask_of(row: dict[str, Any]) -> Any:
    return decode(from_coco_any(row["segmentation"], (SIZE, SIZE)))


def test_files_hold_the_scenes(val: Path) -> None:
    data = CocoDataset.read(val / "everything.json", val / "images")
    for image_id in data.image_ids[:10]:
        scene = make_scene(2, image_id - 1, SIZE, "val")
        assert (data.read_image(image_id).pixels == scene.image).all()
        found = data.annotations_of(image_id)
        assert list(found.labels) == [o.thing.name for o in scene.objects]
        assert (found.masks == np.stack([scene.mask(k) for k in range(len(found))])).all()


def test_pycocotools_reads_them(val: Path) -> None:
    coco = COCO(val / "instances.json")
    row = coco.loadAnns(coco.getAnnIds(imgIds=1))[0]
    assert coco.annToMask(row).sum() == row["area"]
    assert len(coco.getCatIds()) == 72


def test_training_files_hide_what_has_no_label(train: Path) -> None:
    names = {row["id"]: row for row in load(train, "everything")["categories"]}
    everything, labelled = load(train, "everything"), load(train, "instances")
    groups = {names[row["category_id"]]["group"] for row in everything["annotations"]}
    assert groups == {"known", "seen"}
    kept = [r for r in everything["annotations"] if names[r["category_id"]]["group"] == "known"]
    assert kept == labelled["annotations"]
    assert {row["group"] for row in labelled["categories"]} == {"known"}
    ids = {row["id"] for row in labelled["annotations"]}
    assert {i for p in load(train, "phrases")["phrases"] for i in p["annotation_ids"]} <= ids
    assert {row["id"] for row in load(train, "lvis")["annotations"]} <= ids


def test_parts_make_up_their_things(val: Path) -> None:
    wholes = {row["id"]: row for row in load(val, "everything")["annotations"]}
    parts: dict[int, list[Any]] = {}
    for row in load(val, "parts")["annotations"]:
        parts.setdefault(row["instance_id"], []).append(mask_of(row))
    assert parts.keys() == wholes.keys()
    for number, masks in list(parts.items())[:200]:
        assert (np.sum(masks, 0) == mask_of(wholes[number])).all()


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_panoptic_map_agrees(split: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(split)
    panoptic, instances = load(folder, "panoptic"), load(folder, "instances")
    categories = {row["id"]: row for row in panoptic["categories"]}
    for row in panoptic["annotations"][:20]:
        colors = np.asarray(PIL.Image.open(folder / "panoptic" / row["file_name"])).astype(int)
        ids = colors @ [1, 256, 65536]
        listed = {s["id"]: s for s in row["segments_info"]}
        assert set(np.unique(ids)) - {0} == set(listed)
        things = []
        for number, segment in listed.items():
            assert (ids == number).sum() == segment["area"]
            if categories[segment["category_id"]]["isthing"]:
                things.append(np.asarray(ids == number))
        mine = [a for a in instances["annotations"] if a["image_id"] == row["image_id"]]
        assert len(things) == len(mine)
        for mask, record in zip(things, mine):
            assert (mask == mask_of(record)).all()
        if split == "val":
            assert (ids > 0).all()


def test_the_lvis_file_is_federated(val: Path) -> None:
    lvis, everything = load(val, "lvis"), load(val, "everything")
    present: dict[int, dict[int, int]] = {}
    for row in everything["annotations"]:
        per_image = present.setdefault(row["image_id"], {})
        per_image[row["category_id"]] = per_image.get(row["category_id"], 0) + 1
    outlined: dict[int, dict[int, int]] = {}
    for row in lvis["annotations"]:
        per_image = outlined.setdefault(row["image_id"], {})
        per_image[row["category_id"]] = per_image.get(row["category_id"], 0) + 1
    unchecked = incomplete = 0
    for image in lvis["images"]:
        there, drawn = present.get(image["id"], {}), outlined.get(image["id"], {})
        negative, loose = image["neg_category_ids"], image["not_exhaustive_category_ids"]
        assert negative
        assert not set(negative) & set(there)
        assert set(loose) <= set(drawn)
        unchecked += len(set(there) - set(drawn))
        for category, count in drawn.items():
            assert count == there[category] or category in loose
            incomplete += count < there[category]
    assert unchecked > 10
    assert incomplete > 0
    for row in lvis["categories"]:
        pictures = {a["image_id"] for a in lvis["annotations"] if a["category_id"] == row["id"]}
        assert row["image_count"] == len(pictures)
        thresholds = "r" if len(pictures) <= 10 else "c" if len(pictures) <= 100 else "f"
        assert row["frequency"] == thresholds


def test_the_vocabulary_comes_back(val: Path) -> None:
    read = Vocabulary.read(val / "vocabulary.json")
    assert read == scene_vocabulary()
    assert len(read.things) == 72
    assert len(read.stuff) == 13
    assert len(read.group("unseen")) == 16
    assert read.find("automobile") == read.find("car")


def digests(folder: Path) -> dict[str, str]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_workers_and_resuming_change_nothing(train: Path, tmp_path: Path) -> None:
    steps = write_scenes(tmp_path / "a", World(60, 2, SIZE, "train"))
    for _ in range(20):
        next(steps)
    steps.close()
    assert not (tmp_path / "a" / "instances.json").exists()
    done = list(write_scenes(tmp_path / "a", World(60, 2, SIZE, "train"), workers=2))
    assert done == list(range(1, 61))
    assert digests(tmp_path / "a") == digests(train)


def test_a_killed_run_is_continued(train: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    command = ["scenes", folder, "--count", "60", "--seed", "2", "--size", str(SIZE)]
    arguments = [sys.executable, "-m", "anymask", *map(str, command)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("images/0*.png"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == 0, result.output
    assert "60 scenes" in result.output
    for leftover in folder.rglob(".*anymask-part"):
        leftover.unlink()
    assert digests(folder) == digests(train)


def test_a_folder_of_another_world_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "w", count=1)
    with pytest.raises(DataError, match="seed 2, size 64, split train"):
        make(tmp_path / "w", count=1, seed=3)
    (tmp_path / "w" / "scenes.json").write_text("{")
    with pytest.raises(DataError, match="is broken"):
        make(tmp_path / "w", count=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds no scenes"):
        make(tmp_path / "mine")
    with pytest.raises(InputError, match="at least one"):
        make(tmp_path / "x", count=0)
    with pytest.raises(InputError, match="32 to 1024"):
        make(tmp_path / "x", size=2000)
    assert not (tmp_path / "x").exists()


def test_more_scenes_are_added_to_a_finished_folder(tmp_path: Path) -> None:
    make(tmp_path / "w", count=3)
    make(tmp_path / "w", count=6)
    assert digests(tmp_path / "w") == digests(make(tmp_path / "once", count=6))
