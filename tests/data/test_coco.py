"""Reading COCO-style files: everything survives, broken files are named, large ones are small."""

from __future__ import annotations

import hashlib
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from shared import SHARED, needs_shared

from anymask.data import json_stream
from anymask.data.coco import CocoDataset
from anymask.errors import DataError, ImageError
from anymask.ops import rle
from anymask.segments import Segments

Content = dict[str, Any]


def content() -> Content:
    disc = rle.to_coco_str(rle.encode(np.eye(5, 6)))
    return {
        "info": {"description": "Straßenbilder 猫"},
        "annotations": [
            {"id": 11, "image_id": 2, "category_id": 3, "segmentation": disc, "kind": "instance"},
            {
                "id": 10,
                "image_id": 1,
                "category_id": 7,
                "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]],
                "iscrowd": 0,
                "note": "ein Kätzchen 猫",
            },
            {
                "id": 12,
                "image_id": 2,
                "category_id": 7,
                "segmentation": {"size": [5, 6], "counts": [0, 30]},
                "iscrowd": 1,
            },
        ],
        "categories": [{"id": 3, "name": "车"}, {"id": 7, "name": "cat", "synonyms": ["kitty"]}],
        "images": [
            {"id": 2, "file_name": "b.png", "height": 5, "width": 6, "neg_category_ids": [3]},
            {"id": 1, "file_name": "sub/ä.png", "height": 4, "width": 8, "flickr_url": "x"},
            {"id": 9, "coco_url": "http://c.org/train2017/000009.jpg", "height": 1, "width": 1},
        ],
    }


def write(folder: Path, what: Content | str, name: str = "a.json", **options: Any) -> Path:
    path = folder / name
    text = what if isinstance(what, str) else json.dumps(what, **options)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 23])
@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_everything_survives(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    chunk: int,
    indent: int | None,
    ascii_only: bool,
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    source = content()
    dataset = CocoDataset.read(write(tmp_path, source, indent=indent, ensure_ascii=ascii_only))
    assert dataset.images == source["images"]
    assert dataset.categories == source["categories"]
    assert dataset.info == {"info": source["info"]}
    assert dataset.image_ids == [2, 1, 9]
    assert len(dataset) == dataset.num_annotations == 3
    assert dataset.names == {3: "车", 7: "cat"}
    assert dataset.records_of(2) == [source["annotations"][0], source["annotations"][2]]
    assert dataset.records_of(1) == [source["annotations"][1]]
    assert dataset.records_of(9) == []
    assert dataset.image_record(1)["flickr_url"] == "x"


def test_annotations(tmp_path: Path) -> None:
    dataset = CocoDataset.read(write(tmp_path, content()))
    found = dataset.annotations_of(2)
    assert found.size == (5, 6)
    assert found.ids == (11, 12)
    assert found.labels == ("车", "cat")
    assert found.crowd.tolist() == [False, True]
    assert found.areas.tolist() == [5, 30]
    assert dataset.annotations_of(2, crowd=False).ids == (11,)
    assert dataset.annotations_of(1).areas.tolist() == [6]
    assert dataset.annotations_of(9) == Segments.empty((1, 1))


def test_pictures(tmp_path: Path) -> None:
    dataset = CocoDataset.read(write(tmp_path, content()), tmp_path / "pictures")
    assert dataset.image_path(1) == tmp_path / "pictures" / "sub" / "ä.png"
    assert dataset.image_path(9) == tmp_path / "pictures" / "train2017" / "000009.jpg"
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ImageError, match="does not exist"):
        dataset.read_image(2)
    PIL.Image.new("RGB", (6, 5)).save(tmp_path / "pictures" / "b.png")
    assert dataset.read_image(2).size == (5, 6)
    PIL.Image.new("RGB", (5, 6)).save(tmp_path / "pictures" / "b.png")
    with pytest.raises(DataError, match=r"5x6 .*by its record"):
        dataset.read_image(2)
    assert CocoDataset.read(tmp_path / "a.json").images_dir == tmp_path


def test_subset_and_pickle(tmp_path: Path) -> None:
    dataset = CocoDataset.read(write(tmp_path, content()))
    part = dataset.subset([9, 2])
    assert part.image_ids == [9, 2]
    assert part.num_annotations == 2
    with pytest.raises(DataError, match="no picture with the id 1"):
        part.records_of(1)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.annotations_of(2) == dataset.annotations_of(2)
    with pytest.raises(DataError, match="no picture with the id 5"):
        dataset.subset([5])
    with pytest.raises(DataError, match="no picture with the id 5"):
        dataset.annotations_of(5)


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, content())
    assert CocoDataset.read(path).digest() == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_changed_is_noticed(tmp_path: Path) -> None:
    dataset = CocoDataset.read(write(tmp_path, content()))
    write(tmp_path, {**content(), "more": 1})
    with pytest.raises(DataError, match="has changed"):
        dataset.records_of(2)
    (tmp_path / "a.json").unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        dataset.records_of(2)


def test_a_byte_order_mark_and_no_categories(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    source = content()
    del source["categories"]
    path.write_text(json.dumps(source), encoding="utf-8-sig")
    dataset = CocoDataset.read(path)
    assert dataset.annotations_of(2).labels == (None, None)
    assert dataset.records_of(2)[0]["kind"] == "instance"


def test_nothing_annotated(tmp_path: Path) -> None:
    dataset = CocoDataset.read(write(tmp_path, {"images": [], "annotations": []}))
    assert len(dataset) == dataset.num_annotations == 0
    source = {**content(), "annotations": []}
    assert len(CocoDataset.read(write(tmp_path, source)).annotations_of(2)) == 0


def drop(*path: Any) -> Callable[[Content], None]:
    def change(source: Content) -> None:
        target: Any = source
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return change


def put(value: Any, *path: Any) -> Callable[[Content], None]:
    def change(source: Content) -> None:
        target: Any = source
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = value

    return change


MASK_OF_OTHER_SIZE = {"size": [6, 5], "counts": [30]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("images"), "has no images"),
        (drop("annotations"), "has no annotations"),
        (drop("images", 0, "id"), r"images\[0\] has no whole number 'id'"),
        (drop("images", 1, "height"), r"images\[1\] has no whole number 'height'"),
        (put("5", "images", 0, "width"), r"images\[0\] has no whole number 'width'"),
        (put(0, "images", 0, "width"), r"5x0 pixels"),
        (put(1, "images", 0, "id"), "picture id 1 appears twice"),
        (put(3, "images", 0), r"images\[0\] is not an object"),
        (put({}, "images"), "images is a list"),
        (drop("annotations", 0, "id"), r"annotations\[0\] has no whole number 'id'"),
        (drop("annotations", 0, "image_id"), r"annotations\[0\] has no whole number 'image_id'"),
        (put(2**70, "annotations", 0, "id"), r"annotations\[0\] has no whole number 'id'"),
        (drop("annotations", 2, "segmentation"), r"annotations\[2\] \(id 12\) has no segm"),
        (put([], "annotations", 2, "segmentation"), r"annotations\[2\] \(id 12\) has no segm"),
        (put(3, "annotations", 1), r"annotations\[1\] is not an object"),
        (put(5, "annotations", 1, "image_id"), "annotation 10 belongs to picture 5"),
        (put(5, "annotations", 1, "category_id"), "annotation 10 has the category 5"),
        (put("a", "annotations", 1, "category_id"), "category_id that is not"),
        (put(10, "annotations", 0, "id"), "annotation id 10 appears twice"),
        (
            put(MASK_OF_OTHER_SIZE, "annotations", 0, "segmentation"),
            "annotation 11 was made for 6x5",
        ),
        (put({"size": [6], "counts": []}, "annotations", 0, "segmentation"), "without a size"),
        (put({"counts": []}, "annotations", 0, "segmentation"), "without a size"),
        (put({"name": "a"}, "categories", 0), r"categories\[0\] needs"),
        (put({"id": 7, "name": "a"}, "categories", 0), "category id 7 appears twice"),
    ],
)
def test_broken_content(tmp_path: Path, change: Callable[[Content], None], message: str) -> None:
    source = content()
    change(source)
    path = write(tmp_path, source)
    with pytest.raises(DataError, match=message) as caught:
        CocoDataset.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("segmentation", [[[1, 2, 3]], "abc", {"size": [5, 6], "counts": [3]}])
def test_broken_masks_are_named_when_they_are_read(tmp_path: Path, segmentation: Any) -> None:
    source = content()
    source["annotations"][0]["segmentation"] = segmentation
    dataset = CocoDataset.read(write(tmp_path, source))
    with pytest.raises(DataError, match=r"picture 2: record 0 \(id 11\)"):
        dataset.annotations_of(2)
    assert len(dataset.annotations_of(1)) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "object with images"),
        ("hello", "object with images"),
        ("[1, 2]", "object with images"),
        ("{", "cut off|expected JSON"),
        ("{3: 4}", "expected JSON"),
        ('{"images" [', "colon"),
        ('{"images": []} trailing', "more after the end"),
        ('{"images": [], "images": []}', "'images' appears twice"),
        ('{"images": [{"id": 1},', "expected JSON"),
        ('{"images": [{"id": 1}', "cut off"),
        ('{"images": [{"id": 1}], "annotations": [{"id": 1, "segmentation": [[1', "expected JSON"),
        ('{"images": [{"id": "\\uZZZZ"}]}', "expected JSON"),
        ('{"a": ' + "[" * 200_000, "nested too deeply"),
    ],
)
@pytest.mark.parametrize("chunk", [5, 1 << 23])
def test_broken_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, text: str, message: str
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    with pytest.raises(DataError, match=message):
        CocoDataset.read(write(tmp_path, text))


def test_files_cut_anywhere_are_refused(tmp_path: Path) -> None:
    text = json.dumps(content())
    for length in range(0, len(text), 17):
        with pytest.raises(DataError):
            CocoDataset.read(write(tmp_path, text[:length]))


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    text = json.dumps(content(), ensure_ascii=False)
    (tmp_path / "a.json").write_bytes(text.replace("猫", "x").replace("车", "y").encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        CocoDataset.read(tmp_path / "a.json")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        CocoDataset.read(tmp_path / "a.json")
    with pytest.raises(DataError, match="cannot be opened"):
        CocoDataset.read(tmp_path)


def test_a_large_file_is_read_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", 1 << 16)
    polygon = [round(100 + 50 * np.cos(a) + a, 2) for a in np.linspace(0, 6, 100)]
    images = [{"id": n, "height": 300, "width": 300, "file_name": f"{n}.jpg"} for n in range(100)]
    annotations = [
        {"id": n, "image_id": n % 100, "category_id": 1, "segmentation": [polygon], "area": 1.5}
        for n in range(3_000)
    ]
    source = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    path = write(tmp_path, source)
    size = path.stat().st_size
    assert size > 2_000_000
    del source, annotations
    tracemalloc.start()
    dataset = CocoDataset.read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # What is held grows with the number of annotations, not with their polygons; json.load would
    # hold five times the size of the file.
    assert peak < 0.5 * size
    assert len(dataset.annotations_of(7)) == 30


# -------------------------------------------------------------------------------- real files


@needs_shared
@pytest.mark.parametrize(
    ("name", "images", "masks"),
    [
        ("coco", 404, 3321),
        ("clothing", 700, 5780),
        ("camvid", 176, 4098),
        ("facade", 400, 6650),
        ("bsds500", 400, 6253),
        ("cocostuff_sample", 21, 279),
    ],
)
def test_real_photographs(name: str, images: int, masks: int) -> None:
    folder = SHARED / "data" / "photos"
    dataset = CocoDataset.read(folder / f"{name}.json")
    assert len(dataset) == images
    assert dataset.num_annotations == masks
    for image_id in dataset.image_ids[:: images // 10]:
        found = dataset.annotations_of(image_id)
        records = dataset.records_of(image_id)
        assert dataset.read_image(image_id).size == found.size
        assert found.ids == tuple(record["id"] for record in records)
        assert all("kind" in record for record in records)
        assert Segments.from_coco(found.to_coco(), found.size) == found


@needs_shared
def test_real_lvis_records() -> None:
    dataset = CocoDataset.read(SHARED / "data" / "lvis_val_100" / "lvis_val_100.json")
    assert len(dataset) == 100
    assert all("neg_category_ids" in record for record in dataset.images)
    assert all("not_exhaustive_category_ids" in record for record in dataset.images)
    assert all("synset" in record for record in dataset.categories)
    areas = [(dataset.annotations_of(i).areas, dataset.records_of(i)) for i in dataset.image_ids]
    ours = np.concatenate([found for found, _ in areas]).astype(float)
    theirs = np.array([record["area"] for _, records in areas for record in records])
    # Areas of polygons and of their pixels agree but for the edges.
    assert np.corrcoef(ours, theirs)[0, 1] > 0.9999
