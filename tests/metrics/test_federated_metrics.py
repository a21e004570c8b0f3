"""LVIS's AP and AR against the `lvis` package."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from test_segmentation_metrics import random_pictures

from anymask.metrics.segmentation import Federation, Regions, federated
from anymask.ops.rle import encode

NAMES = {
    "AP": "AP", "AP50": "AP50", "AP75": "AP75", "APs": "AP_small", "APm": "AP_medium",
    "APl": "AP_large", "APr": "APr", "APc": "APc", "APf": "APf", "AR@300": "AR@300",
    "ARs@300": "AR_small", "ARm@300": "AR_medium", "ARl@300": "AR_large",
}  # fmt: skip
CLASSES = 6


def knowledge(seed: int, data: Any) -> Federation:
    """Negative labels, and categories that are not outlined completely."""
    rng = np.random.default_rng(seed + 100)
    negatives, loose = {}, {}
    for image, (truth, _) in data.items():
        present = set(truth.classes.tolist())
        absent = [c for c in range(1, CLASSES + 1) if c not in present]
        negatives[image] = set(rng.permutation(absent)[: rng.integers(0, 3)].tolist())
        loose[image] = {c for c in present if rng.random() < 0.3}
    return Federation(negatives, loose, dict(zip(range(1, CLASSES + 1), "rcfrcf")))


def official(data: Any, federation: Federation) -> dict[str, float]:
    try:
        from lvis import LVIS, LVISEval, LVISResults
    except ImportError as error:  # its OpenCV needs libraries of the system
        pytest.skip(f"the lvis package cannot be imported: {error}")
    if not hasattr(np, "float"):
        np.float = float  # type: ignore[attr-defined] # lvis 0.5.3 is older than NumPy 2
    logging.getLogger().setLevel(logging.ERROR)
    truth, found = [], []
    for image_id, (true, detected) in data.items():
        for k, rle in enumerate(true.rles):
            truth.append(
                {
                    "id": len(truth) + 1, "image_id": image_id, "segmentation": rle,
                    "category_id": int(true.classes[k]), "area": float(true.areas[k]),
                    "bbox": list(coco_mask.toBbox(rle)),
                }
            )  # fmt: skip
        for k, rle in enumerate(detected.rles):
            found.append(
                {
                    "image_id": image_id, "segmentation": rle, "score": float(detected.scores[k]),
                    "category_id": int(detected.classes[k]),
                }
            )  # fmt: skip
    api = LVIS.__new__(LVIS)
    api.logger = logging.getLogger("lvis")
    api.dataset = {
        "images": [
            {
                "id": i, "height": 1, "width": 1,
                "neg_category_ids": sorted(federation.negatives[i]),
                "not_exhaustive_category_ids": sorted(federation.loose[i]),
            }
            for i in data
        ],
        "annotations": truth,
        "categories": [{"id": c, "frequency": f} for c, f in federation.frequency.items()],
    }  # fmt: skip
    api._create_index()
    run = LVISEval(api, LVISResults(api, found, max_dets=300), "segm")
    run.run()
    return dict(run.results)


@pytest.mark.parametrize("seed", range(5))
def test_equals_lvis(seed: int) -> None:
    data = random_pictures(seed, pictures=14, classes=CLASSES, crowds=False)
    federation = knowledge(seed, data)
    expected, ours = official(data, federation), federated(data, federation)
    assert set(NAMES) <= set(expected)
    for theirs, mine in NAMES.items():
        value = np.nan_to_num(ours[mine], nan=-1)
        assert value == pytest.approx(expected[theirs], abs=1e-9), theirs


def one(truth: int, found: list[int], **known: Any) -> dict[str, Any]:
    """A picture with a true region of a class and detections of the same place of other classes."""
    mask = np.zeros((40, 40), bool)
    mask[5:25, 5:25] = True
    elsewhere = np.roll(mask, 14, 1)
    pictures = {
        1: (
            Regions.of([encode(mask)], classes=[truth]),
            Regions.of(
                [encode(mask)] + [encode(elsewhere)] * len(found),
                scores=[0.5] + [0.9] * len(found),
                classes=[truth, *found],
            ),
        )
    }
    federation = Federation(known.get("negatives", {}), known.get("loose", {}), {1: "f", 2: "r"})
    return federated(pictures, federation)


def test_what_is_not_judged_is_no_mistake() -> None:
    assert one(1, [])["AP"] == pytest.approx(1)
    # A false detection of the same class ahead of the right one halves precision ...
    assert one(1, [1])["AP"] == pytest.approx(0.5)
    # ... but not where the class is not outlined completely.
    assert one(1, [1], loose={1: {1}})["AP"] == pytest.approx(1)
    # A class nobody looked for is not judged at all.
    assert one(1, [2, 2])["AP"] == pytest.approx(1)
    assert np.isnan(one(1, [2])["APr"])


def test_a_negative_label_makes_mistakes_count() -> None:
    mask = np.zeros((40, 40), bool)
    mask[5:25, 5:25] = True
    rle = encode(mask)
    right = (Regions.of([rle], classes=[2]), Regions.of([rle], scores=[0.5], classes=[2]))
    wrong = (Regions.of([]), Regions.of([rle], scores=[0.9], classes=[2]))
    pictures = {1: right, 2: wrong}
    silent = federated(pictures, Federation({}, {}, {2: "r"}))
    checked = federated(pictures, Federation({2: {2}}, {}, {2: "r"}))
    assert silent["APr"] == pytest.approx(1)
    assert checked["APr"] == pytest.approx(0.5)
