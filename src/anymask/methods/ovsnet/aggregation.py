"""Gradient-Free Aggregation (OVSNet, section 4.2, eqs 1-4) and what the paper compares it with.

Two embeddings describe every query: one the decoder learnt (F_Q) and one that frozen CLIP gives for
its mask (F_C). Both walk on the graph of their affinities until nothing changes, and mix there. The
paper leaves Norm and omega open; the default reading makes the walk converge whatever the input
(specification 3.4), the literal one is guarded (3.5).

Shape legend: B pictures, N queries, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.attention import Attention

Mode = Literal["softmax", "linear", "diagonal"]
Guard = Literal["rescale", "shrink_omega", "identity", "raise"]

MODES = ("softmax", "linear", "diagonal")
GUARDS = ("rescale", "shrink_omega", "identity", "raise")
SAFE = 1 - 1e-3  # the largest bound of the spectral radius with which the system is solved


@dataclass(frozen=True)
class Aggregated:
    """What the walk ends with.

    Attributes:
        clip, query: (B, N, D) F_C and F_Q at infinity, float32 (float64 for float64 input).
        bound: (B,) upper bound of the spectral radius of omega^2 A before any guard.
        guarded: (B,) bool: the guard stepped in.
    """

    clip: Tensor
    query: Tensor
    bound: Tensor
    guarded: Tensor


@dataclass(frozen=True)
class GradientFreeAggregation:
    """The walk; it has no parameters.

    Attributes:
        omega: share of what comes over the graph, 0 <= omega < 1; 0 changes nothing.
        lam: the paper's lambda = 0.2. In mode ``"softmax"`` the temperature, otherwise a factor.
        mode: ``"softmax"`` (row-stochastic affinity, columns normalised by their sums: A is
            symmetric and doubly stochastic, so the walk always converges), ``"linear"`` (the
            printed Z = lambda F_C F_Q^T, columns by softmax), ``"diagonal"`` (every query alone).
        normalize_inputs: mix unit vectors instead of the embeddings as they are.
        detach_affinity: no gradient through Z, Norm(Z) and A.
        exclude_empty: queries without any cell see only their own partner.
        guard: what to do where ``"linear"`` or ``"diagonal"`` would not converge.
        steps: iterate eqs 1-2 so often instead of solving eq 4; None = solve.
    """

    omega: float = 0.5
    lam: float = 0.2
    mode: Mode = "softmax"
    normalize_inputs: bool = True
    detach_affinity: bool = True
    exclude_empty: bool = False
    guard: Guard = "rescale"
    steps: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.omega < 1:
            raise ValueError(f"omega is {self.omega}; it is at least 0 and below 1")
        if self.lam <= 0:
            raise ValueError(f"lambda is {self.lam}; it is above 0")
        if self.mode not in MODES or self.guard not in GUARDS:
            raise ValueError(f"modes are {', '.join(MODES)}; guards are {', '.join(GUARDS)}")

    def __call__(self, clip: Tensor, query: Tensor, empty: Tensor | None = None) -> Aggregated:
        """Aggregate.

        Args:
            clip, query: (B, N, D) F_C^0 and F_Q^0.
            empty: (B, N) bool, queries whose mask has no cell; needed for ``exclude_empty``.

        Raises:
            FloatingPointError: the walk would diverge and ``guard`` is ``"raise"``.
        """
        with torch.autocast(clip.device.type, enabled=False):
            exact = torch.float64 if clip.dtype == torch.float64 else torch.float32
            return self._walk(clip.to(exact), query.to(exact), empty)

    def _walk(self, clip: Tensor, query: Tensor, empty: Tensor | None) -> Aggregated:
        x, y = F.normalize(clip, dim=-1), F.normalize(query, dim=-1)
        z, norm = self.affinity(x, y, empty)
        if self.detach_affinity:
            z, norm = z.detach(), norm.detach()
        if not self.normalize_inputs:
            x, y = clip, query
        z, norm, omega, bound, guarded = self._guarded(z, norm)
        if self.steps is not None:
            return Aggregated(*self._iterate(x, y, z, norm, omega), bound, guarded)
        walk = z @ norm.mT  # A = Z Norm(Z)^T
        eye = torch.eye(walk.shape[-1], dtype=walk.dtype, device=walk.device)
        # eq 4: F_C = (1 - w) (I - w^2 A)^-1 (w Z F_Q^0 + F_C^0), solved, never inverted.
        start = omega * z @ y + x
        end_clip = (1 - omega) * torch.linalg.solve(eye - omega**2 * walk, start)
        # eq 1 at the fixed point.
        end_query = omega * norm.mT @ end_clip + (1 - omega) * y
        return Aggregated(end_clip, end_query, bound, guarded)

    def affinity(self, x: Tensor, y: Tensor, empty: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Z and Norm(Z), (B, N, N) each, of unit vectors (B, N, D); rows are CLIP's."""
        if self.mode == "softmax":
            logits = x @ y.mT / self.lam
            if self.exclude_empty and empty is not None:
                own = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)
                apart = (empty[:, :, None] | empty[:, None, :]) & ~own
                logits = logits.masked_fill(apart, float("-inf"))
            z = logits.softmax(-1)
            return z, z / z.sum(-2, keepdim=True).clamp(min=1e-9)
        z = self.lam * x @ y.mT  # as printed before eq 1
        if self.mode == "diagonal":
            z = z * torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)
            return z, torch.eye(z.shape[-1], dtype=z.dtype, device=z.device).expand_as(z)
        return z, z.softmax(-2)

    def _guarded(self, z: Tensor, norm: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What may be solved: Z, Norm(Z), omega (B, 1, 1), the bound and where the guard acted."""
        omega = torch.full((len(z), 1, 1), self.omega, dtype=z.dtype, device=z.device)
        if self.mode == "softmax":  # the spectral radius is omega^2, exactly
            bound = omega[:, 0, 0] ** 2
            return z, norm, omega, bound, torch.zeros_like(bound, dtype=torch.bool)
        height = (z @ norm.mT).abs().sum(-1).amax(-1)  # the largest row sum bounds the radius
        bound = self.omega**2 * height
        bad = bound >= SAFE
        if not bool(bad.any()):
            return z, norm, omega, bound, bad
        if self.guard == "raise":
            raise FloatingPointError(
                f"the walk of eq 3 diverges: its spectral radius may be {float(bound.max()):.2f}. "
                "Use mode='softmax', a smaller omega, or guard='rescale'."
            )
        if self.guard == "rescale":
            rows = z.abs().sum(-1).amax(-1).clamp(min=1)[:, None, None]
            safe_z = z / rows
            safe_norm = safe_z / safe_z.abs().sum(-2, keepdim=True).clamp(min=1e-9)
            chosen = bad[:, None, None]
            return (
                torch.where(chosen, safe_z, z),
                torch.where(chosen, safe_norm, norm),
                omega,
                bound,
                bad,
            )
        smaller = (SAFE / height.clamp(min=1e-9)).sqrt() if self.guard == "shrink_omega" else 0.0
        omega = torch.where(bad, smaller, self.omega)[:, None, None].to(z.dtype)
        return z, norm, omega, bound, bad

    def _iterate(
        self, x: Tensor, y: Tensor, z: Tensor, norm: Tensor, omega: Tensor
    ) -> tuple[Tensor, Tensor]:
        clip, query = x, y
        for _ in range(self.steps or 0):
            query = omega * norm.mT @ clip + (1 - omega) * y  # eq 1
            clip = omega * z @ query + (1 - omega) * x  # eq 2
        return clip, query


class LearnedFusion(nn.Module):
    """The fusions of Table 4a: one pre-norm attention layer, which starts by changing nothing.

    The paper gives no design; this one follows specification 3.9.

    Args:
        dim: D.
        kind: ``"self"``: all 2N rows see each other; ``"cross"``: each side looks at the other.
    """

    def __init__(self, dim: int, kind: Literal["self", "cross"], num_heads: int = 8) -> None:
        super().__init__()
        self.kind = kind
        count = 1 if kind == "self" else 2
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(2))
        self.attention = nn.ModuleList(Attention(dim, num_heads) for _ in range(count))
        for layer in self.attention:
            assert isinstance(layer, Attention)
            nn.init.zeros_(layer.out_proj.weight)
            nn.init.zeros_(layer.out_proj.bias)

    def forward(self, clip: Tensor, query: Tensor) -> Aggregated:
        """(B, N, D) twice -> the same, fused; inputs are normalised first."""
        x, y = F.normalize(clip, dim=-1), F.normalize(query, dim=-1)
        a, b = self.norms[0](x), self.norms[1](y)
        if self.kind == "self":
            both = torch.cat([a, b], 1)
            moved = self.attention[0](both, both, both)
            x, y = x + moved[:, : x.shape[1]], y + moved[:, x.shape[1] :]
        else:
            x, y = x + self.attention[0](a, b, b), y + self.attention[1](b, a, a)
        nothing = torch.zeros(len(x), device=x.device)
        return Aggregated(x, y, nothing, nothing.bool())
