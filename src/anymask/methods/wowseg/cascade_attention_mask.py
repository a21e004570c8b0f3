"""The Cascade Attention Mask: regions do not see each other, names do not see each other
(paper, Algorithm 1; specification 3).

A packed row holds a prefix, M regions, a suffix and M names. Tokens carry tags, given while the row
is put together: ``region`` is i in region i and 0 elsewhere, ``output`` is i in name i and 0
elsewhere. The released code finds them again in the ids (:func:`parse_tags`, for its own rows).

Shape legend: B rows, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def cascade_attention_mask(
    region: Tensor,
    output: Tensor,
    keep: Tensor | None = None,
    *,
    region_rule: bool = True,
    output_rule: bool = True,
) -> Tensor:
    """Who may look at whom in the released layout.

    Args:
        region, output: (B, L) int64 tags. A negative output tag is a name without a region.
        keep: (B, L) bool, False where padded: nobody looks there. None = everywhere True.
        region_rule: region i does not see region j (off: Table 4's "output only").
        output_rule: name i sees region i and itself only (off: "region only").

    Returns:
        (B, 1, L, L) bool, row = who looks, True = may.
    """
    length = region.shape[1]
    allowed = torch.ones(length, length, dtype=torch.bool, device=region.device).tril()[None]
    looks_r, seen_r = region[:, :, None], region[:, None]
    looks_o, seen_o = output[:, :, None], output[:, None]
    if region_rule:
        allowed = allowed & ~((looks_r > 0) & (seen_r > 0) & (looks_r != seen_r))
    if output_rule:
        allowed = allowed & ~((looks_o > 0) & (seen_r > 0) & (looks_o != seen_r))
        allowed = allowed & ~((looks_o != 0) & (seen_o != 0) & (looks_o != seen_o))
    if keep is not None:
        allowed = allowed & keep[:, None]
    return allowed.expand(len(region), -1, -1)[:, None]


def branch_mask(branch: Tensor, keep: Tensor | None = None) -> Tensor:
    """Who may look at whom when every mask has a branch of its own behind the prefix.

    Packed branches whose positions restart behind the prefix equal one run a mask exactly
    (specification 3.7), which the released layout does not.

    Args:
        branch: (B, L) int64, 0 in the prefix, i in branch i.
        keep: (B, L) bool, False where padded.

    Returns:
        (B, 1, L, L) bool.
    """
    length = branch.shape[1]
    allowed = torch.ones(length, length, dtype=torch.bool, device=branch.device).tril()[None]
    allowed = allowed & ((branch[:, None] == 0) | (branch[:, None] == branch[:, :, None]))
    if keep is not None:
        allowed = allowed & keep[:, None]
    return allowed[:, None]


def branch_positions(branch: Tensor) -> Tensor:
    """Positions that restart behind the prefix for every branch: (B, L) -> (B, L) int64.

    A branch's tokens must follow each other.
    """
    prefix = (branch == 0).long().cumsum(1)
    start = torch.ones_like(branch, dtype=torch.bool)
    start[:, 1:] = branch[:, 1:] != branch[:, :-1]
    place = torch.arange(branch.shape[1], device=branch.device).expand_as(branch)
    since = place - torch.where(start, place, 0).cummax(1).values
    behind = prefix.gather(1, torch.where(start, place, 0).cummax(1).values)
    return torch.where(branch == 0, prefix - 1, behind + since)


@dataclass(frozen=True)
class SegmentIds:
    """Token numbers by which the released code finds its segments.

    Attributes:
        image_start, image_end: around a picture's or region's tokens.
        delimiter: closes a turn; the second-last one in a row opens the answer.
        separator: closes a name.
        pad: of padding.
    """

    image_start: int = 151665
    image_end: int = 151666
    delimiter: int = 198
    separator: int = 1154
    pad: int = 0


@dataclass(frozen=True)
class Segments:
    """Where the parts of a row are: lists of positions."""

    prefix: list[int]
    image: list[int]
    regions: list[list[int]]
    infix: list[int]
    outputs: list[list[int]]


def parse_segments(ids: Sequence[int], known: SegmentIds) -> Segments:
    """Find the parts of a complete training row, as the released collator does.

    Args:
        ids: L token numbers.
        known: see :class:`SegmentIds`.
    """
    row = list(ids)
    if known.image_start not in row:
        return Segments(list(range(len(row))), [], [], [], [])
    first = row.index(known.image_start)
    spans: list[list[int]] = []
    start: int | None = None
    for place in range(first, len(row)):
        if row[place] == known.image_start and start is None:
            start = place
        elif row[place] == known.image_end and start is not None:
            spans.append(list(range(start, place + 1)))
            start = None
    behind = spans[-1][-1] + 1 if spans else first
    ends = [place for place, token in enumerate(row) if token == known.delimiter]
    answer = ends[-2] + 1 if len(ends) > 1 else len(row)
    outputs: list[list[int]] = []
    chunk: list[int] = []
    for place in range(answer, len(row)):
        chunk.append(place)
        if row[place] == known.separator:
            outputs.append(chunk)
            chunk = []
    tail = [place for place in chunk if row[place] != known.pad]
    outputs += [tail] if tail else []
    infix = list(range(behind, answer)) if answer > behind else []
    return Segments(list(range(first)), spans[0] if spans else [], spans[1:], infix, outputs)


def tags_of(found: Segments, length: int) -> tuple[Tensor, Tensor]:
    """(L,) region and output tags of a parsed row.

    Names beyond the number of regions lose the rule about regions: they are tagged -1, -2, ..., so
    that they still do not see each other.
    """
    region, output = torch.zeros(length, dtype=torch.int64), torch.zeros(length, dtype=torch.int64)
    for number, places in enumerate(found.regions, 1):
        region[places] = number
    for number, places in enumerate(found.outputs, 1):
        output[places] = number if number <= len(found.regions) else -number
    return region, output
