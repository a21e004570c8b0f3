"""LVIS-OW and other open splits, from small files in the real formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from shared import SHARED, needs_shared
from typer.testing import CliRunner

from anymask.benchmarks.lvis_ow import (
    EXPECTED,
    TEST_FILE,
    TRAIN_FILE,
    build_lvis_ow,
    lvis_classes,
    lvis_ow_split,
)
from anymask.benchmarks.open_split import MOVED_ID_OFFSET, OpenSplit, Statistics, make_split, survey
from anymask.cli.app import app
from anymask.data.coco import CocoDataset
from anymask.errors import DataError, InputError
from anymask.vocabulary import Vocabulary

PERSON, BANANA, AEROSOL, RARE = 793, 45, 1, 13  # known by COCO, known, seen, unseen


def annotation(number: int, image: int, category: int, **more: Any) -> dict[str, Any]:
    polygon = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]
    return {
        "id": number, "image_id": image, "category_id": category, "segmentation": polygon,
        "area": 32.0, "bbox": [1, 1, 8, 8], **more,
    }  # fmt: skip


def write(path: Path, images: list[int], rows: list[dict[str, Any]], lvis: bool = True) -> Path:
    lists = {"neg_category_ids": [2], "not_exhaustive_category_ids": []} if lvis else {}
    ids = sorted({row["category_id"] for row in rows} | {1})
    content = {
        "info": {"year": 2020},
        "images": [{"id": i, "height": 20, "width": 20, "coco_url": f"x/train2017/{i}.jpg", **lists}
                   for i in images],
        "annotations": rows,
        "categories": [{"id": c, "name": f"c{c}", "frequency": "f"} for c in ids],
    }  # fmt: skip
    path.write_text(json.dumps(content))
    return path


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """O13: picture 1 is rare only, 2 known and seen, 3 known and rare."""
    train = [
        annotation(10, 1, RARE),
        annotation(11, 2, BANANA),
        annotation(12, 2, AEROSOL),
        annotation(13, 3, PERSON),
        annotation(14, 3, RARE),
    ]
    val = [annotation(5, 9, PERSON), annotation(6, 9, RARE)]
    coco = [
        annotation(1, 2, 1, iscrowd=1),  # person
        annotation(2, 2, 58),  # hot dog: no class of LVIS
        annotation(3, 3, 1),  # on a picture that moves
        annotation(4, 77, 1),  # on a picture LVIS does not have
    ]
    return {
        "train": write(tmp_path / "train.json", [1, 2, 3], train),
        "val": write(tmp_path / "val.json", [9], val),
        "coco": write(tmp_path / "coco.json", [2, 3, 77], coco, lvis=False),
    }


def test_o13_numbers() -> None:
    groups = [c.group for c in lvis_classes()]
    assert [groups.count(g) for g in ("known", "seen", "unseen")] == [123, 743, 337]
    assert sum(c.coco_id is not None for c in lvis_classes()) == 79
    assert sum(c.train_instances for c in lvis_classes()) == 1_270_141
    assert EXPECTED["train pictures"] == 100_170 - EXPECTED["moved pictures"]
    assert EXPECTED["test pictures"] == 19_809 + EXPECTED["moved pictures"]
    vocabulary = Vocabulary.builtin("lvis")
    for group in ("known", "seen", "unseen"):
        assert set(vocabulary.group(group).ids) == {
            c.id for c in lvis_classes() if c.group == group
        }


def test_choices_of_unseen_classes() -> None:
    assert len(lvis_ow_split("rare").unseen) == 337
    assert lvis_ow_split("max-images:10").unseen == lvis_ow_split("rare").unseen
    large = lvis_ow_split("max-images:134")
    assert len(large.known) == 122  # one known class is as rare as that
    assert not large.known & large.unseen
    for wrong in ("common", "max-images:", "max-images:x"):
        with pytest.raises(InputError, match="rare or max-images:N"):
            lvis_ow_split(wrong)


def test_o13_resplit(files: dict[str, Path], tmp_path: Path) -> None:
    data = [CocoDataset.read(files[name]) for name in ("train", "val", "coco")]
    seen: list[tuple[int, int]] = []
    found = build_lvis_ow(*data, tmp_path, progress=lambda *step: seen.append(step))
    assert seen == [(k, 4) for k in range(1, 5)]
    train = json.loads((tmp_path / TRAIN_FILE).read_text())
    assert [image["id"] for image in train["images"]] == [2]
    rows = {row["id"]: row for row in train["annotations"]}
    # The known one of LVIS, and COCO's person with an id behind LVIS's largest.
    assert {number: row["category_id"] for number, row in rows.items()} == {11: BANANA, 15: PERSON}
    assert rows[11]["iscrowd"] == 0
    assert rows[15]["iscrowd"] == 1
    assert train["categories"] == data[0].categories
    assert train["images"][0]["neg_category_ids"] == [2]
    assert train["info"] == {"year": 2020}
    test = json.loads((tmp_path / TEST_FILE).read_text())
    assert [image["id"] for image in test["images"]] == [9, 1, 3]
    ids = [row["id"] for row in test["annotations"]]
    assert ids == [5, 6] + [n + MOVED_ID_OFFSET for n in (10, 13, 14)]
    facts = found.facts()
    assert facts["moved pictures"] == 2
    assert facts["train known instances"] == 2
    assert facts["train seen instances"] == 1
    assert facts["test unseen instances"] == 3
    assert "66.67 % of the training pictures moved" in found.table(EXPECTED)
    assert "expected 98,708" in found.table(EXPECTED)
    # Both files are data sets again.
    for name in (TRAIN_FILE, TEST_FILE):
        assert len(CocoDataset.read(tmp_path / name)) in (1, 3)


def test_unseen_classes_are_in_no_training_picture(tmp_path: Path) -> None:
    from anymask.data.scenes.files import World, write_scenes

    list(write_scenes(tmp_path / "world", World(40, seed=1, size=48, split="val")))
    data = CocoDataset.read(tmp_path / "world" / "everything.json")
    ids = {name: number for number, name in data.names.items()}
    split = OpenSplit(frozenset({ids["car"], ids["tree"]}), frozenset({ids["rocket"]}))
    statistics = make_split(data, None, split, tmp_path / "a.json", tmp_path / "b.json")
    train, test = CocoDataset.read(tmp_path / "a.json"), CocoDataset.read(tmp_path / "b.json")
    assert len(train) + len(test) == 40
    for image_id in train.image_ids:
        everything = {row["category_id"] for row in data.records_of(image_id)}
        assert ids["rocket"] not in everything
        assert {row["category_id"] for row in train.records_of(image_id)} <= split.known
    for image_id in test.image_ids:
        kept = {row["category_id"] for row in test.records_of(image_id)}
        assert ids["rocket"] in kept
    moved = survey(data, {"rocket": split.unseen, "nothing": frozenset()})
    assert moved == {"rocket": statistics.moved, "nothing": 0}
    assert statistics.facts()["train unseen instances"] == 0


def test_wrong_files_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    data = [CocoDataset.read(files[name]) for name in ("train", "val", "coco")]
    with pytest.raises(DataError, match="not LVIS v1"):
        build_lvis_ow(data[2], data[1], data[2], tmp_path)
    with pytest.raises(DataError, match="not COCO's instances"):
        build_lvis_ow(data[0], data[1], data[0], tmp_path)
    split = lvis_ow_split()
    with pytest.raises(DataError, match="share the picture"):
        make_split(data[0], data[0], split, tmp_path / "a", tmp_path / "b")
    with pytest.raises(InputError, match="both known and unseen"):
        OpenSplit(frozenset({1}), frozenset({1}))
    assert not (tmp_path / TRAIN_FILE).exists()


def test_statistics_count_classes_once() -> None:
    split = OpenSplit(frozenset({1}), frozenset({3}))
    found = Statistics()
    found.count("train", split, [annotation(1, 1, 1), annotation(2, 1, 1), annotation(3, 1, 2)])
    facts = found.facts()
    assert facts["train known classes"] == 1
    assert facts["train known instances"] == 2
    assert facts["train seen instances"] == 1


def test_the_commands(files: dict[str, Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    train = ["--lvis-train", str(files["train"])]
    result = run(
        app,
        ["benchmark", "lvis-ow", "build", *train, "--lvis-val", str(files["val"]), "--coco",
         str(files["coco"]), "--out", str(tmp_path / "ow")],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "expected 1,462" in result.output
    assert (tmp_path / "ow" / TEST_FILE).is_file()
    result = run(app, ["benchmark", "lvis-ow", "survey", *train])
    assert "337 unseen classes,       2 of 3 pictures leave" in result.output
    out = ["--out", str(tmp_path / "split")]
    split = ["benchmark", "split", "--train", str(files["train"]), *out]
    result = run(app, [*split, "--known", "c45", "--unseen", "c13"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "split" / "test.json").is_file()
    result = run(app, [*split, "--known", "c45", "--unseen", "dodo"])
    assert isinstance(result.exception, InputError)
    assert "no category 'dodo'" in str(result.exception)


@needs_shared
def test_real_lvis_records_go_through(tmp_path: Path) -> None:
    data = CocoDataset.read(SHARED / "data" / "lvis_val_100" / "lvis_val_100.json")
    chosen = sorted(data.names)[:5]
    split = OpenSplit(frozenset(chosen), frozenset(sorted(data.names)[5:15]))
    found = make_split(data, None, split, tmp_path / "a.json", tmp_path / "b.json")
    facts = found.facts()
    assert facts["train pictures"] + facts["test pictures"] == 100
    assert facts["train unseen instances"] == 0
