"""Writers: what they write reads back the same, whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import skimage.data

from anymask.data.coco import CocoDataset
from anymask.data.formats.atomic import PART_SUFFIX, atomic_write
from anymask.data.formats.coco import coco_dict, write_coco, write_coco_dataset
from anymask.data.formats.overlay import write_overlay
from anymask.data.formats.png import read_label_png, write_label_png
from anymask.errors import DataError, SegmentsError
from anymask.image import Image
from anymask.segments import Segments


def sample(labels: list[str | None] | None = None) -> Segments:
    masks = np.zeros((3, 10, 12), bool)
    masks[0, 1:5, 1:5] = masks[1, 3:9, 3:9] = masks[2, 0, :] = True
    return Segments.from_masks(masks, scores=[0.75, 0.5, 0.25], labels=labels)


# ------------------------------------------------------------------------------------- atomic


def test_atomic_write_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / ("n" * 200 + ".json")
    for text in (b"one", b"two"):
        with atomic_write(path) as stream:
            stream.write(text)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == text
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_atomic_write_keeps_to_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "a") as stream:
            stream.write(b"x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_atomic_write_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")

    def fail() -> None:
        with atomic_write(path) as stream:
            stream.write(b"half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_coco(tmp_path / "a.json", sample(), "a.jpg")
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_where_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError), atomic_write(tmp_path / "file" / "a.json"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    program = textwrap.dedent(
        f"""
        import time
        from anymask.data.formats.atomic import atomic_write
        with atomic_write({str(path)!r}) as stream:
            stream.write(b"half")
            stream.flush()
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert path.read_bytes() == b"old"
    left = [entry for entry in tmp_path.iterdir() if entry != path]
    assert all(entry.name.endswith(PART_SUFFIX) for entry in left)


# --------------------------------------------------------------------------------------- COCO


@pytest.mark.parametrize("labels", [None, ["cat", "dog", "cat"], ["cat", None, "猫"]])
def test_one_picture_reads_back(tmp_path: Path, labels: list[str | None] | None) -> None:
    segments = sample(labels)
    write_coco(tmp_path / "a.json", segments, "sub/ä.jpg")
    content = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert content == coco_dict(segments, "sub/ä.jpg")
    dataset = CocoDataset.read(tmp_path / "a.json")
    assert dataset.images == [{"id": 1, "file_name": "sub/ä.jpg", "height": 10, "width": 12}]
    read = dataset.annotations_of(1)
    names = [label or "object" for label in labels or [None] * 3]
    assert read == segments.with_ids([1, 2, 3]).with_labels(names)
    assert [category["name"] for category in dataset.categories] == list(dict.fromkeys(names))
    # Without the categories even the missing labels come back as they were.
    assert Segments.from_coco(dataset.records_of(1), read.size).labels == segments.labels


def test_fixed_categories(tmp_path: Path) -> None:
    segments = sample(["cat", "dog", "cat"])
    content = coco_dict(segments, "a.jpg", image_id=9, category_ids={"dog": 5, "cat": 2, "cow": 1})
    assert [record["category_id"] for record in content["annotations"]] == [2, 5, 2]
    assert [record["image_id"] for record in content["annotations"]] == [9] * 3
    assert {"id": 1, "name": "cow"} in content["categories"]
    with pytest.raises(SegmentsError, match="'dog'"):
        coco_dict(segments, "a.jpg", category_ids={"cat": 2})
    with pytest.raises(SegmentsError, match="no label"):
        coco_dict(sample(), "a.jpg", category_ids={"cat": 2})


def test_a_picture_without_regions(tmp_path: Path) -> None:
    write_coco(tmp_path / "a.json", Segments.empty((3, 4)), "a.jpg")
    dataset = CocoDataset.read(tmp_path / "a.json")
    assert dataset.annotations_of(1) == Segments.empty((3, 4))
    assert dataset.categories == [{"id": 1, "name": "object"}]


def test_a_data_set(tmp_path: Path) -> None:
    first, second = sample(["cat", "dog", None]), sample(["dog", "cow", "dog"])[:2]

    def pictures() -> Iterator[tuple[dict[str, Any], Segments]]:
        yield {"file_name": "a.jpg", "license": 3}, first
        yield {"file_name": "b.jpg"}, Segments.empty((2, 2))
        yield {"file_name": "c.jpg"}, second

    path = tmp_path / "all.json"
    assert write_coco_dataset(path, pictures()) == 3
    dataset = CocoDataset.read(path)
    assert dataset.image_ids == [1, 2, 3]
    assert dataset.images[0]["license"] == 3
    assert list(dataset.names.values()) == ["cat", "dog", "object", "cow"]
    assert dataset.annotations_of(1).ids == (1, 2, 3)
    assert dataset.annotations_of(3).ids == (4, 5)
    assert dataset.annotations_of(3).labels == ("dog", "cow")
    assert np.array_equal(dataset.annotations_of(3).masks, second.masks)
    assert write_coco_dataset(path, []) == 0
    assert len(CocoDataset.read(path)) == 0


def test_a_data_set_with_its_own_ids(tmp_path: Path) -> None:
    path = tmp_path / "all.json"
    segments = sample().with_ids([70, 5, 9])
    write_coco_dataset(path, [({"id": 42, "file_name": "a.jpg"}, segments)], keep_ids=True)
    assert CocoDataset.read(path).annotations_of(42).ids == (70, 5, 9)
    twice = [({"id": n, "file_name": "a.jpg"}, segments) for n in (1, 2)]
    with pytest.raises(SegmentsError, match="annotation id 70 appears twice"):
        write_coco_dataset(path, twice, keep_ids=True)
    with pytest.raises(SegmentsError, match="picture id 1 appears twice"):
        write_coco_dataset(path, [twice[0], twice[0]])
    with pytest.raises(SegmentsError, match="no id to keep"):
        write_coco_dataset(path, [({"id": 1, "file_name": "a.jpg"}, sample())], keep_ids=True)
    # What was there before is still there.
    assert CocoDataset.read(path).image_ids == [42]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_the_official_reader_agrees(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    path = tmp_path / "all.json"
    segments = sample(["cat", "dog", "cat"])
    write_coco_dataset(path, [({"file_name": "a.jpg"}, segments)])
    theirs = COCO(str(path))
    assert [theirs.annToMask(theirs.anns[n]).sum() for n in (1, 2, 3)] == segments.areas.tolist()
    assert [category["name"] for category in theirs.loadCats([1, 2])] == ["cat", "dog"]


# ------------------------------------------------------------------------------- label pictures


@pytest.mark.parametrize(("count", "mode"), [(0, "L"), (3, "L"), (255, "L"), (256, "I;16")])
def test_label_pictures(tmp_path: Path, count: int, mode: str) -> None:
    masks = np.zeros((count, 20, 20), bool)
    masks[np.arange(count), np.arange(count) // 20, np.arange(count) % 20] = True
    segments = Segments.from_masks(masks)
    write_label_png(tmp_path / "a.png", segments)
    with PIL.Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == mode
        assert np.array_equal(np.array(picture), segments.to_label_map())
    read = read_label_png(tmp_path / "a.png")
    assert read == segments.with_ids(range(1, count + 1))


def test_label_pictures_with_names(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.array([[0, 7], [255, 7]], np.uint8)).save(tmp_path / "a.png")
    read = read_label_png(tmp_path / "a.png", ignore=(0, 255), names={7: "cat"})
    assert (read.labels, read.ids) == (("cat",), (7,))


def test_label_picture_errors(tmp_path: Path) -> None:
    full = Segments((1, 1), Segments.from_masks(np.ones((1, 1, 1))).rles * 65_536)
    with pytest.raises(SegmentsError, match="65,535"):
        write_label_png(tmp_path / "a.png", full)
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        read_label_png(tmp_path / "a.png")


# ------------------------------------------------------------------------------------- overlay


def test_overlay(tmp_path: Path) -> None:
    pixels = skimage.data.astronaut()[:100, :120]
    masks = np.zeros((1, 100, 120), bool)
    masks[0, 20:60, 30:70] = True
    write_overlay(
        tmp_path / "a.jpg", Image(pixels), Segments.from_masks(masks), colors=[(255, 0, 0)]
    )
    with PIL.Image.open(tmp_path / "a.jpg") as drawn:
        assert drawn.format == "JPEG"
        assert drawn.size == (120, 100)
        changed = np.abs(np.asarray(drawn, int) - pixels).sum(axis=2)
    assert changed[masks[0]].mean() > 5 * changed[~masks[0]].mean()


def test_overlay_of_a_picture_too_long_for_jpeg(tmp_path: Path) -> None:
    image = Image(np.zeros((2, 70_000, 3), np.uint8))
    write_overlay(tmp_path / "a.jpg", image, Segments.empty((2, 70_000)))
    with PIL.Image.open(tmp_path / "a.jpg") as drawn:
        assert drawn.width == 65_500


def test_overlay_of_another_picture(tmp_path: Path) -> None:
    with pytest.raises(SegmentsError):
        write_overlay(tmp_path / "a.jpg", Image(np.zeros((3, 4, 3), np.uint8)), sample())
    assert list(tmp_path.iterdir()) == []
