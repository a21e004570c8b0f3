"""The result type: columns, selections, forms it leaves in and comes back from."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from anymask.errors import SegmentsError
from anymask.ops import rle
from anymask.segments import Segments

WORDS = st.one_of(st.none(), st.sampled_from(["cat", "fire hydrant", "猫", 'a"b\n', "object"]))
NUMBERS = st.one_of(st.just(float("nan")), st.floats(0, 1, width=32))


@st.composite
def segments(draw: st.DrawFn, size: tuple[int, int] | None = None, ids: bool = True) -> Segments:
    height, width = size or draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    count = draw(st.integers(0, 5))

    def column(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=count, max_size=count))

    numbers = draw(st.lists(st.integers(0, 99), min_size=count, max_size=count, unique=True))
    return Segments.from_masks(
        draw(npst.arrays(bool, (count, height, width))),
        scores=column(NUMBERS),
        labels=column(WORDS),
        label_scores=column(NUMBERS),
        label_sources=column(WORDS),
        ids=numbers if ids else None,
        crowd=column(st.booleans()),
    )


def sample() -> Segments:
    masks = np.zeros((4, 6, 8), bool)
    masks[0, 1:3, 1:5] = True
    masks[1, :, 0] = True
    masks[2, 0:5, 2:7] = True
    masks[2, 2:3, 4:5] = False
    return Segments.from_masks(
        masks, scores=[0.5, 0.9, 0.5, 0.1], labels=["cat", "dog", "cat", None], ids=[7, 3, 9, 1]
    )


# ----------------------------------------------------------------------------------- columns


@given(npst.arrays(bool, st.tuples(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9))))
def test_masks_areas_and_boxes(masks: Any) -> None:
    found = Segments.from_masks(masks)
    assert np.array_equal(found.masks, masks)
    assert np.array_equal(found.areas, masks.sum((1, 2)))
    assert all(np.array_equal(a, b) for a, b in zip(found.iter_masks(), masks))
    for row, mask in enumerate(masks):
        assert np.array_equal(found.mask(row), mask)
        y, x = np.nonzero(mask)
        tight = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
        assert found.boxes[row].tolist() == tight


def test_types_of_columns() -> None:
    found = sample()
    assert found.size == (6, 8)
    assert found.boxes.dtype == found.scores.dtype == found.label_scores.dtype == np.float32
    assert found.areas.dtype == np.int64
    assert found.crowd.dtype == found.masks.dtype == bool
    assert found.labels == ("cat", "dog", "cat", None)
    assert found.ids == (7, 3, 9, 1)
    assert found.label_sources == (None,) * 4
    assert np.isnan(found.label_scores).all()
    bare = Segments(found.size, found.rles)
    assert np.isnan(bare.scores).all()
    assert bare.labels == bare.ids == (None,) * 4


def test_nothing_can_be_changed() -> None:
    found = sample()
    for array in (found.boxes, found.scores, found.label_scores, found.crowd, found.areas):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(AttributeError):
        found.scores = 1  # type: ignore[misc, assignment]
    found.rles.clear()
    assert len(found) == 4
    scores = np.array([1, 2, 3, 4], np.float32)
    kept = found.with_scores(scores)
    scores[0] = 9
    assert kept.scores[0] == 1


def test_a_full_hd_result_costs_kilobytes() -> None:
    y, x = np.mgrid[:1080, :1920]
    circles = ((y - 540) ** 2 + (x - 60 * row) ** 2 < 200**2 for row in range(28))
    found = Segments.from_masks(circles)
    assert len(found) == 28
    assert sum(len(code["counts"]) for code in found.rles) < 60_000
    assert len(pickle.dumps(found)) < 80_000


def test_empty() -> None:
    none = Segments.empty((3, 4))
    assert len(none) == 0
    assert none.masks.shape == (0, 3, 4)
    assert none.boxes.shape == (0, 4)
    assert none.areas.shape == none.scores.shape == (0,)
    assert none.to_coco() == []
    assert none.to_label_map().tolist() == np.zeros((3, 4)).tolist()
    assert list(none) == []
    assert none.sorted_by_score() == none == none[[]] == none + none


# -------------------------------------------------------------------------------- selections


@given(segments(), st.data())
def test_selections_are_those_of_numpy(found: Segments, data: st.DataObject) -> None:
    rows = np.arange(len(found))
    indices = st.lists(st.integers(-len(found), len(found) - 1), max_size=6)
    choice = data.draw(
        st.one_of(
            st.slices(len(found)),
            npst.arrays(bool, len(found)),
            indices if len(found) else st.just([]),
        )
    )
    picked = found[choice]
    kept = rows[np.array(choice, int) if isinstance(choice, list) else choice]
    assert len(picked) == len(kept)
    assert np.array_equal(picked.masks, found.masks[kept])
    assert np.array_equal(picked.boxes, found.boxes[kept])
    assert np.array_equal(picked.areas, found.areas[kept])
    assert np.array_equal(picked.scores, found.scores[kept], equal_nan=True)
    assert picked.labels == tuple(found.labels[row] for row in kept)
    assert picked.ids == tuple(found.ids[row] for row in kept)
    assert np.array_equal(picked.crowd, found.crowd[kept])


def test_single_rows_and_iteration() -> None:
    found = sample()
    assert found[1].labels == found[-3].labels == found[np.int64(1)].labels == ("dog",)
    assert [row.ids for row in found] == [(7,), (3,), (9,), (1,)]
    assert found[found.scores > 0.4].ids == (7, 3, 9)
    assert found[[True, False, False, True]].ids == (7, 1)
    assert found[torch.tensor([2, 0])].ids == (9, 7)


@pytest.mark.parametrize("rows", [4, -5, [0, 4], [True], np.ones(5, bool), 1.5, "a", None, [[0]]])
def test_rows_that_do_not_exist(rows: Any) -> None:
    with pytest.raises(IndexError):
        sample()[rows]


def test_sorting_is_stable_and_nan_comes_last() -> None:
    assert sample().sorted_by_score().ids == (3, 7, 9, 1)
    assert sample().with_scores([np.nan, 0, np.nan, 1]).sorted_by_score().ids == (1, 3, 7, 9)


@given(st.data())
def test_concatenation(data: st.DataObject) -> None:
    first, second = (data.draw(segments(size=(4, 5))) for _ in range(2))
    both = first + second
    assert both == Segments.concat([first, second])
    assert both[: len(first)] == first
    assert both[len(first) :] == second
    assert sum(len(part) for part in both) == len(both)


def test_concatenation_errors() -> None:
    with pytest.raises(SegmentsError, match="cannot be joined"):
        Segments.empty((3, 4)) + Segments.empty((4, 3))
    with pytest.raises(SegmentsError, match="at least one"):
        Segments.concat([])
    with pytest.raises(TypeError):
        sample() + 1  # type: ignore[operator]


def test_given_boxes_are_kept() -> None:
    boxes = np.array([[0, 0, 2.5, 3], [1, 1, 2, 2], [0, 0, 1, 1], [0, 0, 8, 6]])
    given_boxes = Segments((6, 8), sample().rles, boxes=boxes)
    assert np.array_equal(given_boxes.boxes, boxes)
    assert np.array_equal(given_boxes[[2, 0]].boxes, boxes[[2, 0]])
    assert np.array_equal(given_boxes.with_scores([1, 2, 3, 4]).boxes, boxes)
    assert np.array_equal((given_boxes + sample()).boxes[:4], boxes)
    assert np.array_equal((given_boxes + sample()).boxes[4:], sample().boxes)


def test_with_labels() -> None:
    found = sample().with_labels(["a", "b", "c", None], [0.1, 0.2, 0.3, np.nan], "model")
    assert found.labels == ("a", "b", "c", None)
    assert found.label_sources == ("model",) * 4
    assert found.label_scores.tolist()[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert found.ids == sample().ids
    bare = found.with_labels(["x"] * 4)
    assert bare.label_sources == (None,) * 4


# ------------------------------------------------------------------------------- equality


@given(segments())
def test_equality_copies_and_pickles(found: Segments) -> None:
    assert found == found[:]
    assert found == copy.deepcopy(found)
    assert found == pickle.loads(pickle.dumps(found))
    assert found != 3
    for row in range(len(found)):
        assert found != found.with_ids([*found.ids[:row], 100, *found.ids[row + 1 :]])


def test_inequality_of_every_column() -> None:
    found = sample()
    others = [
        found[:3],
        found[::-1],
        found.with_scores([0.5, 0.9, 0.5, 0.2]),
        found.with_labels(["cat", "dog", "cat", "cat"]),
        found.with_labels(found.labels, [1, 2, 3, 4]),
        found.with_labels(found.labels, None, "me"),
        Segments((6, 8), found.rles, scores=found.scores, labels=found.labels),
        Segments.empty((8, 6)),
    ]
    assert all(found != other for other in others)
    with pytest.raises(TypeError):
        hash(found)


def test_repr() -> None:
    assert repr(sample()) == "Segments(4 on 6x8, scores 0.10..0.90, labels cat x2, dog)"
    assert repr(Segments.empty((3, 4))) == "Segments(0 on 3x4)"
    many = Segments.from_masks(np.ones((8, 1, 1)), labels=list("abcdefgh"), crowd=[1] * 8)
    assert repr(many) == "Segments(8 on 1x1, labels a, b, c, d, e, f, ..., 8 crowd)"


# ------------------------------------------------------------------------------------- COCO


@given(segments())
def test_coco_round_trip_loses_nothing(found: Segments) -> None:
    records = json.loads(json.dumps(found.to_coco(image_id=5)))
    assert Segments.from_coco(records, found.size) == found
    assert all(record["image_id"] == 5 for record in records)


@given(segments(ids=False))
def test_rows_without_ids_are_numbered(found: Segments) -> None:
    records = found.to_coco(first_id=10)
    assert [record["id"] for record in records] == list(range(10, 10 + len(found)))
    assert Segments.from_coco(records, found.size).with_ids([None] * len(found)) == found


def test_numbering_passes_over_ids_that_are_taken() -> None:
    found = sample().with_ids([None, 2, None, 1])
    assert [record["id"] for record in found.to_coco()] == [3, 2, 4, 1]


def test_coco_records() -> None:
    record = sample().to_coco(image_id=4)[0]
    assert record["bbox"] == [1, 1, 4, 2]
    assert record["area"] == 8
    assert record["iscrowd"] == 0
    assert record["category_id"] == 1
    assert record["score"] == 0.5
    assert record["label"] == "cat"
    assert "label_score" not in record
    assert [type(value) for value in record["bbox"]] == [float] * 4


def test_category_ids() -> None:
    found = sample()[:3]
    numbers = {"cat": 17, "dog": 18}
    assert [r["category_id"] for r in found.to_coco(category_ids=numbers)] == [17, 18, 17]
    with pytest.raises(SegmentsError, match="'dog'"):
        found.to_coco(category_ids={"cat": 1})
    with pytest.raises(SegmentsError, match="region 3 has no label"):
        sample().to_coco(category_ids=numbers)


def test_foreign_coco_records() -> None:
    records: list[dict[str, Any]] = [
        {"id": 5, "category_id": 2, "segmentation": [[1, 1, 4, 1, 4, 3, 1, 3]], "iscrowd": 0},
        {"category_id": 9, "segmentation": {"size": [5, 6], "counts": [0, 30]}, "iscrowd": 1},
        {"category_id": 2, "segmentation": rle.to_coco_str(rle.encode(np.eye(5, 6)))},
    ]
    found = Segments.from_coco(records, (5, 6), {2: "cat", 9: "crowd of people"})
    assert found.labels == ("cat", "crowd of people", "cat")
    assert found.areas.tolist() == [6, 30, 5]
    assert found.crowd.tolist() == [False, True, False]
    assert found.ids == (5, None, None)
    assert np.isnan(found.scores).all()
    assert Segments.from_coco(records, (5, 6)).labels == (None,) * 3


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"id": 3}, r"record 0 \(id 3\) has no segmentation"),
        ({"segmentation": {"size": [9, 9], "counts": [81]}}, "record 0: .*9x9"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]], "category_id": 7}, "category 7"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6]], "category_id": [7]}, "category"),
    ],
)
def test_broken_coco_records(record: dict[str, Any], message: str) -> None:
    with pytest.raises(SegmentsError, match=message):
        Segments.from_coco([record], (5, 6), {1: "cat"})


# ----------------------------------------------------------------------------- label pictures


def test_label_map_order() -> None:
    masks = np.ones((3, 1, 4), bool)
    masks[1, :, 3] = masks[2, :, :1] = False
    assert Segments.from_masks(masks).to_label_map().tolist() == [[2, 3, 3, 3]]
    scored = Segments.from_masks(masks, scores=[0.1, 0.9, 0.5])
    assert scored.to_label_map().tolist() == [[2, 2, 2, 3]]
    partly = Segments.from_masks(masks, scores=[0.1, np.nan, np.nan])
    assert partly.to_label_map().tolist() == [[1, 1, 1, 1]]
    assert scored.to_label_map().dtype == np.int32


@given(
    npst.arrays(
        np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)
    )
)
def test_label_map_round_trip(values: Any) -> None:
    found = Segments.from_label_map(values)
    painted = found.to_label_map()
    numbers = np.array([0, *found.ids])
    assert np.array_equal(numbers[painted], values)


def test_label_map_options() -> None:
    values = np.array([[0, 1, 255], [2, 2, 1]])
    found = Segments.from_label_map(values, ignore=(255,), names={0: "sky", 1: "cat"})
    assert found.ids == (0, 1, 2)
    assert found.labels == ("sky", "cat", None)
    assert Segments.from_label_map(np.zeros((2, 2), int)) == Segments.empty((2, 2))
    for wrong in (np.zeros((2, 2)), np.zeros(3, int), np.zeros((1, 2, 3), int)):
        with pytest.raises(SegmentsError, match="label map"):
            Segments.from_label_map(wrong)


# -------------------------------------------------------------------------------- supervision


def test_supervision_round_trip() -> None:
    supervision = pytest.importorskip("supervision")
    found = sample().with_ids([None] * 4)
    detections = found.to_supervision()
    assert isinstance(detections, supervision.Detections)
    assert detections.class_id.tolist() == [0, 1, 0, -1]
    assert Segments.from_supervision(detections) == found
    assert Segments.from_supervision(found[[]].to_supervision(), size=(6, 8)) == found[[]]
    bare = Segments((6, 8), found.rles).to_supervision()
    assert bare.confidence is None
    assert "class_name" not in bare.data
    with pytest.raises(SegmentsError, match="boxes only"):
        Segments.from_supervision(supervision.Detections(xyxy=np.zeros((1, 4))))
    with pytest.raises(SegmentsError, match="size"):
        Segments.from_supervision(supervision.Detections.empty())


def test_supervision_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "supervision", None)
    with pytest.raises(ImportError, match=r"anymask\[supervision\]"):
        sample().to_supervision()


# ------------------------------------------------------------------------------- making, errors


def test_from_masks_takes_tensors_and_generators() -> None:
    masks = np.random.default_rng(0).random((3, 4, 5)) < 0.5
    expected = Segments.from_masks(masks)
    assert Segments.from_masks(torch.from_numpy(masks)) == expected
    assert Segments.from_masks(torch.from_numpy(mask) for mask in masks) == expected
    assert Segments.from_masks(list(masks)) == expected
    assert Segments.from_masks(masks.astype(np.float32)) == expected
    assert Segments.from_masks([], size=(4, 5)) == Segments.empty((4, 5))
    assert Segments.from_masks(masks, scores=torch.tensor([1, 2, 3])).scores.tolist() == [1, 2, 3]


ONE = rle.encode(np.ones((4, 5), bool))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Segments((0, 5), []), "height, width"),
        (lambda: Segments("ab", []), "height, width"),  # type: ignore[arg-type]
        (lambda: Segments((5, 4), [ONE]), "mask 0 was made for"),
        (lambda: Segments((4, 5), [np.ones((4, 5))]), "from_masks"),  # type: ignore[list-item]
        (lambda: Segments((4, 5), [{"size": [4, 5], "counts": "k0"}]), "from_coco"),  # type: ignore[typeddict-item]
        (lambda: Segments((4, 5), [ONE], scores=[1, 2]), "scores has 2 rows"),
        (lambda: Segments((4, 5), [ONE], scores=[[1]]), "shape"),
        (lambda: Segments((4, 5), [ONE], scores=["a"]), "numbers"),
        (lambda: Segments((4, 5), [ONE], scores=[np.inf]), "infinite"),
        (lambda: Segments((4, 5), [ONE], labels=[]), "labels has 0 rows"),
        (lambda: Segments((4, 5), [ONE], labels="a"), "not one word"),
        (lambda: Segments((4, 5), [ONE], labels=[3]), r"labels\[0\]"),  # type: ignore[list-item]
        (lambda: Segments((4, 5), [ONE], label_scores=[]), "label_scores has 0 rows"),
        (lambda: Segments((4, 5), [ONE], label_sources=[1]), r"label_sources\[0\]"),  # type: ignore[list-item]
        (lambda: Segments((4, 5), [ONE], ids=["a"]), r"ids\[0\]"),  # type: ignore[list-item]
        (lambda: Segments((4, 5), [ONE], ids=[1, 2]), "ids has 2 rows"),
        (lambda: Segments((4, 5), [ONE], crowd=[True, False]), "crowd has 2 rows"),
        (lambda: Segments((4, 5), [ONE], boxes=[[0, 0, 1, 1]] * 2), "boxes has 2 rows"),
        (lambda: Segments((4, 5), [ONE], boxes=[[3, 3, 1, 1]]), "from_xywh"),
        (lambda: Segments.from_masks(np.ones((4, 5))), r"mask\[None\]"),
        (lambda: Segments.from_masks(np.ones((1, 0, 5))), "size|pixel"),
        (lambda: Segments.from_masks([]), "no size"),
        (lambda: Segments.from_masks([np.ones((4, 5)), np.ones((5, 4))]), "mask 1"),
        (lambda: Segments.from_masks(3), r"\(N, H, W\)"),
        (lambda: Segments.from_masks(np.full((1, 2, 2), np.nan)), "NaN"),
    ],
)
def test_malformed_columns(make: Any, message: str) -> None:
    with pytest.raises(SegmentsError, match=message):
        make()
