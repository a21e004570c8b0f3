from __future__ import annotations

import pytest
import torch
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

from anymask.nn.losses import class_loss, class_weights, dice_loss, mask_loss, no_object_targets
from anymask.nn.matching import MatchingCost, assign
from anymask.nn.point_sampling import most_uncertain, sample_points, uncertain_points


def test_equal_hugging_face_with_gradients() -> None:
    torch.manual_seed(0)
    config = Mask2FormerConfig(num_labels=3, train_num_points=64)
    weights = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    class_logits = torch.randn(1, 8, 4, dtype=torch.double, requires_grad=True)
    mask_logits = torch.randn(1, 8, 8, 12, dtype=torch.double, requires_grad=True)
    labels = [torch.tensor([2, 0, 1])]
    masks = [(torch.rand(3, 32, 48) > 0.5).double()]
    previous = torch.get_default_dtype()
    torch.set_default_dtype(torch.double)  # theirs draws its points in the default dtype
    try:
        torch.manual_seed(1)
        loss = Mask2FormerLoss(config, weights).double()
        wanted = loss(mask_logits, class_logits, masks, labels)

        torch.manual_seed(1)
        points = torch.rand(1, 64, 2)[0]
        cost = MatchingCost()(class_logits[0], mask_logits[0], labels[0], masks[0], points)
        matches = assign([cost])
        query, item = matches[0]
        candidates = torch.rand(3, 192, 2)
        fresh = torch.rand(3, 16, 2)
    finally:
        torch.set_default_dtype(previous)
    predicted = mask_logits[0, query]
    points = torch.cat([most_uncertain(predicted.detach(), candidates, 48), fresh], 1)
    at_points, truth = sample_points(predicted, points), sample_points(masks[0][item], points)
    targets = no_object_targets(labels, matches, 8, 3)
    ours = {
        "loss_cross_entropy": class_loss(
            class_logits, targets, class_weights(targets, 3, 0.1, torch.double)
        ),
        "loss_mask": mask_loss(at_points, truth, 3),
        "loss_dice": dice_loss(at_points, truth, 3),
    }
    leaves = (class_logits, mask_logits)
    for name, value in ours.items():
        torch.testing.assert_close(value, wanted[name], rtol=0, atol=1e-9, check_dtype=False)
        for one, two in zip(
            torch.autograd.grad(value, leaves, allow_unused=True, retain_graph=True),
            torch.autograd.grad(wanted[name], leaves, allow_unused=True, retain_graph=True),
            strict=True,
        ):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(one, two, rtol=0, atol=1e-9)


def test_hand_computed_masks() -> None:
    # Specification, oracle O11.
    logits, truth = torch.zeros(1, 4), torch.tensor([[1.0, 1, 0, 0]])
    assert float(dice_loss(logits, truth, 1)) == pytest.approx(0.4)
    assert float(mask_loss(logits, truth, 1)) == pytest.approx(0.693147, abs=1e-6)
    assert float(dice_loss(logits, truth, 4)) == pytest.approx(0.1)


def test_hand_computed_classes() -> None:
    # Specification, oracle O4: probabilities of "object" 0.8 0.6 0.3 0.5, the first two matched.
    probability = torch.tensor([0.8, 0.6, 0.3, 0.5])
    logits = torch.stack([probability, 1 - probability], -1).log()[None]
    targets = torch.tensor([[0, 0, 1, 1]])
    weights = class_weights(targets, 1, 0.1)
    assert float(class_loss(logits, targets, weights)) == pytest.approx(0.38134, abs=1e-5)
    assert float(class_loss(logits, targets, weights, 4.4)) == pytest.approx(0.19067, abs=1e-5)


def test_targets_of_unmatched_queries_are_no_object() -> None:
    labels = [torch.tensor([2, 1]), torch.zeros(0, dtype=torch.long)]
    nothing = torch.zeros(0, dtype=torch.long)
    matches = [(torch.tensor([0, 3]), torch.tensor([1, 0])), (nothing, nothing)]
    assert no_object_targets(labels, matches, 4, 5).tolist() == [[1, 5, 5, 2], [5, 5, 5, 5]]


def test_without_objects_the_losses_are_zero_and_differentiable() -> None:
    logits = torch.randn(0, 16, requires_grad=True)
    total = mask_loss(logits, torch.zeros(0, 16), 1) + dice_loss(logits, torch.zeros(0, 16), 1)
    total.backward()
    assert float(total.detach()) == 0.0


def test_a_split_batch_with_global_normalisers_has_the_gradient_of_the_whole() -> None:
    torch.manual_seed(4)
    masks, truth = torch.randn(2, 3, 8, 8), [torch.rand(3, 16, 16), torch.rand(1, 16, 16)]
    counts = [len(t) for t in truth]

    def loss(which: list[int], leaf: torch.Tensor, num_masks: float) -> torch.Tensor:
        total = leaf.sum() * 0
        for b in which:
            source = torch.Generator().manual_seed(b)
            predicted = leaf[b, : counts[b]]
            points = uncertain_points(predicted, 32, generator=source)
            at_points, wanted = sample_points(predicted, points), sample_points(truth[b], points)
            total = total + mask_loss(at_points, wanted, num_masks)
            total = total + dice_loss(at_points, wanted, num_masks)
        return total

    whole = masks.clone().requires_grad_()
    loss([0, 1], whole, sum(counts)).backward()
    split = masks.clone().requires_grad_()
    mean = sum(counts) / 2  # what every process divides by
    (sum(loss([b], split, mean) for b in (0, 1)) / 2).backward()  # the wrapper averages
    torch.testing.assert_close(split.grad, whole.grad)
