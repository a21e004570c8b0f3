"""A folder of published parts -> a model whose adapter is untrained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymask.errors import CheckpointError
from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.methods.openworldsam.convert import around
from anymask.methods.openworldsam.model import OpenWorldSAMModel
from anymask.nn.beit3 import beit3_part, config_of_beit3
from anymask.nn.published import read_checkpoint
from anymask.nn.sam2_keys import config_of_sam2

SAM2_FILES = ("sam2*.pt",)
BEIT3_FILES = ("*beit3*.pth", "*evf*.bin", "*evf*.safetensors", "pytorch_model.bin")


def start_from_parts(folder: Path, **changes: Any) -> OpenWorldSAMModel:
    """SAM 2 and BEiT-3 as published, and a fresh adapter between them.

    Args:
        folder: holds one of Meta's ``sam2_hiera_*.pt`` and a file with BEiT-3's weights
            (``beit3_large_patch16_224.pth``, or EVF-SAM's); ``beit3.spm`` beside them.
        changes: of the configuration.

    Raises:
        CheckpointError: a file is missing or is another kind of model.
    """
    sam_state = read_checkpoint(_only(folder, SAM2_FILES, "SAM 2"))
    reader_state = beit3_part(read_checkpoint(_only(folder, BEIT3_FILES, "BEiT-3")))
    if not reader_state:
        raise CheckpointError(f"the BEiT-3 file in {folder} holds no BEiT-3")
    config = OpenWorldSAMConfig(
        **{
            "sam2_config": config_of_sam2(sam_state),
            "reader_config": config_of_beit3(reader_state),
            **changes,
        }
    )
    return around(config, sam_state, reader_state)


def _only(folder: Path, patterns: tuple[str, ...], kind: str) -> Path:
    found = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not found:
        raise CheckpointError(f"{folder} has no {kind}: put a file {' or '.join(patterns)} there")
    return found[0]
