"""How fast results are measured: our evaluator beside `lvis` and `faster-coco-eval`.

    python benchmarks/evaluator.py [--pictures 2000] [--found 100] [--objects 12] [--rounds 3]

All sides read the same truth and the same results in one run: from loaded JSON to numbers. `lvis`
is the reference of LVIS's AP; `faster-coco-eval` the fastest published COCO evaluator. Both are
optional: `pip install lvis faster-coco-eval`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from anymask.metrics.segmentation import (
    Federation,
    Regions,
    class_agnostic,
    class_aware,
    class_wise_recall,
    federated,
)
from anymask.ops.rle import area, boxes, encode

CLASSES = 60
SIDE = 200


def draw(count: int, objects: int, found: int, seed: int = 0) -> tuple[list[Any], list[Any]]:
    """Truth and results: rectangles with ragged corners, results near truth or anywhere."""
    rng = np.random.default_rng(seed)
    truth, results = [], []
    for image in range(1, count + 1):
        corners = rng.integers(0, SIDE - 40, (objects, 2))
        sizes = rng.integers(8, 40, (objects, 2))
        classes = rng.integers(1, CLASSES + 1, objects)
        for k in range(objects):
            mask = np.zeros((SIDE, SIDE), bool)
            (y, x), (h, w) = corners[k], sizes[k]
            mask[y : y + h, x : x + w] = True
            rle = encode(mask)
            truth.append({"id": len(truth) + 1, "image_id": image, "category_id": int(classes[k]),
                          "segmentation": rle, "iscrowd": 0})  # fmt: skip
        for _ in range(found):
            k = int(rng.integers(objects))
            shift = rng.integers(-6, 7, 2) if rng.random() < 0.5 else rng.integers(-100, 100, 2)
            mask = np.zeros((SIDE, SIDE), bool)
            y, x = np.clip(corners[k] + shift, 0, SIDE - 1)
            mask[y : y + sizes[k][0], x : x + sizes[k][1]] = True
            score = float(rng.random())
            results.append({"image_id": image, "category_id": int(classes[k]),
                            "segmentation": encode(mask), "score": score})  # fmt: skip
    for rows in (truth, results):
        rles = [row["segmentation"] for row in rows]
        for row, size, (x0, y0, x1, y1) in zip(rows, area(rles), boxes(rles)):
            row["area"] = float(size)
            row["bbox"] = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
    return truth, results


def regions(rows: list[Any]) -> Regions:
    return Regions.of(
        [r["segmentation"] for r in rows],
        scores=[r.get("score", 1.0) for r in rows],
        classes=[r["category_id"] for r in rows],
        areas=[r["area"] for r in rows] if "score" not in rows[0] else None,
    )


def pictures(truth: list[Any], results: list[Any]) -> dict[int, tuple[Regions, Regions]]:
    by_image: dict[int, tuple[list[Any], list[Any]]] = {}
    for side, rows in enumerate((truth, results)):
        for row in rows:
            by_image.setdefault(row["image_id"], ([], []))[side].append(row)
    return {image: (regions(t), regions(f)) for image, (t, f) in by_image.items()}


def lvis_truth(truth: list[Any], count: int) -> Any:
    from lvis import LVIS

    if not hasattr(np, "float"):
        np.float = float  # type: ignore[attr-defined] # lvis is older than NumPy 2
    logging.getLogger().setLevel(logging.ERROR)
    api = LVIS.__new__(LVIS)
    api.logger = logging.getLogger("lvis")
    api.dataset = {
        "images": [{"id": i, "height": SIDE, "width": SIDE, "neg_category_ids": [],
                    "not_exhaustive_category_ids": []} for i in range(1, count + 1)],
        "annotations": [dict(row) for row in truth],
        "categories": [{"id": c, "frequency": "rcf"[c % 3]} for c in range(1, CLASSES + 1)],
    }  # fmt: skip
    api._create_index()
    return api


def by_lvis(truth: list[Any], results: list[Any], count: int, agnostic: bool) -> dict[str, float]:
    from lvis import LVISEval, LVISResults

    api = lvis_truth(truth, count)
    found = LVISResults(api, [dict(row) for row in results], max_dets=300)
    run = LVISEval(api, found, "segm")
    run.params.use_cats = int(not agnostic)
    run.run()
    return dict(run.results)


def by_faster(truth: list[Any], results: list[Any], count: int, agnostic: bool) -> dict[str, float]:
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        api = COCO(
            {
                "images": [{"id": i, "height": SIDE, "width": SIDE} for i in range(1, count + 1)],
                "annotations": [dict(row) for row in truth],
                "categories": [{"id": c, "name": str(c)} for c in range(1, CLASSES + 1)],
                "info": {},
            }
        )
        run = COCOeval_faster(api, api.loadRes([dict(row) for row in results]), "segm")
        run.params.useCats = int(not agnostic)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {"AP": float(run.stats[0])}


def timed(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    spent, answer = [], None
    for _ in range(rounds):
        started = time.perf_counter()
        answer = work()
        spent.append(time.perf_counter() - started)
    return statistics.median(spent), answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--found", type=int, default=100)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-ours", action="store_true")
    chosen = parser.parse_args()
    count = chosen.pictures
    truth, results = draw(count, chosen.objects, chosen.found)
    print(f"{count} pictures x {chosen.found} results x {chosen.objects} objects", flush=True)
    knowledge = Federation({}, {}, {c: "rcf"[c % 3] for c in range(1, CLASSES + 1)})
    ours = {
        "class-wise recall": lambda: class_wise_recall(pictures(truth, results)),
        "class-agnostic": lambda: class_agnostic(pictures(truth, results)),
        "by class (COCO)": lambda: class_aware(pictures(truth, results)),
        "by class (LVIS)": lambda: federated(pictures(truth, results), knowledge),
    }
    spent = {}
    for name, work in ours.items():
        spent[name], answer = timed(work, chosen.rounds)
        value = answer.get("AP", answer.get("AR"))
        print(f"ours              {name:18} {spent[name]:7.2f} s   {value:.6f}", flush=True)
    if chosen.only_ours:
        return
    for name, work, beside in (
        ("lvis", lambda: by_lvis(truth, results, count, False), "by class (LVIS)"),
        ("faster-coco-eval", lambda: by_faster(truth, results, count, False), "by class (COCO)"),
        ("faster-coco-eval", lambda: by_faster(truth, results, count, True), "class-agnostic"),
    ):
        try:
            seconds, answer = timed(work, 1 if name == "lvis" else chosen.rounds)
        except ImportError as error:
            print(f"{name}: {error}")
            continue
        ratio = seconds / spent[beside]
        print(
            f"{name:17} {beside:18} {seconds:7.2f} s   {answer['AP']:.6f}   ours {ratio:.1f} x",
            flush=True,
        )


if __name__ == "__main__":
    main()
