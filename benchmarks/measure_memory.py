"""How much memory measuring takes: 20,000 pictures with 300 predictions each, in a file.

    python benchmarks/measure_memory.py [--pictures 20000] [--found 300] [--protocol lvis-ow]

Writes truth and predictions into a temporary folder (about a gigabyte), measures them in a fresh
process and prints its largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from anymask.ops.rle import encode, to_coco_str

CLASSES = 60
SIDE = 200
WORKER = """
import resource, sys, time
from anymask.benchmarks.protocols import measure
from anymask.vocabulary import Vocabulary
began = time.perf_counter()
report = measure(sys.argv[1], sys.argv[2], sys.argv[3])
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(f"{time.perf_counter() - began:.0f} s, {peak:.2f} GB at most")
print({k: round(v, 4) for k, v in report.metrics.items() if isinstance(v, float)})
"""


def write(folder: Path, pictures: int, found: int) -> tuple[Path, Path]:
    """Rectangles, drawn from a stock of masks so that writing is quick."""
    rng = np.random.default_rng(0)
    stock = []
    for _ in range(2000):
        y, x = rng.integers(0, SIDE - 40, 2)
        h, w = rng.integers(8, 40, 2)
        mask = np.zeros((SIDE, SIDE), bool)
        mask[y : y + h, x : x + w] = True
        stock.append(json.dumps(to_coco_str(encode(mask))))
    groups = ("known", "seen", "unseen")
    truth = folder / "truth.json"
    with truth.open("w") as out:
        images = [{"id": i, "height": SIDE, "width": SIDE} for i in range(1, pictures + 1)]
        categories = [{"id": c, "name": f"c{c}", "group": groups[c % 3]}
                      for c in range(1, CLASSES + 1)]  # fmt: skip
        out.write(f'{{"images": {json.dumps(images)}, "categories": {json.dumps(categories)}')
        out.write(', "annotations": [')
        for n in range(12 * pictures):
            mask, label = stock[rng.integers(2000)], int(rng.integers(1, CLASSES + 1))
            row = f'"id": {n + 1}, "image_id": {n // 12 + 1}, "category_id": {label}, "iscrowd": 0'
            out.write(("," if n else "") + f'{{{row}, "segmentation": {mask}}}')
        out.write("]}")
    results = folder / "results.json"
    with results.open("w") as out:
        out.write("[")
        for image in range(1, pictures + 1):
            chosen, scores = rng.integers(2000, size=found), rng.random(found)
            labels = rng.integers(1, CLASSES + 1, found)
            rows = [
                f'{{"image_id": {image}, "category_id": {c}, "score": {s:.6f}, '
                f'"segmentation": {stock[k]}}}'
                for k, s, c in zip(chosen, scores, labels, strict=True)
            ]
            out.write(("," if image > 1 else "") + ",".join(rows))
        out.write("]")
    return truth, results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--found", type=int, default=300)
    parser.add_argument("--protocol", default="lvis-ow")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        began = time.perf_counter()
        files = write(Path(place), chosen.pictures, chosen.found)
        sizes = ", ".join(f"{f.stat().st_size / 1e6:.0f} MB" for f in files)
        print(f"written in {time.perf_counter() - began:.0f} s: {sizes}", flush=True)
        subprocess.run(
            [sys.executable, "-c", WORKER, *map(str, files), chosen.protocol], check=True
        )


if __name__ == "__main__":
    main()
