from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.models.mask2former import modeling_mask2former as theirs

from anymask.nn import deformable_attention
from anymask.nn.deformable_attention import (
    DeformableAttention,
    own_places,
    sample_by_gather,
    sample_by_grid,
)

SHAPES = [(2, 5), (7, 3), (4, 4)]
CELLS = sum(h * w for h, w in SHAPES)


def problem(
    batch: int, dtype: torch.dtype = torch.float64, spread: float = 12.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values and points, many of them outside the levels."""
    torch.manual_seed(batch)
    shape = (batch, 11, 4, 3, 2)
    value = torch.randn(batch, CELLS, 4, 8, dtype=dtype)
    x, y = (torch.rand(shape, dtype=dtype) * spread - spread / 4 for _ in range(2))
    weights = torch.rand(shape, dtype=dtype)
    return tuple(t.requires_grad_() for t in (value, x, y, weights))  # type: ignore[return-value]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("spread", [4.0, 12.0, 1e6])
def test_both_forms_give_the_same_values_and_gradients(batch: int, spread: float) -> None:
    value, x, y, weights = problem(batch, spread=spread)
    by_grid = sample_by_grid(value, SHAPES, x, y, weights)
    by_gather = sample_by_gather(value, SHAPES, x, y, weights)
    torch.testing.assert_close(by_gather, by_grid, rtol=0, atol=1e-9)
    direction = torch.randn_like(by_grid)
    leaves = (value, x, y, weights)
    for ours, wanted in zip(
        torch.autograd.grad(by_gather, leaves, direction),
        torch.autograd.grad(by_grid, leaves, direction),
        strict=True,
    ):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)


def test_single_precision_stays_close() -> None:
    value, x, y, weights = (t.detach() for t in problem(2, torch.float32))
    torch.testing.assert_close(
        sample_by_gather(value, SHAPES, x, y, weights),
        sample_by_grid(value, SHAPES, x, y, weights),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize("sample", [sample_by_grid, sample_by_gather])
def test_hand_computed_samples(sample: object) -> None:
    # One level of 2 x 2 cells with values 1 2 / 3 4, one point each, weight 1.
    value = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1)
    x = torch.tensor([0.0, 1.0, 0.5, -0.5, -1.0, 1.75, 5.0]).view(1, 7, 1, 1, 1)
    y = torch.tensor([0.0, 1.0, 0.5, 0.0, 0.0, 1.0, 0.0]).view(1, 7, 1, 1, 1)
    found = sample(value, [(2, 2)], x, y, torch.ones_like(x))  # type: ignore[operator]
    assert found.flatten().tolist() == [1.0, 4.0, 2.5, 0.5, 0.0, 1.0, 0.0]


def test_a_nan_shows_in_the_answer_and_nowhere_else() -> None:
    value, x, y, weights = (t.detach() for t in problem(1))
    x[0, 3, 1, 2, 0] = float("nan")
    found = sample_by_gather(value, SHAPES, x, y, weights)
    broken = found.isnan().view(1, 11, 4, 8)
    assert broken[0, 3, 1].all()
    assert broken.sum() == 8


def module_pair(dtype: torch.dtype) -> tuple[DeformableAttention, torch.nn.Module]:
    torch.manual_seed(0)
    ours = DeformableAttention(32, num_heads=4, num_levels=3, num_points=2).to(dtype)
    hugging_face = theirs.Mask2FormerPixelDecoderEncoderMultiscaleDeformableAttention(32, 4, 3, 2)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    hugging_face.to(dtype).load_state_dict(ours.state_dict())
    return ours, hugging_face


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["single", "double"]
)
@pytest.mark.parametrize("form", ["gather", "grid"])
def test_module_equals_hugging_face(
    dtype: torch.dtype, atol: float, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if form == "grid":
        monkeypatch.setattr(deformable_attention, "sample_by_gather", sample_by_grid)
    ours, hugging_face = module_pair(dtype)
    memory = torch.randn(2, CELLS, 32, dtype=dtype)
    query = memory + torch.randn(1, CELLS, 32, dtype=dtype)
    reference = theirs.Mask2FormerPixelDecoderEncoderOnly.get_reference_points(
        SHAPES, torch.ones(2, 3, 2, dtype=dtype), "cpu"
    )
    wanted, _ = hugging_face(
        query,
        encoder_hidden_states=memory,
        reference_points=reference,
        spatial_shapes_list=SHAPES,
    )
    places = own_places(SHAPES, 4, 2, dtype=dtype)
    torch.testing.assert_close(ours(query, memory, places, SHAPES), wanted, rtol=0, atol=atol)


def test_half_precision_weights_keep_exact_places() -> None:
    ours, _ = module_pair(torch.float32)
    memory = torch.randn(1, CELLS, 32)
    wanted = ours(memory, memory, own_places(SHAPES, 4, 2), SHAPES)
    half = ours.to(torch.bfloat16)
    found = half(memory.bfloat16(), memory.bfloat16(), own_places(SHAPES, 4, 2), SHAPES)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.1, atol=0.1)


def test_starts_as_a_star_of_points_with_even_weights() -> None:
    module = DeformableAttention(16, num_heads=4, num_levels=1, num_points=2)
    offsets = module.sampling_offsets.bias.view(4, 1, 2, 2)
    wanted = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    torch.testing.assert_close(offsets[:, 0, 0], wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(offsets[:, 0, 1], 2 * wanted, atol=1e-6, rtol=0)
    assert not module.sampling_offsets.weight.any()
    assert not module.attention_weights.weight.any()


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ValueError, match="multiple of num_heads"):
        DeformableAttention(30, num_heads=4)
