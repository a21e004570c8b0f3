"""The bundled pocket model beside the classical baseline, on the photographs it never saw.

    python benchmarks/pocket.py PHOTOS [--model MODEL] [--sources coco bsds500 ...]

PHOTOS holds ``<source>.json`` and the pictures. Both sides see the same pictures in the same run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from anymask.data.coco import CocoDataset
from anymask.evaluation import evaluate_discoverer
from anymask.loading import load_discoverer
from anymask.training.recipes.segprompt_pocket import WEIGHTS, held_out_ids

COLUMNS = ("AR@10", "AR@100", "AR_small", "AR_medium", "AR_large", "AP")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="segprompt-pocket")
    parser.add_argument("--sources", nargs="+", default=list(WEIGHTS))
    chosen = parser.parse_args()
    sides = {name: load_discoverer(name, "cpu") for name in (chosen.model, "felzenszwalb")}
    print(f"{'source':10} {'model':18} {'pictures':>8} " + " ".join(f"{c:>9}" for c in COLUMNS))
    for source in chosen.sources:
        file = chosen.photos / f"{source}.json"
        data = CocoDataset.read(file, chosen.photos).subset(held_out_ids(file)[1])
        recalls = []
        for name, discover in sides.items():
            report = evaluate_discoverer(discover, data, name=name)
            numbers = " ".join(f"{report[c]:9.4f}" for c in COLUMNS)
            print(f"{source:10} {Path(name).name:18} {len(data):8} {numbers}", flush=True)
            recalls.append(report["AR@100"])
        print(f"{source:10} ratio of AR@100: {recalls[0] / recalls[1]:.2f}", flush=True)


if __name__ == "__main__":
    main()
