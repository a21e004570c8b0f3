"""Reading Pascal VOC segmentation pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from anymask.data.voc import read_voc
from anymask.errors import DataError
from anymask.vocabulary import Vocabulary

OBJECTS = np.array([[0, 1, 1, 255], [0, 1, 255, 2], [0, 0, 255, 2]], np.uint8)
CLASSES = np.array([[0, 15, 15, 255], [0, 8, 255, 12], [0, 0, 255, 12]], np.uint8)


def write(path: Path, values: np.ndarray) -> Path:
    picture = PIL.Image.fromarray(values)
    # The colours of the data set, which say nothing: only the numbers count.
    picture.putpalette([n * 37 % 256 for n in range(768)])
    picture.save(path)
    return path


def test_objects_and_classes(tmp_path: Path) -> None:
    objects, classes = write(tmp_path / "o.png", OBJECTS), write(tmp_path / "c.png", CLASSES)
    found = read_voc(objects)
    assert found.size == (3, 4)
    assert found.ids == (1, 2)
    assert np.array_equal(found.masks, [OBJECTS == 1, OBJECTS == 2])
    assert found.labels == (None, None)
    named = read_voc(objects, classes)
    assert named.labels == ("person", "dog")
    assert named.label_sources == ("annotation",) * 2
    with pytest.raises(DataError, match="class 15"):
        read_voc(objects, classes, Vocabulary.from_names(["a"]))


def test_errors(tmp_path: Path) -> None:
    objects = write(tmp_path / "o.png", OBJECTS)
    with pytest.raises(DataError, match="different pictures"):
        read_voc(objects, write(tmp_path / "c.png", CLASSES[:2]))
    with pytest.raises(DataError, match="says nothing about object 1"):
        read_voc(objects, write(tmp_path / "c.png", np.full_like(CLASSES, 255)))
    with pytest.raises(DataError, match="does not exist"):
        read_voc(tmp_path / "none.png")
    PIL.Image.new("RGB", (3, 4)).save(tmp_path / "rgb.png")
    with pytest.raises(DataError, match="colour picture"):
        read_voc(tmp_path / "rgb.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot be read"):
        read_voc(tmp_path / "text.png")
