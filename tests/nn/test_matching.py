from __future__ import annotations

import itertools

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

from anymask.nn.matching import MatchingCost, assign, pairwise_cross_entropy, pairwise_dice
from anymask.nn.point_sampling import random_points


def test_equals_hugging_face() -> None:
    torch.manual_seed(0)
    class_logits, mask_logits = torch.randn(2, 9, 5), 3 * torch.randn(2, 9, 8, 12)
    labels = [torch.tensor([0, 3, 3]), torch.tensor([1])]
    masks = [(torch.rand(len(label), 32, 48) > 0.5).float() for label in labels]
    matcher = Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, num_points=50)
    torch.manual_seed(1)
    wanted = matcher(mask_logits, class_logits, masks, labels)
    torch.manual_seed(1)
    cost = MatchingCost(2.0, 5.0, 5.0)
    tables = [
        cost(class_logits[b], mask_logits[b], labels[b], masks[b], random_points(1, 50)[0])
        for b in range(2)
    ]
    for ours, theirs in zip(assign(tables), wanted, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_pairwise_terms_by_hand() -> None:
    # Specification, oracle O11: four points, probability one half, truth 1 1 0 0.
    logits, mask = torch.zeros(1, 4), torch.tensor([[1.0, 1, 0, 0]])
    torch.testing.assert_close(pairwise_dice(logits, mask), torch.tensor([[0.4]]))
    entropy = pairwise_cross_entropy(logits, mask)
    torch.testing.assert_close(entropy, torch.tensor([[0.693147]]))


def test_cheapest_of_all_assignments() -> None:
    torch.manual_seed(2)
    table = torch.randn(5, 3)
    ((rows, columns),) = assign([table])
    best = min(
        sum(float(table[r, c]) for c, r in enumerate(chosen))
        for chosen in itertools.permutations(range(5), 3)
    )
    assert float(table[rows, columns].sum()) == pytest.approx(best)
    assert sorted(columns.tolist()) == [0, 1, 2]


def test_forbidden_pairs_are_never_matched() -> None:
    # Specification, oracle O4: slots A0 A1 B0 B1; objects 0 and 1 of class A, 2 of class C, which
    # no slot asks for. The cheap forbidden pairs must not tempt.
    cost = torch.tensor(
        [[0.2, 0.9, -9.0], [0.4, 0.3, -9.0], [-9.0, -9.0, -9.0], [-9.0, -9.0, -9.0]]
    )
    allowed = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 0], [0, 0, 0]]).bool()
    ((rows, columns),) = assign([cost], [allowed])
    assert rows.tolist() == [0, 1]
    assert columns.tolist() == [0, 1]


def test_more_objects_than_slots_of_a_class() -> None:
    cost = torch.tensor([[3.0, 1.0, 2.0], [5.0, 5.0, 0.0]])
    allowed = torch.tensor([[1, 1, 1], [0, 0, 0]]).bool()
    ((rows, columns),) = assign([cost], [allowed])
    assert (rows.tolist(), columns.tolist()) == ([0], [1])


def test_nothing_to_match() -> None:
    assert assign([]) == []
    (rows, columns), (other, _) = assign([torch.zeros(4, 0), torch.zeros(2, 1)])
    assert rows.dtype == columns.dtype == torch.int64
    assert (len(rows), len(columns), len(other)) == (0, 0, 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_broken_predictions_are_named(bad: float) -> None:
    with pytest.raises(FloatingPointError, match="1 of 4 matching costs"):
        assign([torch.tensor([[1.0, 2.0], [bad, 0.0]])])


def test_costs_are_exact_under_autocast_and_carry_no_gradient() -> None:
    torch.manual_seed(3)
    class_logits = torch.randn(6, 2, requires_grad=True)
    mask_logits = torch.randn(6, 8, 8, requires_grad=True)
    labels, masks = torch.zeros(2, dtype=torch.long), torch.rand(2, 16, 16) > 0.5
    points = torch.rand(40, 2)
    wanted = MatchingCost()(class_logits, mask_logits, labels, masks, points)
    with torch.autocast("cpu", torch.bfloat16):
        cost = MatchingCost()(class_logits, mask_logits, labels, masks, points)
    torch.testing.assert_close(cost, wanted)
    assert not cost.requires_grad
