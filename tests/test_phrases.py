"""Data sets of phrases, and the metrics of answers to them."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from anymask.benchmarks.phrase_protocols import (
    answers_from,
    answers_of,
    measure_concept,
    measure_referring,
)
from anymask.cli.app import app
from anymask.data.coco import CocoDataset
from anymask.data.phrases import (
    PhraseData,
    PhraseTruth,
    class_names,
    read_phrases,
    read_refcoco,
)
from anymask.errors import DataError, InputError
from anymask.metrics.concept import ConceptMeter
from anymask.metrics.referring import ReferringMeter
from anymask.ops.rle import area, decode, encode, to_coco_str
from anymask.segments import Segments

RUN = CliRunner()


def masks(first: int, second: int, shared: int) -> tuple[np.ndarray, np.ndarray]:
    """Two masks with so many pixels, and so many in both."""
    a, b = np.zeros((1, 40), bool), np.zeros((1, 40), bool)
    a[0, :first] = True
    b[0, first - shared : first - shared + second] = True
    return a, b


def test_t13_ciou() -> None:
    meter = ReferringMeter()
    meter.add(*masks(4, 4, 2))
    meter.add(*masks(10, 10, 9))
    found = meter.summary()
    assert found["cIoU"] == pytest.approx(11 / 17)
    assert found["gIoU"] == pytest.approx((2 / 6 + 9 / 11) / 2)
    assert (found["precision@0.5"], found["precision@0.8"], found["precision@0.9"]) == (0.5, 0.5, 0)


def test_nothing_meant_and_nothing_found_is_right() -> None:
    meter = ReferringMeter()
    empty = np.zeros((2, 2), bool)
    meter.add(empty, empty)
    meter.add(empty, ~empty)
    assert meter.summary()["gIoU"] == 0.5
    assert np.isnan(ReferringMeter().summary()["cIoU"])


def test_concept_f1_by_hand() -> None:
    """The example of docs/find.md: a phrase with two things of which one is found well and one
    mask is wrong, one absent phrase answered rightly, one answered wrongly."""
    meter = ConceptMeter()
    meter.add([[0.92, 0.0], [0.0, 0.3]])
    meter.add(np.zeros((0, 0)))
    meter.add(np.zeros((1, 0)))
    found = meter.summary()
    # 0.92 passes the thresholds 0.5 ... 0.9 (nine of ten): F1 = 2 / (2 + 1 + 1) = 0.5 there.
    assert found["pmF1"] == pytest.approx(0.45)
    assert found["F1@50"] == pytest.approx(0.5)
    # found/means: tp 1, fp 1, tn 1, fn 0 -> 1 / sqrt(2 * 1 * 2 * 1) = 0.5
    assert found["presence_MCC"] == pytest.approx(0.5)
    assert found["cgF1"] == pytest.approx(0.225)
    assert found["presence_accuracy"] == pytest.approx(2 / 3)


def test_a_tool_that_always_answers_has_no_presence() -> None:
    meter = ConceptMeter()
    meter.add(np.ones((1, 1)))
    meter.add(np.ones((1, 0)))
    assert meter.summary()["pmF1"] == 1
    assert meter.summary()["cgF1"] == 0


def test_things_are_matched_one_to_one() -> None:
    meter = ConceptMeter()
    meter.add([[0.96, 0.7], [0.96, 0.0]])  # greedily the first would take the first
    assert meter.right[0] == 2
    assert meter.right[-1] == 1


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "s"
    done = RUN.invoke(
        app, ["scenes", str(folder), "--count", "4", "--size", "96", "--split", "val"]
    )
    assert done.exit_code == 0, done.output
    return folder


def perfect(folder: Path, path: Path) -> None:
    data = read_phrases(folder / "phrases.json")
    rows = [
        {"phrase_id": p.id, "segmentation": {"size": r["size"], "counts": r["counts"].decode()}}
        for p in data.phrases
        for r in p.masks
    ]
    path.write_text(json.dumps(rows))


def test_scenes_answer_themselves(scenes: Path, tmp_path: Path) -> None:
    data = read_phrases(scenes / "phrases.json")
    assert len(data) > 8
    assert any(not p.masks for p in data.phrases)
    assert {"category", "nothing"} & {p.kind for p in data.phrases}
    perfect(scenes, tmp_path / "p.json")
    answer = answers_from(tmp_path / "p.json", data)
    report = measure_referring(data, answer)
    assert report["cIoU"] == 1
    assert report["gIoU"] == 1
    report = measure_concept(data, answer)
    assert report["cgF1"] == pytest.approx(1)
    assert "kind nothing" in report.slices


def test_answers_by_text(tmp_path: Path) -> None:
    """Names with capitals fit, and what is said of two things alike answers both."""
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :4], masks[1, 4:] = True, True
    rles = [encode(mask) for mask in masks]
    phrases = (
        PhraseTruth(1, 5, "Lamp", (rles[0],), thing=1),
        PhraseTruth(2, 5, "Lamp", (rles[1],), thing=2),
        PhraseTruth(3, 5, "cup", ()),
    )
    data = PhraseData("x", {5: (8, 8)}, {}, phrases)
    row = {"image_id": 5, "phrase": "lamp", "segmentation": to_coco_str(rles[0])}
    path = tmp_path / "p.json.gz"
    path.write_bytes(gzip.compress(json.dumps([row]).encode()))
    found = answers_from(path, data)(5, phrases)
    assert {key: len(value) for key, value in found.items()} == {1: 1, 2: 1}
    other = PhraseData("x", {5: (8, 8)}, {}, phrases[:2])
    assert data.digest != other.digest
    assert measure_concept(data, answers_from(path, data)).data == {"truth": data.digest}


@pytest.mark.parametrize("protocol", ["referring", "concept"])
def test_the_command(scenes: Path, tmp_path: Path, protocol: str) -> None:
    perfect(scenes, tmp_path / "p.json")
    arguments = ["measure", protocol, "--truth", str(scenes / "phrases.json")]
    done = RUN.invoke(
        app, [*arguments, "--predictions", str(tmp_path / "p.json"), "--out", str(tmp_path / "r")]
    )
    assert done.exit_code == 0, done.output
    assert "gIoU" in done.output or "cgF1" in done.output
    assert (tmp_path / "r").is_file()
    assert RUN.invoke(app, arguments).exit_code != 0


def test_wrong_records_are_named(scenes: Path, tmp_path: Path) -> None:
    data = read_phrases(scenes / "phrases.json")
    path = tmp_path / "p.json"
    for text, message in (
        ("{}", "no list"),
        ("[", "cannot be read"),
        ('[{"phrase_id": -5, "segmentation": []}]', "record 0 fits no phrase"),
        ('[{"image_id": 1, "phrase": "x"}]', "record 0"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            answers_from(path, data)


def test_class_names_as_phrases(scenes: Path) -> None:
    file = CocoDataset.read(scenes / "everything.json")
    oracle, full = class_names(file, "oracle"), class_names(file, "full")
    assert all(p.masks for p in oracle.phrases)
    assert len(full) == len(file.names) * len(file.image_ids) > len(oracle)
    everywhere = class_names(file, "global")
    assert len({oracle.note, full.note, everywhere.note}) == 3
    assert len(everywhere) == len(full)
    with pytest.raises(InputError, match="oracle, global, full"):
        class_names(file, "all")  # type: ignore[arg-type]


def test_results_with_categories_answer_class_names(scenes: Path, tmp_path: Path) -> None:
    file = CocoDataset.read(scenes / "everything.json")
    rows = json.loads((scenes / "everything.json").read_text())["annotations"]
    results = [
        {k: row[k] for k in ("image_id", "category_id", "segmentation")} | {"score": 0.9}
        for row in rows
        if not row.get("iscrowd")
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    for use in ("oracle", "full", "global"):
        data = class_names(file, use)
        report = measure_concept(data, answers_from(path, data))
        assert report["pmF1"] == pytest.approx(1.0), use
    # Another class in its place: with oracle names it is not asked for, with all of them wrong.
    shown = {row["category_id"] for row in results if row["image_id"] == results[0]["image_id"]}
    absent = next(number for number in file.names if number not in shown)
    path.write_text(json.dumps([*results, {**results[0], "category_id": absent}]))
    scores = {}
    for use in ("oracle", "full"):
        data = class_names(file, use)
        scores[use] = measure_concept(data, answers_from(path, data))["presence_MCC"]
    assert scores["full"] < 1
    path.write_text(json.dumps([{**results[0], "category_id": 999}]))
    with pytest.raises(DataError, match="record 0 fits no phrase"):
        answers_from(path, class_names(file, "oracle"))


def test_of_masks_alike_one_has_the_name(scenes: Path, tmp_path: Path) -> None:
    PIL.Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    file = CocoDataset.read(scenes / "everything.json")
    image_id = file.image_ids[0]
    own = file.annotations_of(image_id, crowd=False)[:1]
    names = list(file.names.values())[:3]

    def find(image: Any, phrases: list[str]) -> Segments:
        parts = [
            Segments(own.size, list(own.rles), labels=[name], scores=[0.9 - 0.1 * k])
            for k, name in enumerate(names)
        ]
        return parts[0] + parts[1] + parts[2]

    for use, count in (("full", 3), ("global", 1)):
        data = class_names(file, use)  # type: ignore[arg-type]
        data = replace(data, files={image_id: tmp_path / "x.png"})
        mine = [p for p in data.phrases if p.image_id == image_id]
        answers = answers_of(find, data)(image_id, mine)
        said = {p.text for p in mine if answers[p.id]}
        assert said == set(names[:count])


def refcoco(folder: Path) -> Path:
    """The published layout, written down by hand: polygons, a pickle of plain dictionaries."""
    folder.mkdir()
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    other = [20, 20, 40, 20, 40, 40, 20, 40]
    instances = {
        "images": [{"id": 7, "file_name": "COCO_train2014_7.jpg", "height": 60, "width": 80}],
        "annotations": [
            {"id": 70, "image_id": 7, "category_id": 1, "segmentation": [square, other],
             "area": 700, "bbox": [10, 10, 30, 30], "iscrowd": 0},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(instances))
    said = [
        {"sent_id": 1, "raw": "Man on LEFT", "sent": "man on left", "tokens": ["man"]},
        {"sent_id": 2, "raw": "red shirt", "sent": "red shirt", "tokens": ["red"]},
    ]
    refs = [{"ref_id": 1, "ann_id": 70, "image_id": 7, "split": "val", "sentences": said,
             "sent_ids": [1, 2], "category_id": 1}]  # fmt: skip
    (folder / "refs(umd).p").write_bytes(pickle.dumps(refs, protocol=2))
    return folder


def test_refcoco(tmp_path: Path) -> None:
    folder = refcoco(tmp_path / "refcocog")
    first = read_refcoco(folder)
    assert [p.text for p in first.phrases] == ["man on left"]
    every = read_refcoco(folder, sentences="all")
    assert [p.text for p in every.phrases] == ["man on left", "red shirt"]
    assert first.note != every.note
    # Overlapping polygons are one mask, not a sum.
    mask = decode(first.phrases[0].masks[0])
    assert mask.shape == (60, 80)
    assert area(first.phrases[0].masks)[0] < 2 * 21 * 21
    with pytest.raises(DataError, match="no split 'testA'"):
        read_refcoco(folder, "testA")
    with pytest.raises(DataError, match=r"refs\(unc\)\.p"):
        read_refcoco(folder, split_by="unc")


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (print, ("called",))


def test_a_pickle_cannot_call_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = refcoco(tmp_path / "refcocog")
    (folder / "refs(umd).p").write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(DataError, match="wants to call"):
        read_refcoco(folder)
    assert "called" not in capsys.readouterr().out


def test_xdecoders_file(tmp_path: Path) -> None:
    square = [10, 10, 30, 10, 30, 30, 10, 30]
    file = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 60, "width": 80}],
        "annotations": [
            {"id": 1, "image_id": 7, "segmentation": [square], "ref_id": 4,
             "sentences": [{"raw": "A", "sent_id": 9}, {"raw": "B", "sent_id": 10}]},
        ],
    }  # fmt: skip
    path = tmp_path / "refcocog_umd_val.json"
    path.write_text(json.dumps(file))
    assert [p.id for p in read_phrases(path).phrases] == [9]
    assert [p.text for p in read_phrases(path, sentences="all").phrases] == ["a", "b"]
    path.write_text("{}")
    with pytest.raises(DataError, match="no phrases"):
        read_phrases(path)


def test_class_names_of_a_picture_are_asked(tmp_path: Path) -> None:
    from anymask.benchmarks.dense_protocols import asked_of, measure_semantic
    from anymask.data.dense import label_folder
    from anymask.segments import Segments
    from anymask.vocabulary import Category, Vocabulary

    names = ("bag", "sky", "bag", "tree")
    words = Vocabulary(tuple(Category(n, k) for k, n in enumerate(names)), title="t")
    labels = np.array([[1, 1], [2, 255]], np.uint8)
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
        PIL.Image.fromarray(labels).save(tmp_path / folder / "a.png")
    data = label_folder(tmp_path / "images", tmp_path / "labels", words)
    asked: list[list[str]] = []

    def find(image: object, phrases: list[str]) -> Segments:
        asked.append(phrases)
        masks = [labels == {"sky": 1, "bag": 2, "tree": 3}[phrase] for phrase in phrases]
        return Segments.from_masks(np.stack(masks), labels=phrases)

    report = measure_semantic(data, asked_of(find, data), vocabulary_use="oracle")
    assert asked == [["sky", "bag"]]
    assert report["mIoU"] == 1
    assert report.protocol["vocabulary"] == "oracle"
    measure_semantic(data, asked_of(find, data, "full"), vocabulary_use="full")
    assert asked[1] == ["bag", "sky", "tree"]
