"""How alike two prompts are: what few-shot search asks of every mask it finds.

The paper searches with candidate queries alone (section 5.4) and so leaves to the decoder what a
comparison of two vectors answers directly: is this the same kind of thing?
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.nn.distributed import mean_over_processes

WIDTH = 64  # of the learned space
START_SCALE = 1.0  # log of the factor on distances


class Likeness(nn.Module):
    """Logits of two examples showing the same class, from their prompts e^L (eq. 3).

    A squared distance in a learned space, as in prototypical networks (Snell et al. 2017), but
    compared with a learned threshold instead of with other classes: it says of two prompts alone
    whether they belong together.

    Args:
        dim: width D of prompts.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.space = nn.Linear(dim, WIDTH)
        self.scale = nn.Parameter(torch.tensor(START_SCALE))
        self.threshold = nn.Parameter(torch.tensor(1.0))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Prompts (M, D) and (N, D) -> logits (M, N) float32."""
        # The mean of prompts maps to the mean of their places, so a bank's mean is a prototype.
        one, two = (self.space(side).float() for side in (first, second))
        apart = (one[:, None] - two[None]).square().mean(-1)
        return self.threshold - self.scale.exp() * apart

    def loss(
        self, prompts: Tensor, classes: Tensor, sources: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Every pair of a batch is of one class or of two.

        Args:
            prompts: (M, D).
            classes: (M,) int64; -1 = padding.
            sources: (M,) int64; only examples with equal ones are compared. None = all.

        Returns:
            The mean cross-entropy of pairs of one class plus that of pairs of two, over all
            processes (each compares what it has itself), and the part for the log.
        """
        real = classes >= 0
        prompts, classes = prompts[real], classes[real]
        logits = self(prompts, prompts)
        same = classes[:, None] == classes[None]
        compared = ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
        if sources is not None:
            compared &= sources[real][:, None] == sources[real][None]
        loss = logits.new_zeros(())
        for sign, pairs in ((1, same & compared), (-1, ~same & compared)):
            count = mean_over_processes(pairs.sum().float()).clamp(min=1)
            loss = loss - (F.logsigmoid(sign * logits) * pairs).sum() / count
        return loss, {"likeness": loss.detach()}
