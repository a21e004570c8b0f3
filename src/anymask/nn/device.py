"""Where a model runs."""

from __future__ import annotations

import torch

from anymask.errors import InputError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """``"auto"`` -> CUDA, then MPS, then CPU; anything else is checked and returned.

    Raises:
        InputError: the name is unknown, or this machine has no such device.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise InputError(
            f"unknown device {device!r}: use auto, cpu, cuda, cuda:N or mps"
        ) from error
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (chosen.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(chosen.type, False):
        raise InputError(f"this machine has no device {device!r}: use --device auto or cpu")
    return chosen
