"""How often each word is said where it should be, whatever its share of the picture."""

from __future__ import annotations

import torch
from torch import Tensor


def balanced_accuracy(answers: Tensor, wanted: Tensor) -> Tensor:
    """Mean over all words that should be said of how often they are: what the ground is made of
    covers most of a picture and would hide how things are named.

    Args:
        answers, wanted: (N,) int64.
    """
    _, place = wanted.unique(return_inverse=True)
    right = torch.bincount(place, (answers == wanted).double())
    return (right / torch.bincount(place)).mean().float() if len(wanted) else right.new_zeros(())
