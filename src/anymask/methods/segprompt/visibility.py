"""Who sees whom in the self-attention of the packed decoder pass (SegPrompt, section 3.4, RefAttn).

The queries stand in the order [q ; v ; e]: N class-agnostic ones, C classes of K candidates, E
examples. RefAttn is ordinary self-attention under this mask, so it shares all weights.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

QueryAttention = Literal[
    "ref_invisible",  # v of a class sees q and its own class (the paper)
    "ref_visible",  # v sees q and all v (Table 7)
    "self",  # q and v all see each other (Table 7)
    "self_independent",  # q sees q, v of a class sees that class (Table 7)
    "self_independent_visible",  # q sees q, v sees all v
    "unmasked",  # the released code's no_att_mask: e is seen as well
]


def visibility(
    agnostic: int,
    classes: int,
    per_class: int,
    examples: int,
    attention: QueryAttention = "ref_invisible",
    device: torch.device | str = "cpu",
) -> Tensor:
    """(T, T) bool, row sees column, T = N + C*K + E.

    Args:
        agnostic: N.
        classes: C.
        per_class: K.
        examples: E.
        attention: one of :data:`QueryAttention`.

    Raises:
        ValueError: there is no such attention.
    """
    if attention not in get_args(QueryAttention):
        raise ValueError(f"no attention {attention!r}: use {', '.join(get_args(QueryAttention))}")
    candidates = classes * per_class
    total = agnostic + candidates + examples
    if attention == "unmasked":
        return torch.ones(total, total, dtype=torch.bool, device=device)
    # Groups: 0 = q, 1..C = v of a class, C + 1 = e.
    group = torch.zeros(total, dtype=torch.long, device=device)
    own = torch.arange(1, classes + 1, device=device).repeat_interleave(per_class)
    group[agnostic : agnostic + candidates] = own
    group[agnostic + candidates :] = classes + 1
    row, column = group[:, None], group[None, :]
    seen = row == column
    is_q = (row == 0, column == 0)
    is_v = tuple((g > 0) & (g <= classes) for g in (row, column))
    if attention in ("ref_invisible", "ref_visible", "self"):
        seen = seen | (is_v[0] & is_q[1])
    if attention in ("ref_visible", "self", "self_independent_visible"):
        seen = seen | (is_v[0] & is_v[1])
    if attention == "self":
        seen = seen | (is_q[0] & is_v[1])
    return seen
