"""Readers of data sets with a class for every pixel, on folders written as their authors do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anymask.data.dense import (
    ade20k_150,
    ade20k_847,
    bdd10k,
    camvid_11,
    camvid_32,
    cityscapes,
    coco_stuff,
    foodseg103,
    imagenet_s,
    label_folder,
    pascal_context,
    read_dense,
    scannet,
    sun_rgbd,
    voc,
)
from anymask.errors import DataError
from anymask.vocabulary import Vocabulary


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (4, 2)).save(path)


def grey(path: Path, values: list[list[int]], bits: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.array(values, np.uint8 if bits == 8 else np.uint16)).save(path)


def color(path: Path, values: list[list[tuple[int, int, int]]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.array(values, np.uint8)).save(path)


def test_ade20k_150(tmp_path: Path) -> None:
    photo(tmp_path / "images/validation/ADE_val_00000001.jpg")
    grey(tmp_path / "annotations/validation/ADE_val_00000001.png", [[0, 1, 150, 3]])
    data = ade20k_150(tmp_path)
    assert len(data.vocabulary) == 150
    assert data.labels(data.pictures[0]).tolist() == [[-1, 0, 149, 2]]
    assert data.differences() == ["1 pictures, published are 2000"]
    assert data.pictures[0].name == "ADE_val_00000001"


def test_ade20k_847_has_16_bits(tmp_path: Path) -> None:
    photo(tmp_path / "images_detectron2/validation/a.jpg")
    grey(tmp_path / "annotations_detectron2/validation/a.tif", [[0, 846, 65535, 300]], 16)
    data = ade20k_847(tmp_path)
    assert len(data.vocabulary) == 847
    assert data.labels(data.pictures[0]).tolist() == [[0, 846, -1, 300]]


def test_pascal_context(tmp_path: Path) -> None:
    photo(tmp_path / "JPEGImages/2008_000002.jpg")
    photo(tmp_path / "JPEGImages/2008_000003.jpg")  # without labels
    grey(tmp_path / "annotations_detectron2/pc59_val/2008_000002.png", [[0, 58, 255, 2]])
    grey(tmp_path / "annotations_detectron2/pc459_val/2008_000002.tif", [[0, 458, 65535, 430]], 16)
    small, large = pascal_context(tmp_path, 59), pascal_context(tmp_path, 459)
    assert (len(small.vocabulary), len(large.vocabulary)) == (59, 459)
    assert len(small) == 1
    assert small.labels(small.pictures[0]).tolist() == [[0, 58, -1, 2]]
    assert large.labels(large.pictures[0]).tolist() == [[0, 458, -1, -1]]


def test_voc_leaves_the_background_out(tmp_path: Path) -> None:
    for name in ("2007_000033", "2007_000042"):
        photo(tmp_path / f"JPEGImages/{name}.jpg")
        picture = PIL.Image.fromarray(np.array([[0, 1, 20, 255]], np.uint8), mode="P")
        picture.putpalette([0, 0, 0] * 256)
        (tmp_path / "SegmentationClass").mkdir(exist_ok=True)
        picture.save(tmp_path / f"SegmentationClass/{name}.png")
    (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("2007_000042\n")
    data = voc(tmp_path)
    assert [picture.name for picture in data.pictures] == ["2007_000042"]
    assert data.labels(data.pictures[0]).tolist() == [[-1, 0, 19, -1]]


def test_driving(tmp_path: Path) -> None:
    photo(tmp_path / "leftImg8bit/val/ulm/ulm_000000_leftImg8bit.png")
    grey(tmp_path / "gtFine/val/ulm/ulm_000000_gtFine_labelIds.png", [[7, 8, 0, 33]])
    data = cityscapes(tmp_path)
    assert data.labels(data.pictures[0]).tolist() == [[0, 1, -1, 18]]
    photo(tmp_path / "images/10k/val/x.jpg")
    grey(tmp_path / "labels/sem_seg/masks/val/x.png", [[0, 18, 255, 1]])
    assert bdd10k(tmp_path).labels(bdd10k(tmp_path).pictures[0]).tolist() == [[0, 18, -1, 1]]


def test_coco_stuff_numbers_have_gaps(tmp_path: Path) -> None:
    photo(tmp_path / "val2017/000000000139.jpg")
    # person is COCO 1, banner 92, wood 182; 91 (hair brush) does not exist.
    grey(tmp_path / "stuffthingmaps/val2017/000000000139.png", [[0, 91, 181, 255]])
    data = coco_stuff(tmp_path)
    assert len(data.vocabulary) == 171
    found = data.labels(data.pictures[0])[0]
    names = [data.vocabulary.names[k] if k >= 0 else None for k in found.tolist()]
    assert names == ["person", "banner", "wood", None]


def test_foodseg103(tmp_path: Path) -> None:
    photo(tmp_path / "Images/img_dir/test/00000048.jpg")
    grey(tmp_path / "Images/ann_dir/test/00000048.png", [[0, 1, 103, 5]])
    lines = ["0\tbackground", *(f"{k}\tfood {k}" for k in range(1, 104))]
    (tmp_path / "category_id.txt").write_text("\n".join(lines))
    data = foodseg103(tmp_path)
    assert len(data.vocabulary) == 104
    assert data.others == 0
    assert data.labels(data.pictures[0]).tolist() == [[0, 1, 103, 5]]
    (tmp_path / "category_id.txt").write_text("0\tbackground")
    with pytest.raises(DataError, match="104 classes"):
        foodseg103(tmp_path)


def test_imagenet_s_codes_numbers_in_red_and_green(tmp_path: Path) -> None:
    for number in ("n01443537", "n02084071"):
        photo(tmp_path / f"validation/{number}/{number}_1.JPEG")
        # 1 = first id, 2 = second id, 1000 = 232 + 3 * 256 = ignored
        pixels = [[(0, 0, 0), (1, 0, 0), (2, 0, 0), (232, 3, 0)]]
        color(tmp_path / f"validation-segmentation/{number}/{number}_1.png", pixels)
    words = "n01443537 goldfish, Carassius auratus\nn02084071 dog, domestic dog\n"
    (tmp_path / "LOC_synset_mapping.txt").write_text(words)
    data = imagenet_s(tmp_path)
    assert data.vocabulary.names == ("other", "goldfish", "dog")
    assert data.vocabulary.synonyms[2] == ("domestic dog",)
    assert data.labels(data.pictures[1]).tolist() == [[0, 1, 2, -1]]
    assert data.pictures[0].name == "n01443537/n01443537_1"


def test_camvid(tmp_path: Path) -> None:
    (tmp_path / "label_colors.txt").write_text(
        "64 128 64\tAnimal\n192 0 128\tArchway\n0 0 0\t\tVoid\n"
    )
    photo(tmp_path / "701_StillsRaw_full/0001TP_006690.png")
    color(
        tmp_path / "LabeledApproved_full/0001TP_006690_L.png",
        [[(64, 128, 64), (192, 0, 128), (0, 0, 0), (192, 0, 128)]],
    )
    data = camvid_32(tmp_path)
    assert data.vocabulary.names == ("Animal", "Archway")
    assert data.labels(data.pictures[0]).tolist() == [[0, 1, -1, 1]]
    color(tmp_path / "LabeledApproved_full/0001TP_006690_L.png", [[(1, 2, 3)]])
    with pytest.raises(DataError, match=r"colour \(1, 2, 3\)"):
        data.labels(data.pictures[0])
    photo(tmp_path / "test/0001.png")
    grey(tmp_path / "testannot/0001.png", [[0, 10, 11, 3]])
    small = camvid_11(tmp_path)
    assert small.labels(small.pictures[0]).tolist() == [[0, 10, -1, 3]]


def test_any_folder(tmp_path: Path) -> None:
    photo(tmp_path / "photos/a/one.jpg")
    grey(tmp_path / "labels/a/one.png", [[1, 2, 255, 1]])
    words = Vocabulary.from_names(["cat", "dog"])
    data = label_folder(tmp_path / "photos", tmp_path / "labels", words)
    assert data.labels(data.pictures[0]).tolist() == [[0, 1, -1, 0]]
    assert data.differences() == []
    grey(tmp_path / "labels/a/one.png", [[7]])
    with pytest.raises(DataError, match="value 7, which stands for no class"):
        data.labels(data.pictures[0])


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data set 'x'"):
        read_dense("x", tmp_path)
    with pytest.raises(DataError, match="there is no folder"):
        read_dense("ade20k-150", tmp_path)
    (tmp_path / "images/validation").mkdir(parents=True)
    (tmp_path / "annotations/validation").mkdir(parents=True)
    with pytest.raises(DataError, match="no pictures"):
        read_dense("ade20k-150", tmp_path)
    with pytest.raises(DataError, match="59 or 459"):
        pascal_context(tmp_path, 60)


def test_sun_rgbd(tmp_path: Path) -> None:
    for kind, end in (("image", ".jpg"), ("label37", ".png")):
        (tmp_path / kind / "test").mkdir(parents=True)
        for k in range(2):
            values = np.array([[0, 1 + k], [37, 2]], np.uint8)
            PIL.Image.fromarray(values).save(tmp_path / kind / "test" / f"{kind}-{k}{end}")
    data = sun_rgbd(tmp_path)
    assert len(data.vocabulary) == 37
    assert data.vocabulary.names[36] == "bag"
    assert data.labels(data.pictures[1]).tolist() == [[-1, 1], [36, 1]]
    assert "5050" in data.differences()[0]
    (tmp_path / "label37" / "test" / "label37-1.png").unlink()
    with pytest.raises(DataError, match="2 pictures"):
        sun_rgbd(tmp_path)


def test_scannet(tmp_path: Path) -> None:
    frames = tmp_path / "scannet_frames_25k" / "scene0011_00"
    for kind, values in (("label20", [[0, 19], [255, 4]]), ("label", [[0, 40], [1, 5]])):
        (frames / kind).mkdir(parents=True)
        PIL.Image.fromarray(np.array(values, np.uint8)).save(frames / kind / "000000.png")
    line = "scene0011_00/color/000000.jpg,scene0011_00/label20/000000.png"
    (tmp_path / "val.txt").write_text(line + "\n")
    few, many = scannet(tmp_path), scannet(tmp_path, 40)
    assert few.labels(few.pictures[0]).tolist() == [[0, 19], [-1, 4]]
    assert many.labels(many.pictures[0]).tolist() == [[-1, 39], [0, 4]]
    assert few.pictures[0].image == frames / "color" / "000000.jpg"
    assert "5436" in few.differences()[0]
    (tmp_path / "val.txt").write_text("a.jpg b.png")
    with pytest.raises(DataError, match="PICTURE,LABELS"):
        scannet(tmp_path)
    with pytest.raises(DataError, match="20 or 40"):
        scannet(tmp_path, 21)
