"""Composed photographs: the truth is where the pixels went."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from shared import SHARED, needs_shared
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.coco import CocoDataset
from anymask.data.composer import PhotoComposer, Photos, write_compositions
from anymask.data.formats.coco import write_coco_dataset
from anymask.errors import DataError, InputError
from anymask.segments import Segments


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures with one red and one green disc each; the background is never coloured."""
    folder = tmp_path_factory.mktemp("photos")
    y, x = np.mgrid[:120, :160]
    pictures = []
    for number in range(4):
        red = (y - 40) ** 2 + (x - 50 - 5 * number) ** 2 < 28**2
        green = (y - 80) ** 2 + (x - 110) ** 2 < 24**2
        image = np.full((120, 160, 3), 90 + 20 * number, np.uint8)
        image[red], image[green] = (250, 0, 0), (0, 250, 0)
        PIL.Image.fromarray(image).save(folder / f"{number}.png")
        found = Segments.from_masks(np.stack([red, green]), labels=["ball", "pea"])
        pictures.append(({"file_name": f"{number}.png"}, found))
    write_coco_dataset(folder / "truth.json", pictures, category_ids={"ball": 7, "pea": 9})
    return folder / "truth.json"


def composer(photos: Path, **changes: object) -> PhotoComposer:
    data = CocoDataset.read(photos)
    cut = Photos(data, frozenset([1, 2]), background=False)
    behind = Photos(data, frozenset([3]), cut=False)
    settings = {"size": 128, "seed": 3, "objects": (3, 5), **changes}
    return PhotoComposer([cut, behind], **settings)  # type: ignore[arg-type]


def test_masks_lie_where_the_colours_are(photos: Path) -> None:
    made = composer(photos)
    seen = set()
    for index in range(12):
        one = made.compose(index)
        assert one.background == "2.png"
        masks = one.segments.masks
        assert (masks.sum(0) <= 1).all()
        image = one.image.astype(int)
        red = image[..., 0] - image[..., 1:].max(-1) > 90
        green = image[..., 1] - image[..., [0, 2]].max(-1) > 90
        for color, label in ((red, "ball"), (green, "pea")):
            rows = [k for k, name in enumerate(one.segments.labels) if name == label]
            mine = masks[rows].any(0) if rows else np.zeros_like(color)
            # Half-covered pixels of the outline may fall on either side of a threshold.
            assert (mine ^ color).sum() <= 0.08 * max(mine.sum(), 1) + 40
        sources = one.segments.label_sources
        assert set(sources) <= {"pasted", "background"}
        assert 1 <= sources.count("pasted") <= 5
        assert (one.labelled == masks.any(0)).mean() > 0.9
        seen.update(zip(one.segments.labels, sources))
    assert len(seen) == 4


def test_a_picture_is_a_function_of_its_number(photos: Path) -> None:
    one, two = (composer(photos).compose(5) for _ in range(2))
    assert (one.image == two.image).all()
    assert one.segments == two.segments
    assert (composer(photos, seed=4).compose(5).image != one.image).any()


def test_no_objects_is_a_photograph(photos: Path) -> None:
    one = composer(photos, objects=(0, 0)).compose(0)
    assert set(one.segments.label_sources) <= {"background"}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size": 16}, "at least 32"),
        ({"objects": (3, 1)}, "fewest, most"),
        ({"scale": (0.5, 0.2)}, "smallest, largest"),
    ],
)
def test_bad_settings(photos: Path, changes: dict[str, object], match: str) -> None:
    with pytest.raises(InputError, match=match):
        composer(photos, **changes)


def test_nothing_to_cut_or_to_lie_behind(photos: Path) -> None:
    data = CocoDataset.read(photos)
    with pytest.raises(DataError, match="no object can be cut"):
        PhotoComposer([Photos(data)], min_side=500)
    with pytest.raises(DataError, match="no photograph for the background"):
        PhotoComposer([Photos(data, background=False)])


def test_files_hold_the_compositions(photos: Path, tmp_path: Path) -> None:
    made = composer(photos)
    done: list[int] = []
    write_compositions(made, tmp_path / "out", 5, done.append)
    assert done == [1, 2, 3, 4, 5]
    data = CocoDataset.read(tmp_path / "out" / "instances.json", tmp_path / "out" / "images")
    assert data.names == {1: "ball", 2: "pea"}
    for image_id in data.image_ids:
        one = made.compose(image_id - 1)
        assert (data.read_image(image_id).pixels == one.image).all()
        assert (data.annotations_of(image_id).masks == one.segments.masks).all()
        assert data.image_record(image_id)["background"] == "2.png"


def test_the_command(photos: Path, tmp_path: Path) -> None:
    arguments = ["compose", str(tmp_path / "o"), "--photos", str(photos), "--count", "3"]
    result = CliRunner().invoke(app, [*arguments, "--size", "64", "--objects", "1-2"])
    assert result.exit_code == 0, result.output
    assert "3 pictures in" in result.output
    assert len(json.loads((tmp_path / "o" / "instances.json").read_text())["images"]) == 3
    result = CliRunner().invoke(app, [*arguments, "--objects", "many"])
    assert isinstance(result.exception, InputError)


@needs_shared
def test_real_photographs() -> None:
    folder = SHARED / "data" / "photos"
    source = Photos(CocoDataset.read(folder / "coco.json", folder))
    made = PhotoComposer([source], size=192, seed=1)
    counts = [made.compose(k).segments.label_sources.count("pasted") for k in range(10)]
    assert min(counts) >= 1
    assert np.mean(counts) > 2.5
