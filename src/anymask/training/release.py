"""From a finished run to the folder that ships: half-size weights and the processor beside them."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

BESIDE = (
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)
QFORMER = "qformer_tokenizer"


def release(run: Path, destination: Path) -> str:
    """Copy a run's model with its weights stored as float16.

    The configuration still says float32, so loading widens the weights again: half the size on
    disk, full precision in arithmetic.

    Args:
        run: folder with a model saved by ``save_pretrained``.
        destination: folder to fill; other files in it (the model card) are left alone.

    Returns:
        sha256 of the weights file.
    """
    destination.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.to(torch.float16) if tensor.is_floating_point() else tensor
        for name, tensor in load_file(run / "model.safetensors").items()
    }
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} does not fit into float16")
    save_file(weights, destination / "model.safetensors", metadata={"format": "pt"})
    for name in BESIDE:
        if (run / name).is_file():
            shutil.copyfile(run / name, destination / name)
    if (run / QFORMER).is_dir():  # OSM has two tokenizers
        shutil.copytree(run / QFORMER, destination / QFORMER, dirs_exist_ok=True)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    (destination / "config.json").write_text(
        json.dumps(_without_paths(config), indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )
    return hashlib.sha256((destination / "model.safetensors").read_bytes()).hexdigest()


def _without_paths(value: Any) -> Any:
    """A configuration that does not tell where its parts lay when they were loaded."""
    if not isinstance(value, dict):
        return value
    return {k: _without_paths(v) for k, v in value.items() if k != "_name_or_path"}


if __name__ == "__main__":
    print(release(Path(sys.argv[1]), Path(sys.argv[2])))
