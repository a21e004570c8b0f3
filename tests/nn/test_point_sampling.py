from __future__ import annotations

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import sample_point

from anymask.nn.point_sampling import (
    generators,
    most_uncertain,
    random_points,
    sample_points,
    uncertain_points,
)


def test_equals_hugging_face() -> None:
    torch.manual_seed(0)
    maps, points = torch.randn(3, 5, 7), torch.rand(3, 20, 2)
    wanted = sample_point(maps[:, None], points, align_corners=False)[:, 0]
    torch.testing.assert_close(sample_points(maps, points), wanted)


def test_shared_points_equal_repeated_points() -> None:
    maps, points = torch.randn(3, 5, 7), torch.rand(20, 2)
    torch.testing.assert_close(
        sample_points(maps, points), sample_points(maps, points.expand(3, -1, -1))
    )


def test_hand_computed() -> None:
    mask = torch.tensor([[[True, False], [False, False]]])
    # The centre of the first cell, the middle of the map, and the outer corner: a quarter of the
    # cell, since outside is zero.
    points = torch.tensor([[0.25, 0.25], [0.5, 0.5], [0.0, 0.0]])
    assert sample_points(mask, points).tolist() == [[1.0, 0.25, 0.25]]


def test_no_masks() -> None:
    assert sample_points(torch.zeros(0, 4, 4), torch.rand(6, 2)).shape == (0, 6)
    assert uncertain_points(torch.zeros(0, 4, 4), 8).shape == (0, 8, 2)


def test_keeps_the_least_decided_points() -> None:
    logits = torch.tensor([[[-4.0, 1.0], [3.0, -2.0]]])
    candidates = torch.tensor([[[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]])
    kept = most_uncertain(logits, candidates, 2)
    assert kept.tolist() == [[[0.75, 0.25], [0.75, 0.75]]]


def test_most_points_lie_where_the_mask_hesitates() -> None:
    ramp = torch.linspace(-10, 10, 64).expand(1, 64, 64)  # undecided in the middle column
    generator = torch.Generator().manual_seed(0)
    points = uncertain_points(ramp, 400, 3.0, 0.75, generator)
    assert points.shape == (1, 400, 2)
    assert ((points >= 0) & (points < 1)).all()
    near = (points[0, :, 0] - 0.5).abs() < 0.16
    # 300 of 1200 candidates are kept: those within about 1/8 of the middle, and a few at the
    # outer edge, where the zeros outside bend the logits towards 0.
    assert near[:300].float().mean() > 0.95
    assert near[300:].float().mean() < 0.5


def test_points_do_not_depend_on_how_a_batch_is_split() -> None:
    logits = [torch.randn(g, 8, 8) for g in (2, 0, 3)]
    seeds = [11, 12, 13]

    def draw(which: list[int]) -> dict[int, list[torch.Tensor]]:
        sources = generators([seeds[i] for i in which])
        return {
            i: [
                random_points(1, 16, source),
                uncertain_points(logits[i], 16, generator=source),
                random_points(1, 16, source),
            ]
            for i, source in zip(which, sources, strict=True)
        }

    whole = draw([0, 1, 2])
    split = draw([2]) | draw([1, 0])
    for i in range(3):
        for one, two in zip(whole[i], split[i], strict=True):
            assert torch.equal(one, two)
    assert not torch.equal(whole[0][0], whole[0][2])


@pytest.mark.parametrize(("oversample", "importance"), [(0.5, 0.75), (3.0, 1.5), (3.0, -0.1)])
def test_refuses_impossible_ratios(oversample: float, importance: float) -> None:
    with pytest.raises(ValueError, match="ratio"):
        uncertain_points(torch.zeros(1, 4, 4), 8, oversample, importance)
