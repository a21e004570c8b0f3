"""How fast SAM 2 answers: our decoder beside the stock Hugging Face model.

    python benchmarks/find.py [--sizes tiny large] [--phrases 150] [--points 32] [--quick]

Both sides hold the same random weights and see the same picture. Timed are: the 20 queries of one
phrase, from prompt tokens to masks; many phrases on one picture, from prompt tokens to masks of
those that score (time and peak memory); and automatic masks, from pixels to run lengths. The stock
side is what one writes down first: ``mask_decoder`` for 64 prompts at a time, every mask enlarged
to the picture before it is judged (that is what SAM 2's own generator does), a loop over phrases.
Each side runs in a process of its own, with the memory allocator as it is and tuned; ours also with
bfloat16 weights. The readers of phrases are the same on both sides and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers import Sam2Config, Sam2Model

from anymask.image import Image
from anymask.methods.openworldsam.configuration import large_sam2
from anymask.methods.sam2.automatic import AutomaticMasks, AutomaticSettings, _boxes_of
from anymask.nn.cpu import tune_cpu
from anymask.nn.sam2 import Sam2
from anymask.ops import boxes as box_ops
from anymask.ops.rle import decode, encode

QUERIES = 20
OFFSET = 0.05  # of the stability: masks of random weights are faint
SIDES = ("stock", "stock tuned", "ours", "ours tuned", "ours bf16", "ours bf16 tuned")
PICTURE = (480, 640)


def build(size: str, quick: bool) -> Sam2:
    """Random weights, with noise on every parameter of the decoder so that masks differ."""
    torch.manual_seed(0)
    if quick:
        from anymask.methods.sam2.prompt_training import small_config

        config = small_config()
    else:
        config = large_sam2() if size == "large" else Sam2Config()
    model = Sam2Model(config).eval()
    # The waves of clicks and cells are the same in every published model.
    waves = model.shared_image_embedding.positional_embedding
    model.prompt_encoder.shared_embedding.positional_embedding.copy_(waves)
    for parameter in model.mask_decoder.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return Sam2(model)


class Stock:
    """The stock way."""

    def __init__(self, sam: Sam2) -> None:
        self.model = sam.model
        self.dense = sam.dense()
        self.position = sam.model.get_image_wide_positional_embeddings()

    def decode(self, features: Any, tokens: Any, three: bool = False) -> Any:
        """(Q, T, C) -> logits and IoU."""
        masks, iou, *_ = self.model.mask_decoder(
            image_embeddings=features.coarse,
            image_positional_embeddings=self.position,
            sparse_prompt_embeddings=tokens[None],
            dense_prompt_embeddings=self.dense,
            multimask_output=three,
            high_resolution_features=[features.fine, features.middle],
        )
        return masks[0], iou[0]

    def phrases(self, features: Any, tokens: Any, limit: float) -> int:
        found = 0
        for part in tokens.split(QUERIES):
            masks, iou = self.decode(features, part)
            full = F.interpolate(masks, PICTURE, mode="bilinear", align_corners=False)[:, 0] > 0
            found += sum(
                len(encode(mask)["counts"]) > 0 for mask in full[iou[:, 0] >= limit].numpy()
            )
        return found

    def automatic(self, sam: Sam2, image: Image, points: int, limit: float) -> list[Any]:
        """SAM 2's generator on stock parts."""
        from anymask.ops.point_grid import point_grid

        features = sam.encode(sam.pixels(image)[None])
        grid = torch.from_numpy(point_grid(points) * sam.side).float()[:, None]
        labels = torch.ones(grid.shape[:2], dtype=torch.int64)
        tokens = sam.point_tokens(grid, labels)
        kept: list[tuple[Any, Any, Any]] = []
        for part in tokens.split(64):
            masks, iou = self.decode(features, part, True)
            full = F.interpolate(masks, image.size, mode="bilinear", align_corners=False)
            full, scores = full.flatten(0, 1), iou.flatten()
            good = scores > limit
            full, scores = full[good], scores[good]
            stable = (full > OFFSET).flatten(1).sum(1) / (full > -OFFSET).flatten(1).sum(1)
            good = stable >= 0.5
            inside = full[good] > 0
            boxes = _boxes_of(inside)
            rles = [encode(mask) for mask in inside.numpy()]
            kept += list(zip(scores[good].tolist(), boxes, rles, strict=True))
        if not kept:
            return []
        boxes = np.stack([box for _, box, _ in kept])
        rows = box_ops.nms(boxes, [score for score, *_ in kept], 0.7)
        return [kept[k][2] for k in rows]


def peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@torch.inference_mode()
def work(plan: dict[str, Any]) -> None:
    """One side in this process: times to stdout as JSON."""
    side = plan["side"]
    if side.endswith("tuned"):
        tune_cpu()
    torch.set_num_threads(plan["threads"])
    sam = build(plan["size"], plan["quick"])
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (PICTURE[0] // 16, PICTURE[1] // 16, 3), dtype=np.uint8)
    image = Image(np.kron(noise, np.ones((16, 16, 1), np.uint8)))
    features = sam.encode(sam.pixels(image)[None])
    width = features.coarse.shape[1]
    tokens = torch.randn(plan["phrases"] * QUERIES, 1, width)
    if "bf16" in side:
        sam.model.to(torch.bfloat16)
        features, tokens = features.to(torch.bfloat16), tokens.bfloat16()
    stock = Stock(sam)
    ours = side.startswith("ours")
    found: dict[str, Any] = {}
    one = tokens[:QUERIES]

    def phrase() -> Any:
        if ours:
            masks = sam.ask(features, one)
            return masks.logits, masks.iou
        return stock.decode(features, one)

    found["one phrase"], (logits, iou) = timed(phrase, plan["rounds"])
    found["signs"] = (logits.float()[:, 0, ::8, ::8] > 0).int().tolist()
    limit = float(iou.float().flatten().quantile(0.8))

    def many() -> int:
        if not ours:
            return stock.phrases(features, tokens, limit)
        count = 0
        for part in tokens.split(8 * QUERIES):
            masks = sam.ask(features, part, None, "best", limit)
            from anymask.ops.mask_classification import Canvas

            canvas = Canvas(masks.logits[:, 0].float(), None, PICTURE)
            good = (masks.iou[:, 0] >= limit).nonzero()[:, 0].tolist()
            count += sum(len(canvas.rle(k)[0]["counts"]) > 0 for k in good)
        return count

    name = f"{plan['phrases']} phrases"
    if plan["phrases"]:
        began = time.perf_counter()
        found["found"] = many()
        found[name] = time.perf_counter() - began
        found["memory"] = peak_megabytes()
    if plan["points"]:
        settings = AutomaticSettings(
            points_per_side=plan["points"],
            pred_iou_thresh=limit,
            stability_score_thresh=0.5,
            stability_score_offset=OFFSET,
        )
        began = time.perf_counter()
        if ours:
            rles = [r["segmentation"] for r in AutomaticMasks(sam, settings).generate(image)]
        else:
            rles = stock.automatic(sam, image, plan["points"], limit)
        found["automatic masks"] = time.perf_counter() - began
        found["masks"] = len(rles)
        found["covered"] = float(np.mean([decode(r).mean() for r in rles])) if rles else 0.0
    print(json.dumps(found))


def timed(what: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    what()
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        result = what()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent), result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["tiny", "large"], choices=["tiny", "large"])
    parser.add_argument("--phrases", type=int, default=150, help="at least 1")
    parser.add_argument("--points", type=int, default=32, help="a side of the grid; 0 = leave out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--quick", action="store_true", help="a small SAM 2, to see it run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.worker:
        work(json.loads(chosen.worker))
        return 0
    if len({side.split()[0] for side in chosen.sides}) != 2:
        parser.error("--sides takes one of stock and one of ours at least")
    for size in chosen.sizes:
        results: dict[str, Any] = {}
        for side in chosen.sides:
            # Many phrases and automatic masks do not depend on the encoder's size much; once.
            first = size == chosen.sizes[0]
            plan = {"side": side, "size": size, "phrases": chosen.phrases if first else 1,
                    "points": chosen.points if first else 0, "rounds": chosen.rounds,
                    "threads": chosen.threads, "quick": chosen.quick}  # fmt: skip
            done = subprocess.run(
                [sys.executable, str(Path(__file__)), "--worker", json.dumps(plan)],
                capture_output=True, text=True, check=False,
            )  # fmt: skip
            if done.returncode:
                print(done.stderr, file=sys.stderr)
                return 1
            results[side] = json.loads(done.stdout.splitlines()[-1])
            seconds = ", ".join(f"{k} {results[side][k]:.2f} s" for k in times(results[side]))
            print(f"Hiera-{size}, {side}: {seconds}", flush=True)
        show(size, results)
    return 0


def times(found: dict[str, Any]) -> list[str]:
    """What was timed."""
    return [k for k in found if k.endswith(("phrase", "phrases", "automatic masks"))]


def show(size: str, results: dict[str, Any]) -> None:
    """A table: seconds, and ratios to the better stock side."""
    print(f"\nHiera-{size}" + "".join(f"{side:>17}" for side in results))
    stock = [found for side, found in results.items() if side.startswith("stock")]
    for key in times(stock[0]):
        best = min(found[key] for found in stock)
        cells = "".join(f"{r[key]:9.2f}s {best / r[key]:5.2f}x" for r in results.values())
        print(f"{key:15}{cells}")
    if "memory" in stock[0]:
        print(f"{'peak memory':15}" + "".join(f"{r['memory']:13.0f} MB" for r in results.values()))
    if "masks" in stock[0]:
        print(f"{'masks found':15}" + "".join(f"{r['masks']:17d}" for r in results.values()))
    reference = np.array(stock[0]["signs"])
    for side in ("ours", "ours bf16"):
        if side in results:
            agree = (np.array(results[side]["signs"]) == reference).mean()
            print(f"{side}: {100 * agree:.2f} % of the signs as stock fp32")


if __name__ == "__main__":
    sys.exit(main())
