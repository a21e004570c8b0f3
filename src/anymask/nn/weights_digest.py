"""Whether two models hold the same weights."""

from __future__ import annotations

import hashlib

from torch import nn


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of the names and float32 values of a module's weights and buffers, in hex."""
    sha = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        sha.update(name.encode())
        values = value.detach().float() + 0.0  # -0 is 0: moving averages do not keep its sign
        sha.update(values.cpu().contiguous().numpy().data)
    return sha.hexdigest()
