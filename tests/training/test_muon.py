"""The optimiser: orthogonal updates for matrices, AdamW for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from anymask.training.muon import Muon, orthogonalise, split_parameters


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_singular_values_come_close_to_one(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(matrices))
    assert values.min() > 0.4
    assert values.max() < 1.3
    # The directions stay: the update is U V^T, up to the spread of the singular values.
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    cosine = nn.functional.cosine_similarity(orthogonalise(matrices).flatten(1), (u @ v).flatten(1))
    assert cosine.min() > 0.95


def test_the_rest_is_adamw() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    mine = Muon([], [ours], others_lr=0.1, betas=(0.9, 0.99))
    reference = torch.optim.AdamW([theirs], lr=0.1, betas=(0.9, 0.99), weight_decay=0.0)
    for step in range(5):
        gradient = torch.sin(torch.arange(7.0) + step)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
        torch.testing.assert_close(ours.data, theirs.data)


def test_kernels_are_matrices_and_narrow_heads_are_not() -> None:
    model = nn.Sequential(nn.Conv2d(16, 32, 3), nn.GroupNorm(4, 32), nn.Linear(32, 2))
    model.append(nn.Embedding(50, 32))
    matrices, others = split_parameters(model)
    assert [tuple(p.shape) for p in matrices] == [(32, 16, 3, 3)]
    assert len(matrices) + len(others) == len(list(model.parameters()))


def test_it_minimises_a_quadratic() -> None:
    torch.manual_seed(0)
    goal = torch.randn(16, 16)
    weight = nn.Parameter(torch.zeros(16, 16))
    optimizer = Muon([weight], [], lr=0.02, weight_decay=0.0)
    losses = []
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 300)
        loss = (weight - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.01 * losses[0]
