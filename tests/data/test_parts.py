"""Parts and boxes as named regions; files are written here from the documented layouts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.parts import (
    part_image_net_name,
    pascal_part_name,
    regions_of_boxes,
    regions_of_part_image_net,
    regions_of_pascal_part,
)
from anymask.data.regions import RegionFile
from anymask.errors import DataError
from anymask.ops.rle import decode

RUN = CliRunner()


def test_o15_part_names() -> None:
    assert part_image_net_name("Quadruped Head", "impala") == "impala head"
    assert part_image_net_name("Quadruped Head", None) == "quadruped head"
    assert pascal_part_name("person:lhand") == "human hand"
    assert pascal_part_name("cow:lear") == "cow ear"
    assert pascal_part_name("bus:leftside") is None
    assert pascal_part_name("unheard:of") is None


def part_image_net(root: Path) -> Path:
    """One impala with a head (part 0) and body (1); a second picture with two objects."""
    for folder in ("images/train", "annotations/train", "annotations/train_whole"):
        (root / folder).mkdir(parents=True)
    parts = np.full((30, 40), 40, np.uint8)
    parts[2:10, 3:12], parts[10:25, 3:30] = 0, 1
    whole = np.full((30, 40), 158, np.uint8)
    whole[parts < 40] = 0  # impala
    for name in ("a", "b"):
        PIL.Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(
            root / f"images/train/{name}.JPEG"
        )
        PIL.Image.fromarray(parts).save(root / f"annotations/train/{name}.png")
        PIL.Image.fromarray(whole).save(root / f"annotations/train_whole/{name}.png")
        whole[20:, 20:30] = 1  # a night snake beside it
    return root


def test_part_image_net(tmp_path: Path) -> None:
    root = part_image_net(tmp_path)
    found = list(regions_of_part_image_net(root, draws=400))
    alone = [r for r in found if r.id.startswith("a_")]
    kinds = Counter(r.names for r in alone)
    assert set(kinds) == {
        ("impala",), ("impala head", "impala body"), ("quadruped head", "quadruped body")
    }  # fmt: skip
    assert kinds["impala",] / len(alone) == pytest.approx(0.2, abs=0.06)
    assert kinds["impala head", "impala body"] / len(alone) == pytest.approx(0.64, abs=0.07)
    # Beside another object it cannot be told whose the parts are.
    two = Counter(r.names for r in found if r.id.startswith("b_"))
    assert set(two) == {("impala", "night snake"), ("quadruped head", "quadruped body")}
    head = next(r for r in alone if r.names[0] == "impala head")
    assert decode(head.rles[0]).sum() == 8 * 9
    assert head.image == "images/train/a.JPEG"
    with pytest.raises(DataError, match="no pictures"):
        next(regions_of_part_image_net(root, "val"))
    (root / "annotations/train/b.png").unlink()
    with pytest.raises(DataError, match=r"b\.png"):
        list(regions_of_part_image_net(root))


def test_pascal_part(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    ear, other, side = mask.copy(), mask.copy(), mask.copy()
    ear[2:5, 2:5], other[2:5, 10:13], side[8:12, 4:20] = 1, 1, 1
    mask[:15, :25] = 1
    one = {"class": "cow", "class_ind": 10, "mask": mask, "parts": [
        {"part_name": "lear", "mask": ear}, {"part_name": "head", "mask": other}]}  # fmt: skip
    bus = {"class": "bus", "class_ind": 6, "mask": mask, "parts": [
        {"part_name": "leftside", "mask": side}]}  # fmt: skip
    table = {"class": "table", "class_ind": 11, "mask": mask, "parts": []}
    cells = np.empty((1, 3), object)
    cells[0] = [one, bus, table]
    folder = tmp_path / "Annotations_Part"
    folder.mkdir()
    for name, objects in (("2008_000001", cells), ("2008_000002", cells[:, 1:2])):
        record = {"anno": {"imname": name, "objects": objects}}
        scipy.io.savemat(folder / f"{name}.mat", record)
    (tmp_path / "JPEGImages").mkdir()
    found = list(regions_of_pascal_part(folder, tmp_path / "JPEGImages", tmp_path))
    # Only surfaces that are left out: no line.
    assert [r.image for r in found] == ["JPEGImages/2008_000001.jpg"]
    named = dict(zip(found[0].names, found[0].rles, strict=True))
    assert {"cow ear", "cow head"} <= set(named)
    assert not any("side" in name for name in named)
    assert (decode(named["cow ear"]) == (ear > 0)).all()
    (folder / "x.mat").write_bytes(b"no")
    with pytest.raises(DataError, match=r"x\.mat"):
        list(regions_of_pascal_part(folder, tmp_path / "JPEGImages", tmp_path))
    with pytest.raises(DataError, match="Annotations_Part"):
        list(regions_of_pascal_part(tmp_path, tmp_path, tmp_path))


def boxes_file(folder: Path, boxes: list[list[float]]) -> Path:
    rows = [{"id": k, "image_id": 1, "category_id": 2, "bbox": b} for k, b in enumerate(boxes)]
    data = {
        "images": [{"id": 1, "file_name": "a/1.jpg", "width": 30, "height": 20},
                   {"id": 2, "file_name": "a/2.jpg", "width": 5, "height": 5}],
        "categories": [{"id": 2, "name": "cash machine"}], "annotations": rows,
    }  # fmt: skip
    path = folder / "v3det.json"
    path.write_text(json.dumps(data))
    return path


@given(
    st.tuples(
        st.floats(0, 29), st.floats(0, 19), st.floats(0.1, 60), st.floats(0.1, 60)
    )
)  # fmt: skip
def test_boxes_are_filled_rectangles(box: tuple[float, float, float, float]) -> None:
    from anymask.data.parts import _rectangle

    x, y, w, h = box
    wanted = np.zeros((20, 30), bool)
    wanted[int(np.floor(y)) : int(np.ceil(y + h)), int(np.floor(x)) : int(np.ceil(x + w))] = True
    assert (decode(_rectangle(box, (20, 30))) == wanted).all()


def test_files_of_boxes(tmp_path: Path) -> None:
    path = boxes_file(tmp_path, [[1.5, 2.2, 3, 4], [0, 0, 30, 20]])
    (record,) = regions_of_boxes(path, "images/")
    assert record.image == "images/a/1.jpg"
    assert record.names == ("cash machine", "cash machine")
    assert decode(record.rles[1]).all()
    out = tmp_path / "lines.jsonl"
    result = RUN.invoke(
        app, ["data", "regions", "--boxes", str(path), "-o", str(out)], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert RegionFile.read(out)[0].rles == record.rles
    with pytest.raises(DataError, match="outside"):
        list(regions_of_boxes(boxes_file(tmp_path, [[40, 2, 3, 4]])))
