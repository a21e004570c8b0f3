"""Duplicates, overlaps and containment of masks against dense numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from anymask.errors import SegmentsError
from anymask.ops import masks, rle
from anymask.segments import Segments

STACKS = npst.arrays(bool, st.tuples(st.integers(0, 7), st.just(6), st.just(5)))


def dense_iou(stack: NDArray[np.bool_]) -> NDArray[np.float64]:
    inner = (stack[:, None] & stack[None]).sum((2, 3))
    outer = (stack[:, None] | stack[None]).sum((2, 3))
    return inner / np.maximum(outer, 1)


@given(STACKS)
def test_iou_matrix(stack: NDArray[np.bool_]) -> None:
    codes = [rle.encode(mask) for mask in stack]
    assert np.allclose(masks.iou_matrix(codes), dense_iou(stack), atol=1e-6)


def test_iou_matrix_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    stack = np.random.default_rng(0).random((23, 9, 8)) < 0.2
    stack[::3, :, :4] = False
    stack[1::3, :, 4:] = False
    monkeypatch.setattr(masks, "_BLOCK", 5)
    codes = [rle.encode(mask) for mask in stack]
    assert np.allclose(masks.iou_matrix(codes), dense_iou(stack), atol=1e-6)


@given(STACKS, st.floats(0, 1), st.data())
def test_nms_keeps_what_no_better_one_covers(
    stack: NDArray[np.bool_], threshold: float, data: st.DataObject
) -> None:
    scores = data.draw(npst.arrays(np.float32, len(stack), elements=st.floats(0, 1, width=16)))
    codes = [rle.encode(mask) for mask in stack]
    iou = masks.iou_matrix(codes)
    expected: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        if all(iou[row, kept] <= threshold for kept in expected):
            expected.append(int(row))
    assert masks.nms(codes, scores, threshold).tolist() == expected
    segments = Segments((6, 5), codes, scores=scores)
    assert masks.nms(segments, iou_threshold=threshold).tolist() == expected


def test_nms_by_hand() -> None:
    stack = np.zeros((3, 4, 4), bool)
    stack[0, :, :2] = stack[1, :, :3] = stack[2, :, 3:] = True
    segments = Segments.from_masks(stack, scores=[0.5, 0.9, 0.1])
    assert masks.nms(segments, iou_threshold=0.5).tolist() == [1, 2]
    assert masks.nms(segments, iou_threshold=0.7).tolist() == [1, 0, 2]
    assert masks.nms(segments, [0.9, 0.5, 0.1], 0.5).tolist() == [0, 2]
    assert masks.nms(segments, [np.nan, np.nan, 0.1], 0.5).tolist() == [2, 0]


def test_containment() -> None:
    stack = np.zeros((2, 4, 4), bool)
    stack[0, :2, :2] = stack[1, :, :1] = True
    codes = [rle.encode(mask) for mask in stack]
    assert masks.containment(codes, codes).tolist() == [[1, 0.5], [0.5, 1]]


def test_errors() -> None:
    code = rle.encode(np.ones((4, 4), bool))
    with pytest.raises(SegmentsError, match="no scores"):
        masks.nms([code])
    with pytest.raises(SegmentsError, match="expected"):
        masks.nms([code], [1, 2])
    with pytest.raises(SegmentsError, match="square"):
        masks.greedy_nms(np.zeros((2, 3)), 0.5)
    with pytest.raises(SegmentsError, match="sizes"):
        masks.nms([code, rle.encode(np.ones((4, 5), bool))], [1, 2])
