"""Released OSM checkpoints -> :class:`OSMModel` (specification 7)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.errors import CheckpointError
from anymask.methods.osm.model import OSMModel
from anymask.nn.published import listed, read_checkpoint

FROZEN = ("vision_model.", "language_model.")


def convert_osm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys as published -> ours, which are InstructBLIP's own.

    The context queries stand twice in a file, as its own and as the base model's; both must agree.

    Raises:
        CheckpointError: they do not.
    """
    found = {
        key.removeprefix("module.").removeprefix("base_model."): value
        for key, value in state.items()
    }
    twice = found.pop("context_query", None)
    if twice is not None and not torch.equal(found.get("query_tokens", twice), twice):
        raise CheckpointError("context_query and base_model.query_tokens differ: no OSM has that")
    if twice is not None:
        found["query_tokens"] = twice
    return found


def load_osm(model: OSMModel, state: Mapping[str, Tensor], *, whole: bool = False) -> OSMModel:
    """Put a published state dict into a model whose frozen parts are already there.

    Args:
        model: of the fitting sizes, around the right InstructBLIP.
        state: keys as published.
        whole: the frozen parts are in the file too.

    Raises:
        CheckpointError: something trained is missing, left over or of another shape.
    """
    found = convert_osm(state)
    expected = {
        name: value for name, value in model.state_dict().items()
        if whole or not name.startswith(FROZEN)
    }  # fmt: skip
    missing, extra = expected.keys() - found.keys(), found.keys() - expected.keys()
    wrong = [k for k in expected.keys() & found.keys() if expected[k].shape != found[k].shape]
    for problem, keys in (("missing", missing), ("left over", extra), ("of another shape", wrong)):
        if keys:
            raise CheckpointError(f"weights of OSM are {problem}: {listed(keys)}")
    model.load_state_dict(found, strict=False)
    return model.eval()


def read_osm(path: str | Path) -> dict[str, Tensor]:
    """The trained tensors of a published file; nothing in it is executed.

    Raises:
        CheckpointError: it cannot be read or holds no OSM.
    """
    found: Mapping[str, Any] = read_checkpoint(path)
    if not any(key.endswith("window_pos_embed") for key in found):
        raise CheckpointError(f"{path} holds no OSM: it has no window_pos_embed")
    return dict(found)
