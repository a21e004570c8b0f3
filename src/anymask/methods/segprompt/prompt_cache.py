"""The momentum cache of category prompts (SegPrompt, section 3.3, eq. 4)."""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from anymask.nn.distributed import world_size


class PromptCache(nn.Module):
    """One vector per class, learned by moving average and not by gradients.

    Args:
        classes: C.
        dim: D.
        momentum: m of eq. 4.
    """

    vectors: Tensor
    initialised: Tensor

    def __init__(self, classes: int, dim: int, momentum: float = 0.9) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("vectors", torch.zeros(classes, dim))
        # A flag of its own: a vector of zeros, or one whose maximum is 0, is a vector too.
        self.register_buffer("initialised", torch.zeros(classes, dtype=torch.bool))

    def forward(self, classes: Tensor) -> Tensor:
        """Prompts of classes (...,) int64; zeros for -1 and for classes never seen: (..., D)."""
        found = self.vectors[classes.clamp(min=0)]
        return found * (classes >= 0)[..., None]

    @torch.no_grad()
    def update(self, states: Tensor, classes: Tensor) -> None:
        """Take new example states (M, D) of classes (M,) in; -1 marks padding.

        The examples of all processes count alike: their mean per class is one step of eq. 4. A
        class that appears for the first time takes the mean as it is.
        """
        real = classes >= 0
        exact = torch.promote_types(self.vectors.dtype, torch.float32)
        sums = torch.zeros_like(self.vectors, dtype=exact)
        counts = torch.zeros(len(sums), dtype=exact, device=sums.device)
        sums.index_add_(0, classes[real], states[real].detach().to(exact))
        counts.index_add_(0, classes[real], torch.ones_like(classes[real], dtype=exact))
        if world_size() > 1:
            distributed.all_reduce(sums)
            distributed.all_reduce(counts)
        present = counts > 0
        mean = (sums[present] / counts[present, None]).to(self.vectors)
        old = self.vectors[present]
        # Eq. 4: p <- m p + (1 - m) e.
        moved = self.momentum * old + (1 - self.momentum) * mean
        self.vectors[present] = torch.where(self.initialised[present, None], moved, mean)
        self.initialised[present] = True
