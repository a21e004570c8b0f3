"""OSM's likelihoods and a frozen CLIP's opinion of the same masks, as a geometric mean.

The paper's supplement has the results and not the procedure; this is FC-CLIP's (specification 5.4).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from anymask.methods.ovsnet.classification import ensemble

ALPHA, BETA = 0.4, 0.8  # CLIP's share for classes OSM was trained on, and for others


def geometric(
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    trained: NDArray[np.bool_],
    alpha: float = ALPHA,
    beta: float = BETA,
) -> NDArray[np.float32]:
    """p(c) ~ own(c)^(1 - g) other(c)^g with g = alpha for trained classes and beta for others.

    Args:
        own, other: (M, C) probabilities; a row of NaN stays one.
        trained: (C,).
        alpha, beta: shares of ``other``.

    Returns:
        (M, C); rows sum to 1.
    """
    if not len(own):
        return own
    # The ensemble's last column, "no object", is impossible here.
    nothing = torch.full((1, len(own), 1), -torch.inf)
    by_words, by_clip = (
        torch.cat([torch.from_numpy(np.log(np.maximum(p, 1e-30)))[None], nothing], -1)
        for p in (own, other)
    )
    found = ensemble(by_words, by_clip, torch.from_numpy(trained), alpha, beta)
    return found[0, :, :-1].numpy().astype(np.float32)
