"""Whether two models hold the same weights."""

from __future__ import annotations

import hashlib

from torch import nn


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of the names and float32 values of a module's weights and buffers, in hex."""
    sha = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        sha.update(name.encode())
        sha.update(value.detach().float().cpu().contiguous().numpy().data)
    return sha.hexdigest()
