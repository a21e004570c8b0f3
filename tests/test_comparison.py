"""Two results side by side: who found what, and the picture of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.comparison import (
    BOX,
    Results,
    compare_picture,
    compare_results,
    draw_comparison,
    pairs,
    summary,
)
from anymask.data.coco import CocoDataset
from anymask.data.formats.coco import write_coco_dataset
from anymask.errors import DataError
from anymask.image import Image
from anymask.segments import Segments

SIZE = (60, 80)


def boxes(*corners: tuple[int, int, int, int], **columns: Any) -> Segments:
    masks = np.zeros((len(corners), *SIZE), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, corners):
        mask[y0:y1, x0:x1] = True
    return Segments.from_masks(masks, size=SIZE, **columns)


A, B, C = (5, 5, 25, 25), (40, 5, 60, 25), (10, 35, 40, 55)
NEARLY_A = (5, 5, 25, 23)  # IoU 0.9 with A
FAR_FROM_A = (15, 5, 35, 25)  # IoU 1/3 with A


def test_pairs_are_one_to_one() -> None:
    assert pairs(boxes(A, B), boxes(B, NEARLY_A)) == {0: 1, 1: 0}
    assert pairs(boxes(A), boxes(FAR_FROM_A)) == {}
    assert len(pairs(boxes(A, NEARLY_A), boxes(A))) == 1
    assert pairs(boxes(), boxes(A)) == {}


def test_without_truth_what_is_shared_and_what_is_not() -> None:
    one = compare_picture("p", boxes(A, B), boxes(NEARLY_A, C))
    assert one.groups == (["shared", "only here"], ["shared", "only here"])
    assert one.boxed[0].tolist() == [list(B)]
    assert one.boxed[1].tolist() == [list(C)]
    assert one.difference == 2
    assert one.counts == {("object", "both"): 1, ("object", "first"): 1, ("object", "second"): 1}


def test_with_truth_objects_are_counted_by_group() -> None:
    truth, groups = boxes(A, B, C), ["known", "seen", "unseen"]
    one = compare_picture("p", boxes(NEARLY_A, B), boxes(A, (0, 0, 3, 3)), truth, groups)
    assert one.counts == {("known", "both"): 1, ("seen", "first"): 1, ("unseen", "neither"): 1}
    assert one.groups == (["known", "seen"], ["known", "no object"])
    assert one.boxed[0].tolist() == [list(B)]
    assert len(one.boxed[1]) == 0
    table = summary([one], ("ours", "theirs")).splitlines()
    assert table[0].split() == ["group", "both", "only", "ours", "only", "theirs", "neither"]
    assert [line.split() for line in table[1:]] == [
        ["known", "1", "0", "0", "0"],
        ["seen", "0", "1", "0", "0"],
        ["unseen", "0", "0", "0", "1"],
    ]


def test_sizes_must_agree() -> None:
    other = Segments.empty((10, 10))
    with pytest.raises(DataError, match="different sizes"):
        compare_picture("p", boxes(A), other)
    with pytest.raises(DataError, match="different sizes"):
        compare_picture("p", boxes(A), boxes(A), other, [])


def test_only_what_one_side_found_has_a_box() -> None:
    image = Image(np.full((*SIZE, 3), 60, np.uint8))
    truth = boxes(A, B)
    one = compare_picture("p", boxes(A, B), boxes(A), truth, ["known", "unseen"])
    drawn = np.asarray(draw_comparison(image, one, ("ours", "theirs")))
    assert drawn.shape[1] == 3 * SIZE[1] + 12
    yellow = (drawn == BOX).all(-1)
    panels = [yellow[:, k * (SIZE[1] + 6) :][:, : SIZE[1]].any() for k in range(3)]
    assert panels == [False, True, False]


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """Two pictures with truth, and two results."""
    (tmp_path / "photos").mkdir()
    names = ["a.png", "b.png"]
    for name in names:
        PIL.Image.new("RGB", (SIZE[1], SIZE[0]), (90, 120, 90)).save(tmp_path / "photos" / name)
    truth = [({"file_name": n}, boxes(A, B, labels=["cat", "crown"])) for n in names]
    write_coco_dataset(tmp_path / "truth.json", truth, category_ids={"cat": 1, "crown": 2})
    content = json.loads((tmp_path / "truth.json").read_text())
    for category, group in zip(content["categories"], ["known", "unseen"]):
        category["group"] = group
    (tmp_path / "truth.json").write_text(json.dumps(content))
    first = [({"file_name": n}, boxes(A, B, scores=[0.9, 0.8])) for n in names]
    second = [
        ({"file_name": "a.png"}, boxes(A, scores=[0.9])),
        ({"file_name": "b.png"}, boxes(A, B, C, scores=[0.9, 0.8, 0.1])),
    ]
    write_coco_dataset(tmp_path / "first.json", first)
    write_coco_dataset(tmp_path / "second.json", second)
    return tmp_path


def test_the_command_draws_the_most_different_first(world: Path) -> None:
    out = world / "out"
    arguments = ["compare", str(world / "first.json"), str(world / "second.json")]
    arguments += ["--photos", str(world / "photos"), "--out", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--truth", str(world / "truth.json")])
    assert result.exit_code == 0, result.output
    assert "unseen" in result.output
    assert sorted(p.name for p in out.iterdir()) == ["01-a.jpg", "02-b.jpg"]
    assert PIL.Image.open(out / "01-a.jpg").width == 3 * SIZE[1] + 12
    result = CliRunner().invoke(app, [*arguments, "--top", "1", "--out", str(world / "one")])
    assert result.exit_code == 0
    assert len(list((world / "one").iterdir())) == 1


def test_a_missing_photograph_does_not_stop_the_rest(world: Path) -> None:
    (world / "photos" / "a.png").unlink()
    arguments = ["compare", str(world / "first.json"), str(world / "second.json")]
    arguments += ["--photos", str(world / "photos"), "--out", str(world / "out")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "could not be drawn" in result.output
    assert [p.name for p in (world / "out").iterdir()] == ["02-b.jpg"]


def test_lists_of_results_need_the_data_set(world: Path, tmp_path: Path) -> None:
    records = boxes(A).to_coco(image_id=1)
    path = tmp_path / "list.json"
    path.write_text(json.dumps([{**r, "score": 0.5} for r in records]))
    with pytest.raises(DataError, match="--truth"):
        Results.read(path)
    truth = CocoDataset.read(world / "truth.json", world / "photos")
    read = Results.read(path, truth)
    assert [len(read.pictures[name]) for name in ("a.png", "b.png")] == [1, 0]
    path.write_text(json.dumps([{**records[0], "image_id": 99}]))
    with pytest.raises(DataError, match="image 99"):
        Results.read(path, truth)
    path.write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        Results.read(path, truth)
    path.write_text(json.dumps([{"image_id": 1}]))
    with pytest.raises(DataError, match="needs the keys"):
        Results.read(path, truth)


def test_results_of_other_pictures_are_refused(world: Path) -> None:
    first = Results.read(world / "first.json")
    other = Results("other", {"z.png": boxes(A)})
    with pytest.raises(DataError, match="no picture in common"):
        list(compare_results(first, other))


def test_only_the_best_segments_count(world: Path) -> None:
    assert len(Results.read(world / "second.json", top=2).pictures["b.png"]) == 2
