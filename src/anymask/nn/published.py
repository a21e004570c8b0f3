"""Published checkpoints: reading their files, and renaming their keys by tables.

A table's row is a pattern that must match a complete key, and what the key becomes. ``{q,k,v}`` in
a replacement cuts the tensor into equal parts along its first dimension, one for each name. A key
that no row matches is an error.
"""

from __future__ import annotations

import collections
import io
import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from anymask.errors import CheckpointError

Table = Sequence[tuple[str, str]]

HEAD = "sem_seg_head"
WB = "(weight|bias)"
PIXEL = r"sem_seg_head\.pixel_decoder\."
QUERY = r"sem_seg_head\.predictor\."

# Mask2Former's pixel decoder and masked-attention decoder in detectron2's layout -> ours.
SEGMENTER: Table = (
    (PIXEL + rf"input_proj\.(\d)\.([01])\.{WB}", r"pixel_decoder.input_projections.\1.\2.\3"),
    (PIXEL + r"transformer\.level_embed", r"pixel_decoder.level_embed.weight"),
    *(
        (
            PIXEL + rf"transformer\.encoder\.layers\.(\d+)\.{theirs}",
            rf"pixel_decoder.encoder.{ours}",
        )
        for theirs, ours in (
            (rf"self_attn\.(\w+)\.{WB}", r"\1.self_attn.\2.\3"),
            (rf"norm1\.{WB}", r"\1.self_attn_norm.\2"),
            (rf"linear([12])\.{WB}", r"\1.ffn.fc\2.\3"),
            (rf"norm2\.{WB}", r"\1.ffn_norm.\2"),
        )
    ),
    (PIXEL + r"adapter_1\.weight", r"pixel_decoder.lateral.0.weight"),
    (PIXEL + rf"adapter_1\.norm\.{WB}", r"pixel_decoder.lateral.1.\1"),
    (PIXEL + r"layer_1\.weight", r"pixel_decoder.fine.0.weight"),
    (PIXEL + rf"layer_1\.norm\.{WB}", r"pixel_decoder.fine.1.\1"),
    (PIXEL + rf"mask_features\.{WB}", r"pixel_decoder.mask_projection.\1"),
    *(
        (QUERY + rf"transformer_{part}_layers\.(\d+)\.{theirs}", rf"decoder.layers.\1.{ours}")
        for part, theirs, ours in (
            ("cross_attention", rf"multihead_attn\.in_proj_{WB}", r"cross_attn.{q,k,v}_proj.\2"),
            ("cross_attention", rf"multihead_attn\.out_proj\.{WB}", r"cross_attn.out_proj.\2"),
            ("cross_attention", rf"norm\.{WB}", r"cross_attn_norm.\2"),
            ("self_attention", rf"self_attn\.in_proj_{WB}", r"self_attn.{q,k,v}_proj.\2"),
            ("self_attention", rf"self_attn\.out_proj\.{WB}", r"self_attn.out_proj.\2"),
            ("self_attention", rf"norm\.{WB}", r"self_attn_norm.\2"),
            ("ffn", rf"linear([12])\.{WB}", r"ffn.fc\2.\3"),
            ("ffn", rf"norm\.{WB}", r"ffn_norm.\2"),
        )
    ),
    (QUERY + rf"decoder_norm\.{WB}", r"decoder.norm.\1"),
    *(  # a ReLU stands between two linear layers
        (QUERY + rf"mask_embed\.layers\.{i}\.{WB}", rf"decoder.mask_embed.{2 * i}.\1")
        for i in range(3)
    ),
    (QUERY + r"level_embed\.weight", r"decoder.level_embed.weight"),
    (QUERY + r"(?:query_feat|static_query)\.weight", r"queries.content.weight"),
    (QUERY + r"query_embed\.weight", r"queries.position.weight"),
)


def rename(
    state: Mapping[str, Tensor],
    table: Table,
    ignored: Table = (),
    kind: str = "Mask2Former or SegPrompt model",
) -> dict[str, Tensor]:
    """Apply a table to a state dict.

    Args:
        state: published keys and tensors.
        table: (pattern, replacement) rows, see the head of this file.
        ignored: (pattern, reason) rows; keys that match are left out.
        kind: what the checkpoint should be, for the message.

    Returns:
        Our keys and the tensors, shared with ``state`` where nothing was cut.

    Raises:
        CheckpointError: a key matches no row, or two keys become one.
    """
    rows = [(re.compile(pattern), replacement) for pattern, replacement in table]
    skip = [re.compile(pattern) for pattern, _ in ignored]
    renamed: dict[str, Tensor] = {}
    unknown: list[str] = []
    for key, tensor in state.items():
        if any(pattern.fullmatch(key) for pattern in skip):
            continue
        matches = ((pattern.fullmatch(key), replacement) for pattern, replacement in rows)
        name_of_key = next((match.expand(ours) for match, ours in matches if match), None)
        if name_of_key is None:
            unknown.append(key)
            continue
        for name, part in _cut(name_of_key, tensor):
            if name in renamed:
                raise CheckpointError(f"two keys of the checkpoint mean {name}; one is {key}")
            renamed[name] = part
    if unknown:
        raise CheckpointError(
            f"the checkpoint is no {kind} of a known layout; unknown keys: " + listed(unknown)
        )
    return renamed


def _cut(name: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    names = re.fullmatch(r"(.*)\{(.*)\}(.*)", name)
    if names is None:
        return [(name, tensor)]
    head, middle, tail = names.groups()
    choices = middle.split(",")
    parts = tensor.chunk(len(choices))
    return [(head + c + tail, part.clone()) for c, part in zip(choices, parts, strict=True)]


def listed(keys: Iterable[str]) -> str:
    """Some of the keys, for a message."""
    names = sorted(keys)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def segmenter_sizes(state: Mapping[str, Tensor], num_heads: int = 8) -> dict[str, int]:
    """Sizes of pixel decoder, decoder and queries in detectron2's layout, as our configurations
    call them.

    Args:
        state: keys as published.
        num_heads: leaves no trace in the shapes; 8 in every published model.

    Raises:
        KeyError: a tensor that every such model has is missing.
    """
    pixel, query = f"{HEAD}.pixel_decoder", f"{HEAD}.predictor"
    layer = f"{pixel}.transformer.encoder.layers"
    levels = len(state[f"{pixel}.transformer.level_embed"])
    mask_dim, hidden_dim = state[f"{pixel}.mask_features.weight"].shape[:2]
    samples = len(state[f"{layer}.0.self_attn.attention_weights.bias"])
    return {
        "hidden_dim": hidden_dim,
        "mask_dim": mask_dim,
        "encoder_layers": count_of(state, rf"{re.escape(layer)}\.(\d+)\..*"),
        "encoder_ffn_dim": len(state[f"{layer}.0.linear1.bias"]),
        "encoder_points": samples // (levels * num_heads),
        "decoder_layers": count_of(
            state, rf"{re.escape(query)}\.transformer_ffn_layers\.(\d+)\..*"
        ),
        "decoder_ffn_dim": len(state[f"{query}.transformer_ffn_layers.0.linear1.bias"]),
        "num_queries": len(state[f"{query}.query_embed.weight"]),
    }


def count_of(state: Iterable[str], pattern: str) -> int:
    """One more than the largest number that the pattern's group finds; 0 when it finds none."""
    found = (re.fullmatch(pattern, key) for key in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def load_exactly(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load a state dict (our keys) that must fit exactly.

    Raises:
        CheckpointError: keys are missing or left over, or a shape differs.
    """
    expected = model.state_dict()
    missing, extra = expected.keys() - state.keys(), state.keys() - expected.keys()
    wrong = [k for k in expected.keys() & state.keys() if expected[k].shape != state[k].shape]
    for problem, keys in (("missing", missing), ("left over", extra), ("of another shape", wrong)):
        if keys:
            raise CheckpointError(f"weights are {problem}: {listed(keys)}")
    model.load_state_dict(state)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """Read a checkpoint: a state dict, alone or under the key ``model`` (or ``model_state_dict``).

    Nothing in the file is executed: pickles may only build arrays, tensors and containers.

    Raises:
        CheckpointError: the file cannot be read or holds something else.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            loaded: Any = load_file(path)
        elif path.suffix == ".pkl":
            loaded = _ArrayUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken file raises almost anything
        raise CheckpointError(f"cannot read {path} as a checkpoint: {error}") from error
    for inside in ("model", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(inside), Mapping):
            loaded = loaded[inside]
    if not isinstance(loaded, Mapping) or not all(isinstance(key, str) for key in loaded):
        raise CheckpointError(f"{path} holds no state dict")
    try:
        return {key: torch.as_tensor(value) for key, value in loaded.items()}
    except (TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path} holds something that is no array: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles NumPy arrays in plain containers, and refuses everything else."""

    allowed = frozenset(
        {
            ("collections", "OrderedDict"),
            ("_codecs", "encode"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy._core.multiarray", "scalar"),
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"the file wants to call {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
