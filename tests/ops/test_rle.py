"""Run-length masks against dense numpy: round trips, measures, moves, and hostile encodings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from anymask.errors import SegmentsError
from anymask.ops import rle

SIDES = st.integers(1, 24)
SIZES = st.tuples(SIDES, SIDES)
MASKS = npst.arrays(bool, SIZES)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    size = draw(SIZES)
    return draw(npst.arrays(bool, size)), draw(npst.arrays(bool, size))


@given(MASKS)
def test_encode_decode(mask: NDArray[np.bool_]) -> None:
    code = rle.encode(mask)
    assert code["size"] == list(mask.shape)
    assert isinstance(code["counts"], bytes)
    assert np.array_equal(rle.decode(code), mask)
    assert rle.encode(mask.astype(np.uint8) * 7) == code
    assert rle.encode(np.ascontiguousarray(mask.T).T) == code


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@given(MASKS)
def test_encoding_is_that_of_pycocotools(mask: NDArray[np.bool_]) -> None:
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert rle.encode(mask)["counts"] == theirs["counts"]
    assert np.array_equal(coco_mask.decode(theirs), rle.decode(rle.encode(mask)))


@given(MASKS)
def test_run_lengths(mask: NDArray[np.bool_]) -> None:
    code = rle.encode(mask)
    runs = rle.run_lengths(code)
    assert runs.sum() == mask.size
    assert runs[1::2].sum() == mask.sum()
    assert rle.from_run_lengths(runs, mask.shape) == code


@given(MASKS)
def test_every_form_of_coco_files_is_read(mask: NDArray[np.bool_]) -> None:
    code = rle.encode(mask)
    text = rle.to_coco_str(code)
    assert isinstance(text["counts"], str)
    listed = {"size": text["size"], "counts": rle.run_lengths(code).tolist()}
    floats = {"size": text["size"], "counts": [float(n) for n in listed["counts"]]}
    for form in (text, code, listed, floats):
        assert rle.from_coco_any(form, mask.shape) == code


def test_empty_runs_inside_are_made_canonical() -> None:
    # 0 zeros, 2 ones, 0 zeros, 1 one, 3 zeros, 0 ones: the first three pixels.
    read = rle.from_coco_any({"size": [3, 2], "counts": [0, 2, 0, 1, 3, 0]}, (3, 2))
    assert read == rle.encode(np.array([[1, 0], [1, 0], [1, 0]], bool))
    assert rle.run_lengths(read).tolist() == [0, 3, 3]
    blank = rle.from_coco_any({"size": [3, 2], "counts": [4, 0, 2]}, (3, 2))
    assert blank == rle.encode(np.zeros((3, 2), bool))


@given(pairs())
def test_measures(pair: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> None:
    codes = [rle.encode(mask) for mask in pair]
    assert rle.area(codes).tolist() == [mask.sum() for mask in pair]
    for mask, box in zip(pair, rle.boxes(codes)):
        y, x = np.nonzero(mask)
        tight = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0, 0, 0, 0]
        assert box.tolist() == tight
    first, second = pair
    inner, outer = (first & second).sum(), (first | second).sum()
    expected = inner / outer if outer else 0.0
    assert rle.iou(codes[:1], codes[1:])[0, 0] == pytest.approx(expected)
    share = inner / first.sum() if first.any() else 0.0
    assert rle.iou(codes[:1], codes[1:], crowd=[True])[0, 0] == pytest.approx(share)


@given(pairs())
def test_union_and_intersection(pair: tuple[NDArray[np.bool_], NDArray[np.bool_]]) -> None:
    first, second = pair
    codes = [rle.encode(first), rle.encode(second)]
    assert rle.merge(codes) == rle.encode(first | second)
    assert rle.intersect(codes) == rle.encode(first & second)
    assert rle.merge(codes[:1]) == rle.intersect(codes[:1]) == codes[0]


@given(MASKS, SIZES, st.integers(-26, 26), st.integers(-26, 26))
def test_place(mask: NDArray[np.bool_], size: tuple[int, int], top: int, left: int) -> None:
    wide = np.zeros((80, 80), bool)
    wide[26 + top :, 26 + left :][: mask.shape[0], : mask.shape[1]] = mask
    expected = wide[26 : 26 + size[0], 26 : 26 + size[1]]
    assert rle.place(rle.encode(mask), size, top, left) == rle.encode(expected)


@given(MASKS, st.data())
def test_decode_window(mask: NDArray[np.bool_], data: st.DataObject) -> None:
    top, bottom = sorted(data.draw(st.tuples(*[st.integers(0, mask.shape[0])] * 2)))
    left, right = sorted(data.draw(st.tuples(*[st.integers(0, mask.shape[1])] * 2)))
    window = rle.decode_window(rle.encode(mask), top, left, bottom, right)
    assert np.array_equal(window, mask[top:bottom, left:right])


@given(npst.arrays(np.int32, SIZES, elements=st.integers(-2, 4)))
def test_encode_label_map(values: NDArray[np.int32]) -> None:
    codes = rle.encode_label_map(values)
    assert list(codes) == np.unique(values).tolist()
    for value, code in codes.items():
        assert code == rle.encode(values == value)


@pytest.mark.parametrize("count", [255, 256, 300, 1000])
def test_many_masks(count: int) -> None:
    codes = [rle.encode(np.arange(12).reshape(3, 4) < number % 13) for number in range(count)]
    areas = [number % 13 for number in range(count)]
    assert rle.area(codes).tolist() == areas
    assert rle.boxes(codes).shape == (count, 4)
    assert rle.iou(codes, codes).shape == (count, count)
    assert rle.area([rle.merge(codes)]).tolist() == [12]


def test_windows_outside_are_refused() -> None:
    code = rle.encode(np.ones((4, 5), bool))
    for window in [(-1, 0, 2, 2), (0, 0, 5, 2), (0, 3, 2, 2), (0, 0, 2, 6)]:
        with pytest.raises(SegmentsError, match="window"):
            rle.decode_window(code, *window)


def test_no_masks() -> None:
    code = rle.encode(np.ones((4, 5), bool))
    assert rle.iou([], [code]).shape == (0, 1)
    assert rle.iou([code], []).shape == (1, 0)
    assert rle.area([]).shape == (0,)
    assert rle.boxes([]).shape == (0, 4)
    for combine in (rle.merge, rle.intersect):
        with pytest.raises(SegmentsError, match="at least one"):
            combine([])


def test_sizes_must_agree() -> None:
    codes = [rle.encode(np.ones((4, 5), bool)), rle.encode(np.ones((5, 4), bool))]
    for combine in (rle.merge, rle.intersect):
        with pytest.raises(SegmentsError, match="4x5, 5x4"):
            combine(codes)
    with pytest.raises(SegmentsError, match="4x5, 5x4"):
        rle.iou(codes[:1], codes[1:])
    with pytest.raises(SegmentsError, match="crowd"):
        rle.iou(codes[:1], codes[:1], crowd=[True, False])


@pytest.mark.parametrize(
    "mask", [np.zeros(4), np.zeros((2, 3, 4)), np.zeros((0, 4)), np.array([[np.nan, 1.0]])]
)
def test_what_is_no_mask(mask: Any) -> None:
    with pytest.raises(SegmentsError):
        rle.encode(mask)


def test_polygons() -> None:
    square = rle.from_coco_any([[1, 1, 4, 1, 4, 3, 1, 3]], (5, 6))
    dense = np.zeros((5, 6), bool)
    dense[1:3, 1:4] = True
    assert square == rle.encode(dense)
    two = rle.from_coco_any([[1, 1, 4, 1, 4, 3, 1, 3], [0, 4, 2, 4, 2, 5, 0, 5]], (5, 6))
    dense[4, 0:2] = True
    assert two == rle.encode(dense)
    # Four numbers would be taken for a box by pycocotools; two corners enclose nothing.
    assert rle.from_coco_any([[1, 1, 4, 3]], (5, 6)) == rle.encode(np.zeros((5, 6), bool))
    assert rle.area([rle.from_coco_any([[-50, -50, 90, -50, 90, 90, -50, 90]], (5, 6))]) == 30


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (None, "not a NoneType"),
        ("abc", "not a str"),
        ({"counts": "06"}, "keys size and counts"),
        ({"size": [2, 3]}, "keys size and counts"),
        ({"size": [2], "counts": "06"}, r"\[H, W\]"),
        ({"size": "23", "counts": "06"}, r"\[H, W\]"),
        ({"size": [3, 2], "counts": [6]}, "3x2"),
        ({"size": [2, 3], "counts": [5]}, "cover 5 pixels"),
        ({"size": [2, 3], "counts": [7, -1]}, "run of -1"),
        ({"size": [2, 3], "counts": [2**62, 2**62, 2**62, 2**62 + 6]}, "run of 46"),
        ({"size": [2, 3], "counts": [2**80]}, "run lengths"),
        ({"size": [2, 3], "counts": [1.5, 4.5]}, "whole"),
        ({"size": [2, 3], "counts": [float("nan")]}, "whole"),
        ({"size": [2, 3], "counts": [[3], [3]]}, "flat"),
        ({"size": [2, 3], "counts": [[3], 3]}, "flat"),
        ({"size": [2, 3], "counts": ["6"]}, "flat"),
        ({"size": [2, 3], "counts": []}, "cover 0 pixels"),
        ({"size": [2, 3], "counts": ""}, "cover 0 pixels"),
        ({"size": [2, 3], "counts": 6}, "text or a list"),
        ({"size": [2, 3], "counts": "é"}, "characters"),
        ({"size": [2, 3], "counts": "\n"}, "characters"),
        ({"size": [2, 3], "counts": "P"}, "middle of a number"),
        ({"size": [2, 3], "counts": "o" * 20 + "0"}, "too large"),
        ({"size": [2, 3], "counts": "9"}, "run of 9 pixels"),
        ([[1, 2, 3, 4, 5]], "even"),
        ([1, 2, 3, 4, 5, 6], "list of lists"),
        ([[1, 2, "x", 4, 5, 6]], "numbers"),
        ([[[1, 2], [3, 4], [5, 6]]], "even"),
        ([[0, 0, float("nan"), 1, 1, 1]], "NaN"),
        ([[0, 0, 1e12, 0, 1e12, 1e12]], "outside"),
    ],
)
def test_hostile_segmentations(segmentation: Any, message: str) -> None:
    with pytest.raises(SegmentsError, match=message):
        rle.from_coco_any(segmentation, (2, 3))


def test_damaged_counts_are_never_decoded_into_foreign_memory() -> None:
    # pycocotools returns memory it never wrote for the first of these.
    for counts in (b"", b"9", b"3T3", b"O3"):
        with pytest.raises(SegmentsError):
            rle.decode({"size": [4, 4], "counts": counts})


@pytest.mark.parametrize("size", [(0, 4), (4, -1), (4,), (4.5, 4), (2**20, 2**20), None])
def test_impossible_sizes(size: Any) -> None:
    with pytest.raises(SegmentsError, match="size"):
        rle.from_run_lengths([4], size)


@given(st.binary(max_size=12))
def test_any_bytes_are_read_or_refused(counts: bytes) -> None:
    try:
        code = rle.from_coco_any({"size": [4, 4], "counts": counts}, (4, 4))
    except SegmentsError:
        return
    assert rle.encode(rle.decode(code)) == code


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 40))
def test_many_at_once_equal_one_by_one(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    masks = [rng.random((height, width)) < rng.random() for _ in range(int(rng.integers(1, 6)))]
    good = [rle.to_coco_str(rle.encode(mask)) for mask in masks]
    odd: list[Any] = [
        [[0, 0, 0, 3, 3, 3]],  # a polygon
        {**good[0], "size": [height + 1, width]},
        {**good[0], "counts": good[0]["counts"][:-1]},  # cut off
        {**good[0], "counts": good[0]["counts"] + "1"},  # too many pixels
        {**good[0], "counts": "~~"},
        {"size": [height, width], "counts": [height * width]},  # not compressed
        "nonsense",
    ]
    mixed = [*good, *odd]
    order = rng.permutation(len(mixed))
    found = rle.from_coco_many([mixed[k] for k in order], (height, width))
    for k, read in zip(order.tolist(), found, strict=True):
        if k < len(good):
            assert read == rle.from_coco_any(good[k], (height, width))
        elif read is not None:  # what cutting leaves may still be a mask
            assert read == rle.from_coco_any(mixed[k], (height, width))


def test_other_spellings_are_read_one_by_one() -> None:
    """Runs of length zero and needless codes mean the same mask in other bytes."""
    plain = rle.to_coco_str(rle.from_run_lengths([3, 2, 7], (3, 4)))
    assert rle.from_coco_many([plain], (3, 4)) == [rle.from_coco_any(plain, (3, 4))]
    for counts in ("3207", "3P02000"):
        other = {"size": [3, 4], "counts": counts}
        assert rle.from_coco_many([other], (3, 4)) == [None]
