"""Lines of named regions: written, read, split, and made from data sets."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.region_sources import read_meta
from anymask.data.regions import RegionFile, record_of
from anymask.errors import DataError
from anymask.ops.rle import decode

RUN = CliRunner()


def coco_file(folder: Path, regions: int = 5) -> Path:
    """Two pictures; the first with so many regions and a crowd, the second with none."""
    (folder / "pictures").mkdir(exist_ok=True)
    for k in range(2):
        PIL.Image.new("RGB", (20, 10), (40 * k, 9, 9)).save(folder / f"pictures/{k}.png")
    names = ["bow_(decorative_ribbons)", "trash_can:body", "T-shirt"]
    shape = [[2, 2, 9, 2, 9, 7, 2, 7]]
    rows = [
        {"id": k, "image_id": 1, "category_id": k % 3 + 1, "segmentation": shape}
        for k in range(regions)
    ]
    rows.append({"id": 99, "image_id": 1, "category_id": 1, "segmentation": shape, "iscrowd": 1})
    path = folder / "some.json"
    path.write_text(
        json.dumps(
            {
                "images": [
                    {"id": k + 1, "height": 10, "width": 20, "file_name": f"{k}.png"}
                    for k in range(2)
                ],
                "categories": [{"id": k + 1, "name": n} for k, n in enumerate(names)],
                "annotations": rows,
            }
        )
    )
    return path


def run(*arguments: object) -> str:
    result = RUN.invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_from_coco(tmp_path: Path) -> None:
    out = tmp_path / "lines.jsonl"
    said = run("data", "regions", "--coco", coco_file(tmp_path), "--images", tmp_path / "pictures",
               "--root", tmp_path, "--most", 2, "-o", out)  # fmt: skip
    assert "3 lines" in said
    file = RegionFile.read(out)
    assert file.counts == (2, 2, 1)
    assert [r.id for r in file] == ["1_0", "1_1", "1_2"]
    assert [n for r in file for n in r.names] == [
        "bow", "trash can: body", "T shirt", "bow", "trash can: body",
    ]  # fmt: skip
    assert file[0].image == "pictures/0.png"
    assert file.read_image(0).size == (10, 20)
    assert decode(file[0].rles[0]).sum() == 7 * 5
    line = json.loads(out.read_text().splitlines()[0])
    assert line["conversations"][1] == {"from": "gpt", "value": "bow , trash can: body"}
    assert file[0].segments().labels == ("bow", "trash can: body")


def test_names_without_labels_come_from_the_answer(tmp_path: Path) -> None:
    run("data", "regions", "--coco", coco_file(tmp_path), "-o", tmp_path / "x.jsonl")
    row = json.loads((tmp_path / "x.jsonl").read_text())
    del row["label"], row["width"], row["height"]  # what the released converter may leave out
    found = record_of(row, "line 1")
    assert found.names == ("bow", "trash can: body", "T shirt", "bow", "trash can: body")
    assert found.size == (10, 20)


def test_from_label_maps(tmp_path: Path) -> None:
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    PIL.Image.new("RGB", (6, 4)).save(tmp_path / "images/a.jpg")
    labels = np.full((4, 6), 255, np.uint8)
    labels[:2] = 2  # a word's number is its place, from 1
    labels[3, :3] = 1
    PIL.Image.fromarray(labels).save(tmp_path / "labels/a.png")
    from anymask.data.dense import label_folder
    from anymask.data.regions import regions_of_dense
    from anymask.vocabulary import Vocabulary

    words = Vocabulary.of(["sky-other", "road"])
    data = label_folder(tmp_path / "images", tmp_path / "labels", words)
    (record,) = regions_of_dense(data, tmp_path)
    assert (record.image, record.size) == ("images/a.jpg", (4, 6))
    areas = [int(decode(r).sum()) for r in record.rles]
    assert list(zip(record.names, areas, strict=True)) == [("sky other", 3), ("road", 12)]


def test_osprey_pairs_by_position(tmp_path: Path) -> None:
    ring = [1, 1, 5, 1, 5, 4, 1, 4]
    item = {
        "id": 7, "height": 10, "width": 12, "file_name": "7.jpg",
        "categories": ["a", "lost", "b"],
        "annotations": [{"segmentation": [ring]}, {}, {"segmentation": [ring, [1, 2, 3, 4]]}],
    }  # fmt: skip
    path = tmp_path / "lvis_val_1k_category.json"
    path.write_text(json.dumps([item]))
    run("data", "regions", "--osprey", path, "--prefix", "val2017/", "-o", tmp_path / "o.jsonl")
    (record,) = RegionFile.read(tmp_path / "o.jsonl")
    assert record.names == ("a", "b")
    assert record.image == "val2017/7.jpg"
    assert decode(record.rles[0]).sum() == 5 * 4  # OpenCV's rule counts the outline


def test_meta(tmp_path: Path) -> None:
    run("data", "regions", "--coco", coco_file(tmp_path), "--most", 2, "-o", tmp_path / "x.jsonl")
    entry = {"root": "pictures", "annotation": "x.jsonl"}
    meta = {
        "twice": {**entry, "repeat_time": 2, "data_augment": True, "max_dynamic_patch": 6},
        "part": {**entry, "repeat_time": 0.7},
    }
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    twice, part = read_meta(tmp_path / "meta.json")
    assert (twice.jpeg, twice.most_tiles, twice.rows()) == (True, 6, [0, 1, 2, 0, 1, 2])
    assert (part.jpeg, part.most_tiles, part.rows()) == (False, None, [0, 1])
    assert read_meta(tmp_path / "x.jsonl")[0].file.root == tmp_path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": ["one"]}, "5 masks and 1 names"),
        ({"masks": [{"size": [3, 3], "counts": "9"}]}, "3"),
        ({"image": None, "masks": None}, "no record of regions"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    run("data", "regions", "--coco", coco_file(tmp_path), "-o", tmp_path / "x.jsonl")
    row = json.loads((tmp_path / "x.jsonl").read_text())
    (tmp_path / "y.jsonl").write_text(json.dumps(row) + "\n\n" + json.dumps({**row, **change}))
    with pytest.raises(DataError, match=r"y\.jsonl:3") as caught:
        RegionFile.read(tmp_path / "y.jsonl")
    assert message in str(caught.value)


def test_pictures_of_another_size_are_refused(tmp_path: Path) -> None:
    run("data", "regions", "--coco", coco_file(tmp_path), "-o", tmp_path / "x.jsonl")
    PIL.Image.new("RGB", (21, 10)).save(tmp_path / "pictures/0.png")
    with pytest.raises(DataError, match="but"):
        RegionFile.read(tmp_path / "x.jsonl", tmp_path / "pictures").read_image(0)


def test_one_source_at_a_time(tmp_path: Path) -> None:
    result = RUN.invoke(app, ["data", "regions", "-o", str(tmp_path / "x")])
    assert "in one way" in str(result.exception)
