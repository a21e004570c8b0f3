"""Are the things of the scenes world told apart by shape, and not by colour?

    python benchmarks/scene_crops.py [--crops 24000] [--epochs 10]

A small convolutional network and a colour histogram (with a network of its own behind it) learn to
name crops of things and are tested on crops of another world. The network should pass 90 %, the
histogram stay below 50 %. About fifteen minutes on one core; the test runs a short version.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import PIL.Image
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.data.scenes import make_scene
from anymask.data.scenes.categories import THINGS
from anymask.training.muon import Muon, split_parameters

CROP = 36
SCENE = 192
LEAST_SIDE = 28
LEAST_VISIBLE = 0.8
NUMBERS = {thing.name: k for k, thing in enumerate(THINGS)}
TURNS = torch.tensor([thing.turns for thing in THINGS])


def crops(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Boxes of well visible things, resized to squares: (n, 3, CROP, CROP) uint8 and classes."""
    pixels: list[NDArray[np.uint8]] = []
    classes: list[int] = []
    index = 0
    while len(pixels) < count:
        scene = make_scene(seed, index, SCENE, "val")
        index += 1
        for found in scene.objects:
            x0, y0, x1, y1 = found.box
            if found.visible >= LEAST_VISIBLE and max(x1 - x0, y1 - y0) >= LEAST_SIDE:
                box = (max(0, x0 - 2), max(0, y0 - 2), min(SCENE, x1 + 2), min(SCENE, y1 + 2))
                crop = PIL.Image.fromarray(scene.image).resize((CROP, CROP), box=box)
                pixels.append(np.asarray(crop))
                classes.append(NUMBERS[found.thing.name])
    images = torch.from_numpy(np.stack(pixels[:count])).permute(0, 3, 1, 2).contiguous()
    return images, torch.tensor(classes[:count])


def network(width: int = 24) -> nn.Module:
    """Five convolutions and a linear layer."""

    def block(before: int, after: int) -> list[nn.Module]:
        return [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
        ]

    w = width
    return nn.Sequential(
        *block(3, w), nn.MaxPool2d(2),
        *block(w, 2 * w), *block(2 * w, 2 * w), nn.MaxPool2d(2),
        *block(2 * w, 4 * w), *block(4 * w, 4 * w), nn.AdaptiveMaxPool2d(4),
        nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * w, len(THINGS)),
    )  # fmt: skip


def normalised(images: Tensor) -> Tensor:
    """uint8 -> float around 0, in the memory layout that convolutions like."""
    return (images.float() / 255 - 0.5).contiguous(memory_format=torch.channels_last)


def moved(images: Tensor, classes: Tensor) -> Tensor:
    """Mirrored, shifted, scaled; things that lie at any angle are turned at random."""
    n = len(images)
    angle = torch.where(TURNS[classes], torch.rand(n) * 2 * torch.pi, (torch.rand(n) - 0.5) * 0.2)
    flip = torch.where(torch.rand(n) < 0.5, 1.0, -1.0)
    zoom = 0.9 + 0.25 * torch.rand(n)
    shift = (torch.rand(2, n) - 0.5) * 0.12
    c, s = zoom * angle.cos(), zoom * angle.sin()
    grid = torch.stack(
        [torch.stack([flip * c, -s, shift[0]], -1), torch.stack([flip * s, c, shift[1]], -1)], 1
    )
    where = F.affine_grid(grid, list(images.shape), align_corners=False)
    return F.grid_sample(images, where, padding_mode="border", align_corners=False)


def histogram(images: Tensor) -> Tensor:
    """Square roots of the shares of 4 x 4 x 4 colours: (n, 64)."""
    levels = (images // 64).long()
    cells = (levels[:, 0] * 16 + levels[:, 1] * 4 + levels[:, 2]).flatten(1)
    counts = torch.zeros(len(images), 64).scatter_add_(1, cells, torch.ones(cells.shape))
    return (counts / cells.shape[1]).sqrt()


def learn(
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    epochs: int,
    prepare: Callable[[Tensor, Tensor], Tensor],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Train a classifier with Muon; rare classes are drawn more often than they occur."""
    torch.manual_seed(0)
    counts = torch.bincount(classes, minlength=len(THINGS)).clamp(min=1)
    share = counts[classes].double() ** -0.5
    steps, batch = epochs * (len(images) // 64), 64
    optimizer = Muon(*split_parameters(model), lr=8e-3, others_lr=4e-3)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 20, (steps - step) / (0.7 * steps))
    )
    model.train()
    order = torch.multinomial(share, steps * batch, replacement=True)
    started = time.monotonic()
    for step, rows in enumerate(order.split(batch)):
        logits = model(prepare(images[rows], classes[rows]))
        loss = F.cross_entropy(logits, classes[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 199:
            say(f"step {step + 1}/{steps}, {time.monotonic() - started:.0f} s, loss {loss:.2f}")
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, inputs: Tensor, classes: Tensor) -> float:
    """Share of right answers."""
    answers = torch.cat([model(part).argmax(1) for part in inputs.split(256)])
    return float((answers == classes).float().mean())


def measure(
    count: int,
    epochs: int,
    width: int = 24,
    tests: int = 2000,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Accuracy of both on crops of another world."""
    images, classes = crops(100, count)
    test_images, test_classes = crops(200, tests)
    say(f"{count} crops to learn from, {len(set(classes.tolist()))} things")
    cnn = network(width).to(memory_format=torch.channels_last)
    learn(cnn, images, classes, epochs, lambda x, y: moved(normalised(x), y), say)
    colors = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, len(THINGS)))
    learn(colors, images, classes, 15, lambda x, y: histogram(x))
    return {
        "network": accuracy(cnn, normalised(test_images), test_classes),
        "histogram": accuracy(colors, histogram(test_images), test_classes),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=24000)
    parser.add_argument("--epochs", type=int, default=10)
    chosen = parser.parse_args()
    for name, value in measure(chosen.crops, chosen.epochs, say=print).items():
        print(f"{name:10} {100 * value:5.1f} %")


if __name__ == "__main__":
    main()
