from __future__ import annotations

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerSinePositionEmbedding

from anymask.nn.position import sine_position


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (20, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_hugging_face(size: tuple[int, int], dtype: torch.dtype) -> None:
    theirs = Mask2FormerSinePositionEmbedding(16, normalize=True)
    wanted = theirs(torch.Size([1, 32, *size]), "cpu", dtype)[0]
    code = sine_position(size, 32, dtype=dtype)
    assert code.dtype == dtype
    torch.testing.assert_close(code, wanted, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-12)


def test_half_precision_is_rounded_from_full_precision() -> None:
    # Summing positions in bfloat16 would make neighbours of a wide map equal.
    wanted = sine_position((4, 300), 8).to(torch.bfloat16)
    assert torch.equal(sine_position((4, 300), 8, dtype=torch.bfloat16), wanted)


def test_a_code_made_in_inference_mode_serves_training() -> None:
    with torch.inference_mode():
        sine_position((3, 11), 8)
    weight = torch.ones(8, 3, 11, requires_grad=True)
    (weight * sine_position((3, 11), 8)).sum().backward()
    assert weight.grad is not None


def test_the_same_code_is_made_once() -> None:
    assert sine_position((6, 5), 8) is sine_position((6, 5), 8, "cpu")
    assert sine_position((6, 5), 8) is not sine_position((5, 6), 8)


def test_width_must_divide_into_two_axes_of_pairs() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_position((2, 2), 6)
