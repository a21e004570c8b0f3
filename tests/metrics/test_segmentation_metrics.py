"""Recall and precision against pycocotools, the specification's oracles and plain properties."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from anymask.metrics import matching
from anymask.metrics.segmentation import Regions, class_agnostic, class_aware, class_wise_recall
from anymask.ops.rle import encode

NAMES = [
    "AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
    "AR@1", "AR@10", "AR@100", "AR_small", "AR_medium", "AR_large",
]  # fmt: skip


def random_pictures(seed: int, pictures: int = 12, classes: int = 3, crowds: bool = True):
    """Truth and detections with crowds, ties, empty pictures and regions of all sizes."""
    rng = np.random.default_rng(seed)
    data = {}
    for image_id in range(1, pictures + 1):
        height, width = rng.integers(90, 180, 2)

        def draw(count: int, height: int = height, width: int = width) -> list:
            out = []
            for _ in range(count):
                h, w = rng.integers(3, 120, 2)
                top, left = rng.integers(0, height - 2), rng.integers(0, width - 2)
                mask = np.zeros((height, width), bool)
                mask[top : top + h, left : left + w] = True
                out.append(mask)
            return out

        truth = draw(rng.integers(0, 8))
        found = []
        for mask in truth:  # shifted copies overlap by all degrees
            for _ in range(rng.integers(0, 3)):
                found.append(np.roll(mask, rng.integers(-6, 7, 2), (0, 1)))
        found += draw(rng.integers(0, 5))
        if image_id == 3:
            found = []
        data[image_id] = (
            Regions.of(
                [encode(m) for m in truth],
                classes=rng.integers(1, classes + 1, len(truth)),
                crowd=rng.random(len(truth)) < (0.2 if crowds else 0),
            ),
            Regions.of(
                [encode(m) for m in found],
                scores=rng.integers(1, 20, len(found)) / 20,
                classes=rng.integers(1, classes + 1, len(found)),
            ),
        )
    return data


def official(data, use_classes: bool) -> dict[str, float]:
    """The same by pycocotools."""
    truth, found = [], []
    for image_id, (true, detected) in data.items():
        for k, rle in enumerate(true.rles):
            truth.append(
                {
                    "id": len(truth) + 1, "image_id": image_id, "segmentation": rle,
                    "category_id": int(true.classes[k]), "area": float(true.areas[k]),
                    "iscrowd": int(true.crowd[k]), "bbox": list(coco_mask.toBbox(rle)),
                }
            )  # fmt: skip
        for k, rle in enumerate(detected.rles):
            found.append(
                {
                    "image_id": image_id, "segmentation": rle, "score": float(detected.scores[k]),
                    "category_id": int(detected.classes[k]),
                }
            )  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO()
        api.dataset = {
            "images": [{"id": i, "height": 1, "width": 1} for i in data],
            "annotations": truth,
            "categories": [{"id": c} for c in range(1, 10)],
            "info": {},
        }
        api.createIndex()
        run = COCOeval(api, api.loadRes(found), "segm")
        run.params.useCats = int(use_classes)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return dict(zip(NAMES, run.stats, strict=True))


@pytest.mark.parametrize("seed", range(4))
def test_class_agnostic_equals_pycocotools(seed: int) -> None:
    # One class: with several, pycocotools breaks ties of score by category, we by file order.
    data = random_pictures(seed, classes=1)
    expected, ours = official(data, use_classes=False), class_agnostic(data)
    for name, value in expected.items():
        assert np.nan_to_num(ours[name], nan=-1) == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_class_aware_equals_pycocotools(seed: int) -> None:
    data = random_pictures(seed)
    expected, ours = official(data, use_classes=True), class_aware(data)
    for name, value in expected.items():
        assert np.nan_to_num(ours[name], nan=-1) == pytest.approx(value, abs=1e-9), name


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_pictures(7, pictures=20)
    one = class_agnostic(data), class_wise_recall(data)["per_class"]
    monkeypatch.setattr(matching, "BLOCK_VALUES", 2_000)
    two = class_agnostic(data), class_wise_recall(data)["per_class"]
    for before, after in zip(one, two, strict=True):
        assert after == pytest.approx(before, nan_ok=True)


def iou_mask(*spans: tuple[int, int]) -> np.ndarray:
    mask = np.zeros((100, 100), bool)
    for begin, end in spans:
        mask.reshape(-1)[begin:end] = True
    return mask


def oracle_o8() -> dict[int, tuple[Regions, Regions]]:
    """Specification O8: IoUs .82/.57, .62/0 and .42 by overlapping spans of pixels."""
    a1, b1 = iou_mask((0, 900)), iou_mask((900, 1924))
    # p1 must overlap a1 by .82 and b1 by .57: impossible with real spans, so IoUs are injected.
    one = (
        Regions.of([encode(a1), encode(b1)], classes=[1, 2], areas=[900, 1024]),
        Regions.of([encode(a1), encode(b1)], scores=[0.9, 0.8]),
    )
    a2 = iou_mask((0, 5000))
    two = (
        Regions.of([encode(a2)], classes=[1], areas=[5000]),
        Regions.of([encode(a2)], scores=[0.7]),
    )
    return {1: one, 2: two}


def test_oracle_o8(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = iter([np.array([[0.82, 0.57], [0.62, 0.0]]), np.array([[0.42]])] * 2)
    monkeypatch.setattr("anymask.metrics.segmentation.rle_ops.iou", lambda *_: next(tables))
    result = class_wise_recall(oracle_o8(), {"known": {1}, "seen": {3}, "unseen": {2}})
    assert result["AR"] == pytest.approx(0.275)
    assert result["per_class"] == pytest.approx({"1": 0.35, "2": 0.20})
    assert result["AR_known"] == pytest.approx(0.35)
    assert np.isnan(result["AR_seen"])
    assert result["AR_unseen"] == pytest.approx(0.20)
    assert result["AR_small"] == pytest.approx(0.45)
    assert result["AR_medium"] == pytest.approx(0.10)
    assert np.isnan(result["AR_large"])
    merged = class_agnostic(oracle_o8())
    assert merged["AR@100"] == pytest.approx(0.7 / 3)
    assert merged["AP"] == pytest.approx(0.7 * 34 / 101)


def test_group_means_make_the_whole() -> None:
    # Specification O9: AR_all = (123 known + 738 seen + 337 unseen) / 1198.
    data = random_pictures(3, pictures=30, classes=9, crowds=False)
    groups = {"known": {1, 2, 3}, "seen": {4, 5}, "unseen": {6, 7, 8, 9}}
    result = class_wise_recall(data, groups)
    sizes = {g: sum(str(c) in result["per_class"] for c in ids) for g, ids in groups.items()}
    whole = sum(result[f"AR_{g}"] * n for g, n in sizes.items()) / sum(sizes.values())
    assert result["AR"] == pytest.approx(whole)
    paper = (123 * 49.9 + 738 * 39.0 + 337 * 47.4) / 1198
    assert paper == pytest.approx(42.48, abs=0.01)


def test_nothing_found_is_zero_and_no_truth_is_undefined() -> None:
    mask = encode(iou_mask((0, 900)))
    nothing = Regions.of([])
    found = class_agnostic({1: (Regions.of([mask]), nothing)})
    assert found["AR@100"] == found["AP"] == 0.0
    assert np.isnan(class_agnostic({1: (nothing, Regions.of([mask]))})["AR@100"])
    assert class_wise_recall({1: (Regions.of([mask], classes=[4]), nothing)})["AR"] == 0.0
    assert np.isnan(class_wise_recall({})["AR"])


def test_perfect_masks_score_one(tmp_path: Path) -> None:
    data = random_pictures(5, crowds=False)
    perfect = {i: (truth, truth) for i, (truth, _) in data.items()}
    result = class_aware(perfect)
    assert result["AR@100"] == result["AP"] == 1.0
