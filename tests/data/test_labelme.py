"""Reading LabelMe files."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from anymask.data.labelme import read_labelme
from anymask.errors import DataError


def shape(label: str, kind: str, points: Any, **more: Any) -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None, **more}


def write(folder: Path, shapes: Any, **more: Any) -> Path:
    path = folder / "photo.json"
    content = {
        "version": "5.4.1",
        "imagePath": "photo.jpg",
        "imageData": "never looked at",
        "imageHeight": 20,
        "imageWidth": 30,
        "shapes": shapes,
        **more,
    }
    path.write_text(json.dumps(content))
    return path


def test_polygons_rectangles_and_circles(tmp_path: Path) -> None:
    found = read_labelme(
        write(
            tmp_path,
            [
                shape("table", "polygon", [[2, 3], [8, 3], [8, 9], [2, 9]]),
                shape("box", "rectangle", [[15.0, 12.0], [10.0, 2.0]]),
                shape("box", "rectangle", [[0, 0], [2, 0], [2, 2], [0, 2]]),
                shape("ball", "circle", [[20, 10], [25, 10]]),
                shape("dot", "point", [[1, 1]]),
                shape("edge", "line", [[1, 1], [9, 9]]),
            ],
        )
    )
    assert found.size == (20, 30)
    assert found.labels == ("table", "box", "box", "ball")
    assert set(found.label_sources) == {"annotation"}
    assert found.areas.tolist()[:3] == [36, 50, 4]
    assert found.boxes.tolist()[:2] == [[2, 3, 8, 9], [10, 2, 15, 12]]
    y, x = np.mgrid[:20, :30] + 0.5
    assert np.array_equal(found.mask(3), (x - 20) ** 2 + (y - 10) ** 2 <= 25)


def test_groups_are_united_per_label(tmp_path: Path) -> None:
    parts = [
        shape("car", "rectangle", [[0, 0], [4, 4]], group_id=1),
        shape("wheel", "rectangle", [[0, 8], [2, 10]], group_id=1),
        shape("car", "rectangle", [[10, 0], [14, 4]], group_id=1),
        shape("car", "rectangle", [[20, 0], [24, 4]], group_id=2),
        shape("car", "rectangle", [[20, 10], [24, 14]]),
        shape("car", "rectangle", [[10, 10], [14, 14]]),
    ]
    found = read_labelme(write(tmp_path, parts))
    assert found.labels == ("car", "wheel", "car", "car", "car")
    assert found.areas.tolist() == [32, 4, 16, 16, 16]


def test_masks_and_shapes_beyond_the_edge(tmp_path: Path) -> None:
    inside = np.zeros((4, 5), bool)
    inside[1:, 2:] = True
    buffer = io.BytesIO()
    PIL.Image.fromarray(inside).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    found = read_labelme(
        write(
            tmp_path,
            [
                shape("leaf", "mask", [[3, 6], [7, 9]], mask=data),
                shape("sun", "circle", [[-2, -2], [4, -2]]),
                shape("moon", "circle", [[-90, -90], [-80, -90]]),
                shape("old", None, [[25, 15], [50, 15], [50, 40], [25, 40]]),  # type: ignore[arg-type]
            ],
        )
    )
    dense = np.zeros((20, 30), bool)
    dense[6:10, 3:8] = inside
    assert np.array_equal(found.mask(0), dense)
    assert found.boxes[1].tolist() == [0, 0, 3, 3]
    assert found.areas[2] == 0
    assert found.boxes[3].tolist() == [25, 15, 30, 20]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (None, "list of shapes"),
        ([3], "shape 0: it has no label"),
        ([{"shape_type": "polygon", "points": []}], "shape 0: it has no label"),
        ([shape("a", "polygon", [[1, 1], [2, 2]])], "at least 3 corners"),
        ([shape("a", "polygon", [])], "not a list"),
        ([shape("a", "polygon", [[1, 1], [2]])], "not a list"),
        ([shape("a", "polygon", [[1, 1], [2, "b"], [3, 3]])], "not a list"),
        ([shape("a", "polygon", [[1, 1], [2, float("inf")], [3, 3]])], "not a list"),
        ([shape("a", "rectangle", [[1, 1]])], "2 or 4 points"),
        ([shape("a", "circle", [[1, 1]])], "centre"),
        ([shape("a", "spiral", [[1, 1]])], "'spiral' is not known"),
        ([shape("a", "mask", [[1, 1], [2, 2]])], "base64"),
        ([shape("a", "mask", [[1, 1], [2, 2]], mask="!")], "cannot be read"),
        ([shape("a", "mask", [[1, 1], [2, 2]], mask="aGVsbG8=")], "cannot be read"),
    ],
)
def test_broken_shapes(tmp_path: Path, shapes: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_labelme(write(tmp_path, shapes))


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be opened"):
        read_labelme(tmp_path / "none.json")
    path = tmp_path / "a.json"
    for text, message in [("{", "not JSON"), ("[]", "not a LabelMe"), ("{}", "imageHeight")]:
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read_labelme(path)
    with pytest.raises(DataError, match="imageHeight"):
        read_labelme(write(tmp_path, [], imageHeight=0))
    assert len(read_labelme(write(tmp_path, []))) == 0
