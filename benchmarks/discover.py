"""How fast a picture is segmented: our Mask2Former beside the one of Hugging Face.

    python benchmarks/discover.py [--backbones resnet50 swin_tiny] [--dtypes float32 bfloat16]
                                  [--size 640] [--rounds 5] [--quick]

Both sides hold the same random weights (converted) and see the same pictures. Each side runs in a
process of its own, once with the memory allocator as it is and once tuned (``tune_cpu``); the
sides take turns, so that a busy machine disturbs all alike, and the median is reported. Timed is
the model: normalised picture in, class and mask logits out. bfloat16 means autocast.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn
from transformers import (
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    ResNetConfig,
    SwinConfig,
)

from anymask.methods.segprompt.configuration import STAGES
from anymask.methods.segprompt.convert import build, config_of_hugging_face, convert_hugging_face
from anymask.nn.cpu import tune_cpu

SIDES = ("stock", "stock tuned", "ours", "ours tuned")
TARGET = 1.5  # times the better stock side, in float32


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbones", nargs="+", default=["resnet50", "swin_tiny"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--size", type=int, default=640, help="side of the pictures in pixels")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="a tiny model once, to see it run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.worker:
        work(json.loads(chosen.worker))
        return 0
    if chosen.quick:
        chosen.backbones, chosen.dtypes, chosen.size, chosen.rounds = ["tiny"], ["float32"], 96, 2
    print(
        f"{processor()}, {chosen.threads} threads, load {load()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}, {chosen.size} px, {chosen.rounds} rounds"
    )
    print(f"tiny model in float64: largest difference {tiny_difference():.1e} (at most 1e-9)")
    reached = [
        compare(backbone, dtype, chosen) for backbone in chosen.backbones for dtype in chosen.dtypes
    ]
    return 0 if all(reached) else 1


def processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def load() -> str:
    """How busy the machine was in the last minute: processes that wanted to run."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"


# --------------------------------------------------------------------- the two models


def stock_model(backbone: str, seed: int = 0) -> Mask2FormerForUniversalSegmentation:
    """Hugging Face's model with random weights, in evaluation mode."""
    torch.manual_seed(seed)
    small: dict[str, Any] = {}
    if backbone == "resnet50":
        backbone_config: Any = ResNetConfig(out_features=STAGES)
    elif backbone == "swin_tiny":
        backbone_config = SwinConfig(
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=7,
            out_features=STAGES,
        )
    elif backbone == "tiny":
        backbone_config = ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=STAGES
        )
        small = {
            "hidden_dim": 32,
            "feature_size": 32,
            "mask_feature_size": 32,
            "num_queries": 10,
            "encoder_layers": 2,
            "decoder_layers": 4,
            "num_attention_heads": 4,
            "dim_feedforward": 48,
            "encoder_feedforward_dim": 48,
        }
    else:
        raise SystemExit(f"unknown backbone {backbone}: use resnet50 or swin_tiny")
    config = Mask2FormerConfig(backbone_config=backbone_config, num_labels=1, **small)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # The start of training looks at fixed points with even weights; a trained model does
            # not, and points all over the map cost more memory traffic.
            if "sampling_offsets" in name or "attention_weights" in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def our_model(backbone: str, seed: int = 0) -> nn.Module:
    """Ours with the same weights."""
    stock = stock_model(backbone, seed)
    return build(config_of_hugging_face(stock.config), convert_hugging_face(stock.state_dict()))


def run(model: nn.Module, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Class and mask logits of either model."""
    output = model(pixels)
    if isinstance(model, Mask2FormerForUniversalSegmentation):
        return output.class_queries_logits, output.masks_queries_logits
    return output.class_logits, output.mask_logits


@torch.inference_mode()
def tiny_difference() -> float:
    """Largest difference of the two models at tiny size in float64."""
    pixels = torch.randn(2, 3, 96, 64, dtype=torch.double)
    one, two = (run(make("tiny").double(), pixels) for make in (stock_model, our_model))
    return max(float((a - b).abs().max()) for a, b in zip(one, two, strict=True))


def pictures(size: int) -> list[Tensor]:
    """Normalised photographs (1, 3, size, size); noise where scikit-image is not installed."""
    try:
        from skimage import data, transform

        arrays = [
            transform.resize(image, (size, size), anti_aliasing=True)
            for image in (data.astronaut(), data.coffee(), data.chelsea())
        ]
    except ImportError:
        source = np.random.default_rng(0)
        arrays = [source.random((size, size, 3)) for _ in range(3)]
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = [((array - mean) / std).transpose(2, 0, 1).astype(np.float32) for array in arrays]
    return [torch.from_numpy(np.ascontiguousarray(array))[None] for array in normal]


# ------------------------------------------------------------------------ one process


def work(order: dict[str, Any]) -> None:
    """Answer one JSON line per line read: a number of a picture -> seconds."""
    if order["side"].endswith("tuned") and not tune_cpu():
        print(json.dumps({"untuned": True}), flush=True)
        return
    torch.set_num_threads(order["threads"])
    make = our_model if order["side"].startswith("ours") else stock_model
    model = make(order["backbone"])
    images = pictures(order["size"])
    half = order["dtype"] == "bfloat16"

    def precision() -> AbstractContextManager[object]:
        return torch.autocast("cpu", torch.bfloat16) if half else nullcontext()

    with torch.inference_mode(), precision():
        signs = []
        for pixels in images:  # also the warm-up
            _, masks = run(model, pixels)
            signs.append(np.packbits((masks.float() > 0).numpy()))
        np.save(order["signs"], np.stack(signs))
        print(json.dumps({"ready": True}), flush=True)
        for line in sys.stdin:
            if line.strip() == "parts":
                print(json.dumps(parts(model, images[0])), flush=True)
                continue
            start = time.perf_counter()
            run(model, images[int(line) % len(images)])
            print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def parts(model: nn.Module, pixels: Tensor, repeats: int = 3) -> dict[str, float]:
    """Seconds of the parts of our model, each the median of some runs."""
    runs: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats):
        with timed(parts_of(model)) as seconds:
            start = time.perf_counter()
            run(model, pixels)
            seconds["whole"] += time.perf_counter() - start
        for name, value in seconds.items():
            runs[name].append(value)
    return {name: statistics.median(values) for name, values in runs.items()}


def parts_of(model: nn.Module) -> dict[str, list[nn.Module]]:
    """The parts of our model whose time is reported, by name."""
    pixel: Any = model.pixel_decoder
    decoder: Any = model.decoder
    return {
        "backbone": [model.backbone],  # type: ignore[list-item]
        "pixel decoder": [pixel],
        "  projections of levels": list(pixel.input_projections),
        "  deformable attention": [layer.self_attn for layer in pixel.encoder],
        "  feed-forward": [layer.ffn for layer in pixel.encoder],
        "  fine level": [pixel.lateral, pixel.fine, pixel.mask_projection],
        "query decoder": [decoder],
        "  cross-attention": [layer.cross_attn for layer in decoder.layers],
        "  self-attention": [layer.self_attn for layer in decoder.layers],
        "  feed-forward of queries": [layer.ffn for layer in decoder.layers],
    }


@contextmanager
def timed(modules: dict[str, list[nn.Module]]) -> Iterator[dict[str, float]]:
    """Sum the seconds spent in modules, by name, while the context lasts."""
    seconds = dict.fromkeys(modules, 0.0) | {"whole": 0.0}
    begun: dict[nn.Module, float] = {}
    handles = []

    def finish(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, *_: Any) -> None:
            seconds[name] += time.perf_counter() - begun[module]

        return hook

    def begin(module: nn.Module, *_: Any) -> None:
        begun[module] = time.perf_counter()

    for name, members in modules.items():
        for module in members:
            handles.append(module.register_forward_pre_hook(begin))
            handles.append(module.register_forward_hook(finish(name)))
    try:
        yield seconds
    finally:
        for handle in handles:
            handle.remove()


# ------------------------------------------------------------------------ the comparison


class Worker:
    """A side in its own process."""

    def __init__(self, side: str, backbone: str, dtype: str, chosen: Any, signs: Path) -> None:
        order = {
            "side": side,
            "backbone": backbone,
            "dtype": dtype,
            "size": chosen.size,
            "threads": chosen.threads,
            "signs": str(signs),
        }
        self.signs = signs
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", json.dumps(order)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # A side that cannot be tuned here answers so and ends.
        self.works = "ready" in self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a side of the benchmark ended without an answer")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, question: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(question + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare(backbone: str, dtype: str, chosen: Any) -> bool:
    """Run and print one comparison; True when the target is met or there is none."""
    with tempfile.TemporaryDirectory() as folder:
        workers = {
            side: Worker(side, backbone, dtype, chosen, Path(folder) / f"{index}.npy")
            for index, side in enumerate(SIDES)
        }
        workers = {side: worker for side, worker in workers.items() if worker.works}
        times: dict[str, list[float]] = defaultdict(list)
        for turn in range(chosen.rounds):
            for side, worker in workers.items():
                times[side].append(worker.ask(str(turn))["seconds"])
        tuned = "ours tuned" if "ours tuned" in workers else "ours"
        breakdown = workers[tuned].ask("parts")
        signs = {side: np.load(worker.signs) for side, worker in workers.items()}
        for worker in workers.values():
            worker.close()

    medians = {side: statistics.median(values) for side, values in times.items()}
    stock = min(seconds for side, seconds in medians.items() if side.startswith("stock"))
    print(f"\n{backbone}, {dtype}")
    for side, seconds in medians.items():
        spread = f"{min(times[side]):.2f} .. {max(times[side]):.2f}"
        print(
            f"  {side:12} {seconds:7.3f} s  ({spread})  {stock / seconds:5.2f} x the better stock"
        )
    equal = 1 - np.unpackbits(signs["stock"] ^ signs[tuned]).mean()
    print(f"  equal mask signs: {100 * equal:.3f} %")
    whole = breakdown.pop("whole")
    print(f"  where our {whole:.3f} s go:")
    for name, seconds in breakdown.items():
        print(f"    {name:26} {seconds:7.3f} s {100 * seconds / whole:5.1f} %")
    if dtype != "float32" or chosen.quick:
        return True
    ratio = stock / medians[tuned]
    print(f"  {'reached' if ratio >= TARGET else 'MISSED'}: {ratio:.2f} x (target {TARGET} x)")
    return ratio >= TARGET


if __name__ == "__main__":
    sys.exit(main())
