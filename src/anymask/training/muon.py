"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al. 2024), with AdamW beside.

``torch.optim.Muon`` takes two-dimensional parameters only; convolution kernels are matrices too
once flattened to (out, in * h * w), and they are most of a convolutional model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

from anymask.nn.distributed import world_size

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024).
A, B, C = 3.4445, -4.7750, 2.0315


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz iteration: (n, r, c) -> nearest semi-orthogonal matrices, approximately.

    Singular values end in about 0.7..1.2, which is all that the update needs.
    """
    x = matrices
    transposed = x.shape[-2] > x.shape[-1]
    if transposed:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = A * x + (B * gram + C * gram @ gram) @ x
    return x.mT if transposed else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolution kernels, AdamW for everything else.

    Args:
        matrices: parameters with two or more dimensions; flattened to two for the update.
        others: all other parameters (norms, biases, embeddings).
        lr: learning rate of the matrices (spectral norm of an update, times the shape factor).
        others_lr: learning rate of AdamW.
        momentum: Nesterov momentum of the matrices.
        weight_decay: decoupled, applied to the matrices only.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float = 2e-3,
        others_lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.99),
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "lr": lr, "kind": "muon", "momentum": momentum},
            {"params": list(others), "lr": others_lr, "kind": "adamw", "betas": betas},
        ]
        super().__init__(groups, {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update; ``closure`` is evaluated first when given."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        for group in self.param_groups:
            (self._muon if group["kind"] == "muon" else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        params = [p for p in group["params"] if p.grad is not None]
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
        for p in params:
            by_shape.setdefault((len(p), p[0].numel()), []).append(p)
        # Every process orthogonalises its share; the sum of all shares is the whole update.
        world, rank = world_size(), distributed.get_rank() if world_size() > 1 else 0
        updates = []
        for number, (shape, members) in enumerate(sorted(by_shape.items())):
            moved = torch.stack(
                [self._nesterov(p, group["momentum"]).reshape(shape) for p in members]
            )
            mine = number % world == rank
            updates.append(orthogonalise(moved) if mine else torch.zeros_like(moved))
        if world > 1 and updates:
            flat = torch.cat([u.reshape(-1) for u in updates])
            distributed.all_reduce(flat)
            sizes = [u.numel() for u in updates]
            pieces = flat.split(sizes)
            updates = [f.view_as(u) for f, u in zip(pieces, updates, strict=True)]
        for (shape, members), update in zip(sorted(by_shape.items()), updates, strict=True):
            factor = max(1.0, shape[0] / shape[1]) ** 0.5
            for p, u in zip(members, update, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(u.reshape(p.shape), alpha=-group["lr"] * factor)

    def _nesterov(self, p: nn.Parameter, momentum: float) -> Tensor:
        assert p.grad is not None
        buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
        buffer.lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(buffer, momentum)

    def _adamw(self, group: dict[str, Any]) -> None:
        beta1, beta2 = group["betas"]
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = 0
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            state["mean"].lerp_(p.grad, 1 - beta1)
            state["square"].lerp_(p.grad.square(), 1 - beta2)
            mean = state["mean"] / (1 - beta1 ** state["step"])
            square = state["square"] / (1 - beta2 ** state["step"])
            p.add_(mean / (square.sqrt() + 1e-8), alpha=-group["lr"])


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trainable parameters for Muon and for AdamW: matrices and kernels, and the rest.

    Embeddings are looked up, not multiplied; heads of one or two rows have no spectrum to speak of,
    and depthwise kernels act on one channel each: all belong to AdamW.
    """
    embeddings = {m.weight for m in model.modules() if isinstance(m, nn.Embedding)}
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for p in model.parameters():
        if p.requires_grad:
            narrow = p.ndim < 2 or min(len(p), p[0].numel()) < 16
            depthwise = p.ndim == 4 and p.shape[1] == 1
            (others if narrow or depthwise or p in embeddings else matrices).append(p)
    return matrices, others
