"""How far a value is from the official one, and how far it may be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

Row = tuple[str, float, float]  # name of the output, largest error, tolerance


def close(name: str, ours: Tensor, theirs: Tensor, atol: float, rtol: float = 0.0) -> Row:
    """The element that uses up most of its tolerance ``atol + rtol * |theirs|``."""
    if ours.shape != theirs.shape:
        return (f"{name}: shape {tuple(ours.shape)}, not {tuple(theirs.shape)}", math.inf, atol)
    if not ours.numel():
        return (name, 0.0, atol)
    ours, theirs = ours.detach().double().flatten(), theirs.double().flatten()
    error = (ours - theirs).abs().nan_to_num(math.inf)
    allowed = atol + rtol * theirs.abs()
    worst = int((error / allowed).argmax())
    return (name, float(error[worst]), float(allowed[worst]))


def equal(name: str, ours: Tensor, theirs: Tensor) -> Row:
    """The number of elements that differ; none may."""
    if ours.shape != theirs.shape:
        return (f"{name}: shape {tuple(ours.shape)}, not {tuple(theirs.shape)}", math.inf, 0.0)
    return (name, float((ours.cpu() != theirs).sum()), 0.0)


def tensors(folder: Path) -> dict[str, dict[str, Tensor]]:
    """File name -> tensors, of all safetensors files of a folder."""
    return {path.stem: load_file(path) for path in sorted(folder.glob("*.safetensors"))}


def below(data: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name begins with the prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def names(keys: Iterable[str], pattern: str) -> list[str]:
    """The different texts that the pattern's first group takes among the keys, in their order."""
    found = (re.match(pattern, key) for key in keys)
    return list(dict.fromkeys(match[1] for match in found if match))


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [k for k in range(1, number + 1) if number % k == 0]


def float_of(mask: Tensor) -> Tensor:
    """0/1 in uint8 -> float32."""
    return mask.to(torch.float32)
