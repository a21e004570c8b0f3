"""Sums over all processes of a data-parallel run."""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def world_size() -> int:
    """Number of processes that train together; 1 when nothing is distributed."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


@torch.no_grad()
def mean_over_processes(values: Tensor) -> Tensor:
    """Mean of a tensor over all processes, detached.

    A loss normalised by this mean, averaged over processes by the data-parallel wrapper, equals
    the loss of one process that holds the whole batch.
    """
    values = values.detach().clone()
    if world_size() > 1:
        distributed.all_reduce(values)
        values /= world_size()
    return values
