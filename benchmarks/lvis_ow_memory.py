"""How much memory and time building LVIS-OW takes, with files of LVIS's and COCO's size.

    python benchmarks/lvis_ow_memory.py [--share 1.0]

The real files cannot be shipped, so files with as many pictures and annotations, outlines of the
same mean length and LVIS's categories are written into a temporary folder (about 2 GB); classes
are drawn as often as LVIS's own. The builder's command runs in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from anymask.benchmarks.lvis_ow import lvis_classes

# Published counts of pictures and annotations.
LVIS_TRAIN, LVIS_VAL, COCO_TRAIN = (100_170, 1_270_141), (19_809, 244_707), (118_287, 860_001)
POINTS = 47  # of an outline: 840 bytes of text, as in LVIS
WORKER = """
import resource, sys, time
from anymask.cli.app import app
began = time.perf_counter()
try:
    app(["benchmark", "lvis-ow", "build", *sys.argv[1:]])
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{time.perf_counter() - began:.0f} s, {peak:.2f} GB at most")
"""


def write(
    path: Path, size: tuple[int, int], first: int, categories: list[Any], shares: Any, lvis: bool
) -> None:
    """A file of ``size`` (pictures, annotations), picture ids from ``first``."""
    rng = np.random.default_rng(first)
    stock = [json.dumps([np.round(rng.random(2 * POINTS) * 480, 2).tolist()]) for _ in range(500)]
    pictures, annotations = size
    ids = np.array([c["id"] for c in categories])
    with path.open("w") as out:
        out.write(f'{{"info": {{}}, "categories": {json.dumps(categories)}, "images": [')
        for k in range(pictures):
            row: dict[str, Any] = {"id": first + k, "width": 640, "height": 480}
            if lvis:
                row |= {"coco_url": f"http://images.cocodataset.org/train2017/{first + k:012d}.jpg",
                        "neg_category_ids": [1, 2], "not_exhaustive_category_ids": []}  # fmt: skip
            else:
                row |= {"file_name": f"{first + k:012d}.jpg"}
            out.write((", " if k else "") + json.dumps(row))
        out.write('], "annotations": [')
        step = 100_000
        for start in range(0, annotations, step):
            count = min(step, annotations - start)
            drawn = rng.choice(ids, count, p=shares)
            images = first + rng.integers(pictures, size=count)
            which = rng.integers(len(stock), size=count)
            out.write(", " if start else "")
            out.write(
                ", ".join(
                    f'{{"id": {start + k + 1}, "image_id": {images[k]}, "category_id": {drawn[k]}, '
                    f'"area": 900.0, "bbox": [10.0, 10.0, 30.0, 30.0], "iscrowd": 0, '
                    f'"segmentation": {stock[which[k]]}}}'
                    for k in range(count)
                )
            )
        out.write("]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=1.0, help="of the full size")
    chosen = parser.parse_args()
    classes = lvis_classes()
    often = np.array([max(1, c.train_images) for c in classes], float)
    lvis = [
        {"id": c.id, "name": f"class {c.id}", "synonyms": [], "frequency": "f"} for c in classes
    ]
    coco = [
        {"id": c.coco_id, "name": f"coco {c.coco_id}"} for c in classes if c.coco_id is not None
    ]
    alike = np.full(len(coco), 1 / len(coco))
    plan = (
        ("lvis_train.json", LVIS_TRAIN, 1, lvis, often / often.sum(), True),
        ("lvis_val.json", LVIS_VAL, 200_001, lvis, often / often.sum(), True),
        ("coco.json", COCO_TRAIN, 1, coco, alike, False),
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        began = time.perf_counter()
        for name, (pictures, annotations), first, categories, shares, is_lvis in plan:
            size = int(pictures * chosen.share), int(annotations * chosen.share)
            write(folder / name, size, first, categories, shares, is_lvis)
        sizes = ", ".join(f"{(folder / row[0]).stat().st_size / 1e6:.0f} MB" for row in plan)
        print(f"written in {time.perf_counter() - began:.0f} s: {sizes}", flush=True)
        subprocess.run(
            [sys.executable, "-c", WORKER, "--lvis-train", str(folder / plan[0][0]), "--lvis-val",
             str(folder / plan[1][0]), "--coco", str(folder / plan[2][0]), "--out", str(folder)],
            check=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
