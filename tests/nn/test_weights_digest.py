"""The digest of a model's weights."""

from __future__ import annotations

import torch
from torch import nn

from anymask.nn.weights_digest import weights_digest


def test_equal_values_have_one_digest() -> None:
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    two.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(two)
    with torch.no_grad():
        one.bias[0], two.bias[0] = 0.0, -0.0
    assert weights_digest(one) == weights_digest(two)  # zeros are equal whatever their sign
    with torch.no_grad():
        two.bias[0] = 1e-9
    assert weights_digest(one) != weights_digest(two)
    assert weights_digest(nn.Linear(3, 2)) != weights_digest(one)
