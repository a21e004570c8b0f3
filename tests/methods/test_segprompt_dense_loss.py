"""The pocket's loss against hand-computed cases and its promises."""

from __future__ import annotations

import math

import pytest
import torch

from anymask.methods.segprompt import SegPromptConfig, Targets
from anymask.methods.segprompt.dense_loss import (
    LABELLED_WEIGHT,
    UNLABELLED_WEIGHT,
    DenseLoss,
    cells,
)
from anymask.nn.losses import best_iou


def config(**changes: object) -> SegPromptConfig:
    return SegPromptConfig.pocket(**{"objects_per_query_group": 1, **changes})


def square(size: int, box: tuple[int, int, int, int]) -> torch.Tensor:
    mask = torch.zeros(size, size, dtype=torch.uint8)
    top, left, bottom, right = box
    mask[top:bottom, left:right] = 1
    return mask


def targets(*masks: torch.Tensor, labelled: torch.Tensor | None = None) -> Targets:
    return Targets(torch.stack(masks), torch.zeros(len(masks), dtype=torch.long), labelled)


def logits_of(mask: torch.Tensor, stride: int, strength: float = 8.0) -> torch.Tensor:
    small = torch.nn.functional.avg_pool2d(mask[None].float(), stride)[0]
    return (small * 2 - 1) * strength


def test_a_cell_is_the_share_of_its_pixels() -> None:
    mask = square(8, (0, 0, 4, 2))
    assert cells(mask[None], 4).tolist() == [[0.5, 0.0, 0.0, 0.0]]
    assert cells(mask[None][:0], 4).shape == (0, 4)


def test_terms_by_hand() -> None:
    # One query, one object of 4 of 16 cells; logit 0 everywhere: BCE = ln 2 and, as in oracle O11,
    # dice = 1 - (2 * 4 * 0.5 + 1) / (16 * 0.5 + 4 + 1) = 1 - 5 / 13.
    loss = DenseLoss(config(quality_head=False))
    truth = targets(square(16, (0, 0, 8, 8)))
    total, parts = loss([torch.zeros(1, 1, 2)], [torch.zeros(1, 1, 4, 4)], None, [truth])
    assert float(parts["mask"]) == pytest.approx(math.log(2), abs=1e-6)
    assert float(parts["dice"]) == pytest.approx(1 - 5 / 13, abs=1e-6)
    assert float(parts["class"]) == pytest.approx(math.log(2), abs=1e-6)
    weighted = 2 * parts["class"] + 5 * parts["mask"] + 5 * parts["dice"]
    assert float(total) == pytest.approx(float(weighted), abs=1e-5)


def test_right_answers_cost_almost_nothing() -> None:
    masks = [square(32, (0, 0, 16, 16)), square(32, (16, 16, 32, 32))]
    truth = targets(*masks)
    classes = torch.tensor([[[9.0, -9.0], [-9.0, 9.0], [9.0, -9.0]]])
    fine = torch.stack([logits_of(m, 4) for m in (masks[1], masks[0] * 0, masks[0])])[None]
    coarse = torch.stack([logits_of(m, 8) for m in (masks[1], masks[0] * 0, masks[0])])[None]
    quality = torch.tensor([[9.0, -9.0, 9.0]])
    total, parts = DenseLoss(config())([classes] * 2, [coarse, fine], quality, [truth])
    assert float(total) < 0.02
    assert float(parts["iou"]) == pytest.approx(1.0)


def test_unlabelled_area_is_hardly_a_negative() -> None:
    loss = DenseLoss(config())
    inside, outside = (
        logits_of(square(32, (0, 0, 8, 8)), 8),
        logits_of(square(32, (24, 24, 32, 32)), 8),
    )
    labelled = square(4, (0, 0, 2, 2)).bool().flatten()
    weights = loss.no_object_weights(torch.stack([inside, outside]).flatten(1), labelled)
    assert weights.tolist() == pytest.approx(
        [UNLABELLED_WEIGHT + LABELLED_WEIGHT, UNLABELLED_WEIGHT]
    )
    assert (
        loss.no_object_weights(torch.zeros(3, 16), None).tolist()
        == [pytest.approx(LABELLED_WEIGHT)] * 3
    )
    plain = DenseLoss(config(federated=False))
    assert plain.no_object_weights(torch.zeros(2, 16), labelled).tolist() == pytest.approx(
        [0.1] * 2
    )


def test_a_picture_without_objects_teaches_only_no_object() -> None:
    empty = Targets(torch.zeros(0, 32, 32, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    masks = torch.randn(1, 4, 8, 8, requires_grad=True)
    classes = torch.zeros(1, 4, 2, requires_grad=True)
    total, parts = DenseLoss(config())([classes], [masks], torch.zeros(1, 4), [empty])
    total.backward()
    assert float(parts["mask"]) == float(parts["dice"]) == 0.0
    assert classes.grad is not None
    assert (classes.grad[..., 1] < 0).all()  # more "no object" lowers the loss


def test_order_of_objects_and_queries_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = [square(32, (4 * k, 0, 4 * k + 8, 20)) for k in range(4)]
    classes = [torch.randn(1, 9, 2, generator=generator) for _ in range(2)]
    logits = [torch.randn(1, 9, s, s, generator=generator) for s in (4, 8)]
    quality = torch.randn(1, 9, generator=generator)
    loss = DenseLoss(config(objects_per_query_group=2))
    expected, _ = loss(classes, logits, quality, [targets(*masks)])
    order = torch.randperm(9, generator=generator)
    shuffled, _ = loss(
        [c[:, order] for c in classes],
        [m[:, order] for m in logits],
        quality[:, order],
        [targets(*masks[::-1])],
    )
    assert float(shuffled) == pytest.approx(float(expected), rel=1e-5)


def test_inner_predictions_match_an_object_with_several_queries() -> None:
    loss = DenseLoss(config(objects_per_query_group=3))
    truth = cells(square(32, (0, 0, 16, 16))[None], 8)
    masks, labels = torch.randn(8, 16), torch.zeros(4, dtype=torch.long)
    query, item = loss.match(torch.zeros(8, 2), masks, truth, labels[:1], repeats=3)
    assert len(set(query.tolist())) == 3
    assert item.tolist() == [0, 0, 0]
    # With as many objects as half the queries there are none to spare.
    query, item = loss.match(torch.zeros(8, 2), masks, truth.repeat(4, 1), labels, repeats=3)
    assert sorted(item.tolist()) == [0, 1, 2, 3]


def test_matching_looks_at_the_class_of_each_object() -> None:
    loss = DenseLoss(config(num_classes=2))
    truth = cells(square(32, (0, 0, 16, 16))[None], 8).repeat(2, 1)
    classes = torch.tensor([[0.0, 5.0, 0.0], [5.0, 0.0, 0.0]])
    query, item = loss.match(classes, torch.zeros(2, 16), truth, torch.tensor([0, 1]), repeats=1)
    assert dict(zip(query.tolist(), item.tolist())) == {0: 1, 1: 0}


def test_best_iou() -> None:
    truth = torch.tensor([[1.0, 1, 0, 0], [0, 0, 0, 1]])
    masks = torch.tensor([[1.0, 1, 1, -1], [-1, -1, -1, -1], [-1, -1, -1, 2]])
    assert best_iou(masks, truth).tolist() == pytest.approx([2 / 3, 0.0, 1.0])
    assert best_iou(masks, truth[:0]).tolist() == [0.0, 0.0, 0.0]
