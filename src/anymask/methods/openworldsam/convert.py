"""Published files -> OpenWorldSAM: the released checkpoints, EVF-SAM's, Microsoft's, Meta's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.errors import CheckpointError
from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.methods.openworldsam.model import OpenWorldSAMModel
from anymask.nn.beit3 import Beit3Model, beit3_part, config_of_beit3, resized_positions
from anymask.nn.published import WB, Table, count_of, load_exactly, read_checkpoint, rename
from anymask.nn.sam2_keys import config_of_sam2, convert_sam2, is_sam2

LAYER = r"cross_attention_transformer\.layers\.(\d+)\."
ADAPTER: Table = (
    (rf"text_hidden_fcs\.0\.([02])\.{WB}", r"projector.\1.\2"),
    ("positional_tokens", "tie_breakers"),
    *(
        (LAYER + theirs, rf"soft_prompting.layers.\1.{ours}")
        for theirs, ours in (
            (rf"(self_attn|cross_attn)\.in_proj_{WB}", r"\2.{q,k,v}_proj.\3"),
            (rf"(self_attn|cross_attn)\.out_proj\.{WB}", r"\2.out_proj.\3"),
            (rf"(self_attn|cross_attn|mlp)_norm\.{WB}", r"\2_norm.\3"),
            (rf"mlp\.0\.{WB}", r"fc1.\2"),
            (rf"mlp\.3\.{WB}", r"fc2.\2"),
        )
    ),
)
FAMILIES = ("text_hidden_fcs.", "positional_tokens", "cross_attention_transformer.")
SAM2_PREFIXES = ("", "visual_model.", "evf_sam2.visual_model.")


def adapter_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The adapter's tensors of a released file, under our names.

    A released file also holds ``evf_sam2.text_hidden_fcs``: EVF-SAM's projector, which has the same
    shapes and is not used.

    Raises:
        CheckpointError: the file has no adapter.
    """
    if "positional_tokens" not in state:
        raise CheckpointError("the checkpoint has no tie-breakers: it is no OpenWorldSAM")
    mine = {k: v for k, v in state.items() if k.startswith(FAMILIES)}
    return rename(mine, ADAPTER, (), "OpenWorldSAM adapter")


def sam2_part(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SAM 2's tensors under Meta's names, wherever a file keeps them; empty when it has none."""
    for prefix in SAM2_PREFIXES:
        found = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if is_sam2(found):
            return found
    return {}


def config_of_adapter(adapter: Mapping[str, Tensor], num_heads: int = 8) -> dict[str, Any]:
    """Settings of :class:`OpenWorldSAMConfig` that the adapter's shapes say."""
    dim, hidden = adapter["projector.2.weight"].shape
    layers = count_of(adapter, r"soft_prompting\.layers\.(\d+)\..*")
    ratio = len(adapter["soft_prompting.layers.0.fc1.bias"]) / dim if layers else 4.0
    return {
        "projector_dim": hidden,
        "num_tie_breakers": len(adapter["tie_breakers"]),
        "num_layers": layers,
        "num_heads": num_heads,
        "mlp_ratio": ratio,
    }


def openworldsam_of(
    state: Mapping[str, Tensor],
    *,
    sam2: Mapping[str, Any] | None = None,
    beit3: Mapping[str, Any] | None = None,
    **changes: Any,
) -> OpenWorldSAMModel:
    """A model from a released state dict.

    Args:
        state: adapter, SAM 2 (Meta's names) and BEiT-3, under any of their published prefixes.
        sam2, beit3: keyword arguments of ``config_of_sam2`` and ``config_of_beit3``, for models
            that are none of the published ones.
        changes: of the configuration; by default it is that of the released weights.

    Raises:
        CheckpointError: a part is missing or unknown.
    """
    adapter, sam_state, reader = adapter_part(state), sam2_part(state), beit3_part(state)
    for name, part in (("SAM 2", sam_state), ("BEiT-3", reader)):
        if not part:
            raise CheckpointError(f"the checkpoint has no {name} in it: name its file as well")
    config = OpenWorldSAMConfig.released(
        sam2_config=config_of_sam2(sam_state, **(sam2 or {})),
        reader_config=config_of_beit3(reader, **(beit3 or {})),
        **{**config_of_adapter(adapter), **changes},
    )
    model = around(config, sam_state, reader)
    load_exactly(model.adapter, adapter)
    return model.eval()


def around(
    config: OpenWorldSAMConfig, sam2: Mapping[str, Tensor], beit3: Mapping[str, Tensor]
) -> OpenWorldSAMModel:
    """A published SAM 2 (Meta's names) and BEiT-3, and an untrained adapter between them."""
    model = OpenWorldSAMModel(config)
    load_exactly(model.sam2, convert_sam2(sam2))
    load_exactly(model.reader.model, beit3)  # type: ignore[arg-type]
    return model


def load_openworldsam(
    path: str | Path,
    sam2: str | Path | None = None,
    beit3: str | Path | None = None,
    **changes: Any,
) -> OpenWorldSAMModel:
    """Load a released checkpoint.

    Args:
        path: the file; its pickle may only hold arrays and containers.
        sam2: one of Meta's files, where the first one holds no SAM 2.
        beit3: Microsoft's or EVF-SAM's file, where the first one holds no BEiT-3. The released
            adapter belongs to EVF-SAM's (``YxZhang/evf-sam2-multitask``).
        changes: see :func:`openworldsam_of`.

    Raises:
        CheckpointError: it cannot be read, or a part is missing.
    """
    state = dict(read_checkpoint(path))
    if sam2 is not None and not sam2_part(state):
        state |= {f"visual_model.{k}": v for k, v in sam2_part(read_checkpoint(sam2)).items()}
    if beit3 is not None and not beit3_part(state):
        found = beit3_part(read_checkpoint(beit3))
        state |= {f"mm_extractor.beit3.{k}": v for k, v in found.items()}
    return openworldsam_of(state, **changes)


def load_beit3(path: str | Path, image_size: int | None = None) -> Beit3Model:
    """A BEiT-3 from Microsoft's or EVF-SAM's file.

    Args:
        path: the file.
        image_size: another picture size than the file's; positions are resized bicubically.

    Raises:
        CheckpointError: it cannot be read or has no BEiT-3.
    """
    state = beit3_part(read_checkpoint(path))
    if not state:
        raise CheckpointError(f"{path} has no BEiT-3 in it")
    state = state if image_size is None else resized_positions(state, image_size)
    with torch.device("meta"):
        model = Beit3Model(config_of_beit3(state))
    model = model.to_empty(device="cpu")
    load_exactly(model, state)
    return model.eval()
