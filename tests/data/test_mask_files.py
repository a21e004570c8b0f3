"""Proposals of other tools, as files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anymask.data.mask_files import masks_from
from anymask.errors import DataError
from anymask.image import Image, read_image


@pytest.fixture
def photo(tmp_path: Path) -> Image:
    PIL.Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(tmp_path / "photo.jpg")
    return read_image(tmp_path / "photo.jpg")


def panoptic_png(path: Path) -> None:
    ids = np.zeros((6, 8), np.int64)
    ids[:3, :4], ids[3:, 2:], ids[0, 7] = 7, 70_000, 9
    path.parent.mkdir(parents=True, exist_ok=True)
    bytes_ = np.stack([ids % 256, ids // 256 % 256, ids // 65536], -1).astype(np.uint8)
    PIL.Image.fromarray(bytes_).save(path)


@pytest.mark.parametrize("beside", [True, False])
def test_panoptic_files(tmp_path: Path, photo: Image, beside: bool) -> None:
    file = tmp_path / "p" / "predictions.json"
    panoptic_png(tmp_path / "p" / ("photo.png" if beside else "predictions/photo.png"))
    rows = [{"image_id": 1, "file_name": "photo.png", "segments_info": [
        {"id": 7, "category_id": 1, "score": 0.4}, {"id": 70_000, "category_id": 2}]}]  # fmt: skip
    file.write_text(json.dumps({"annotations": rows}))
    found = masks_from(file)(photo)
    assert found.ids == (7, 70_000)  # 9 is not listed
    assert found.areas.tolist() == [12, 18]
    assert found.scores[0] == pytest.approx(0.4)
    assert np.isnan(found.scores[1])
    with pytest.raises(DataError, match="no picture of this name"):
        masks_from(file)(Image(photo.pixels, Path("other.jpg")))


def test_folders_of_maps(tmp_path: Path, photo: Image) -> None:
    panoptic_png(tmp_path / "maps" / "photo.png")
    found = masks_from(tmp_path / "maps")(photo)
    assert sorted(found.ids) == [7, 9, 70_000]
    with pytest.raises(DataError, match="does not exist"):
        masks_from(tmp_path / "maps")(Image(photo.pixels, Path("other.jpg")))
    with pytest.raises(DataError, match="the picture of"):
        masks_from(tmp_path / "maps")(Image(np.zeros((5, 8, 3), np.uint8), Path("photo.jpg")))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no PNG"):
        masks_from(tmp_path / "none")


def test_pictures_of_one_name_are_told_by_their_folders(tmp_path: Path) -> None:
    mask = {"size": [6, 8], "counts": [0, 6, 42]}
    other = {"size": [6, 8], "counts": [0, 12, 36]}
    file = {
        "images": [
            {"id": 1, "file_name": "a/photo.jpg", "height": 6, "width": 8},
            {"id": 2, "file_name": "b/photo.jpg", "height": 6, "width": 8},
        ],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "segmentation": rle, "iscrowd": 0}
            for k, rle in ((1, mask), (2, other))
        ],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "x.json").write_text(json.dumps(file))
    masks = masks_from(tmp_path / "x.json")
    pixels = np.zeros((6, 8, 3), np.uint8)
    assert masks(Image(pixels, tmp_path / "a" / "photo.jpg")).areas.tolist() == [6]
    assert masks(Image(pixels, tmp_path / "b" / "photo.jpg")).areas.tolist() == [12]
    with pytest.raises(DataError, match="do not tell"):
        masks(Image(pixels, Path("photo.jpg")))


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[3]")
    with pytest.raises(DataError, match="no COCO-style"):
        masks_from(tmp_path / "x.json")
    with pytest.raises(DataError, match="cannot be read as JSON"):
        masks_from(tmp_path / "missing.json")


def test_grey_maps_of_many_segments(tmp_path: Path) -> None:
    """Sixteen bits are kept: 300 segments stay 300."""
    values = np.zeros((20, 30), np.uint16)
    values.flat[:600] = np.arange(600) % 301
    (tmp_path / "maps").mkdir()
    PIL.Image.fromarray(values).save(tmp_path / "maps" / "photo.png")
    found = masks_from(tmp_path / "maps")(Image(np.zeros((20, 30, 3), np.uint8), Path("photo.jpg")))
    assert len(found) == 300
    assert sorted(found.ids)[-1] == 300
