"""The lean decoder gives the stock decoder's numbers, gradients too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import Sam2Config, Sam2Model

from anymask.nn import sam2_decoder
from anymask.nn.sam2_decoder import Sam2Decoder, Sam2Features

C, SIDE = 64, 8


@pytest.fixture(scope="module")
def stock() -> Any:
    torch.manual_seed(0)
    model = Sam2Model(
        Sam2Config(
            mask_decoder_config={"hidden_size": C, "mlp_dim": 128, "iou_head_hidden_dim": 32}
        )
    )
    decoder = model.mask_decoder.eval().double()
    for parameter in decoder.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return decoder


def features(batch: int, seed: int = 0) -> Sam2Features:
    source = torch.Generator().manual_seed(seed)

    def noise(channels: int, times: int) -> torch.Tensor:
        shape = (batch, channels, times * SIDE, times * SIDE)
        return torch.randn(shape, generator=source, dtype=torch.float64)

    return Sam2Features(noise(C // 8, 4), noise(C // 4, 2), noise(C, 1))


POSITION = torch.randn(1, C, SIDE, SIDE, dtype=torch.float64)
DENSE = torch.randn(1, C, SIDE, SIDE, dtype=torch.float64)


def of_stock(
    decoder: Any, given: Sam2Features, prompts: torch.Tensor, dense: Any, three: bool
) -> Any:
    batch = len(given.coarse)
    return decoder(
        image_embeddings=given.coarse,
        image_positional_embeddings=POSITION.repeat(batch, 1, 1, 1),
        sparse_prompt_embeddings=prompts,
        dense_prompt_embeddings=dense.expand(batch, -1, -1, -1),
        multimask_output=three,
        high_resolution_features=[given.fine, given.middle],
    )


@pytest.mark.parametrize("tokens", [0, 1, 3, 20])  # few and many: both orders of the products
@pytest.mark.parametrize("three", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
def test_equals_the_stock_decoder(stock: Any, tokens: int, three: bool, batch: int) -> None:
    given = features(batch)
    prompts = torch.randn(batch, 11, tokens, C, dtype=torch.float64)
    with torch.no_grad():
        masks, iou, _, objects = of_stock(stock, given, prompts, DENSE, three)
        ours = Sam2Decoder(stock, POSITION)(given, prompts, DENSE, "three" if three else "best")
    assert ours.rows.tolist() == list(range(11 * batch))
    torch.testing.assert_close(ours.logits, masks.flatten(0, 1), atol=1e-10, rtol=1e-9)
    torch.testing.assert_close(ours.iou, iou.flatten(0, 1), atol=1e-10, rtol=1e-9)
    torch.testing.assert_close(ours.object_logits, objects.flatten(), atol=1e-10, rtol=1e-9)


def test_a_mask_prompt_a_picture(stock: Any) -> None:
    given = features(1).expanded(4)
    dense = torch.randn(4, C, SIDE, SIDE, dtype=torch.float64)
    prompts = torch.randn(4, 1, 2, C, dtype=torch.float64)
    with torch.no_grad():
        masks = of_stock(stock, given, prompts, dense, False)[0]
        ours = Sam2Decoder(stock, POSITION)(given, prompts, dense)
    torch.testing.assert_close(ours.logits, masks.flatten(0, 1), atol=1e-10, rtol=1e-9)


def test_gradients_reach_the_prompts_as_in_the_stock_decoder(stock: Any) -> None:
    given = features(2)
    start = torch.randn(2, 3, 2, C, dtype=torch.float64)
    weight = torch.randn(6, 3, 4 * SIDE, 4 * SIDE, dtype=torch.float64)
    found = []
    for which in ("stock", "ours"):
        prompts = start.clone().requires_grad_()
        if which == "stock":
            logits = of_stock(stock, given, prompts, DENSE, True)[0].flatten(0, 1)
        else:
            logits = Sam2Decoder(stock, POSITION)(given, prompts, DENSE, "three").logits
        (logits * weight).sum().backward()
        assert prompts.grad is not None
        found.append(prompts.grad)
    assert found[0].abs().max() > 1e-3
    torch.testing.assert_close(found[1], found[0], atol=1e-8, rtol=1e-8)


def test_what_cannot_score_is_not_drawn(stock: Any) -> None:
    given = features(1)
    prompts = torch.randn(1, 30, 1, C, dtype=torch.float64) * 3
    decoder = Sam2Decoder(stock, POSITION)
    with torch.no_grad():
        everything = decoder(given, prompts, DENSE, "three")
        limit = float(everything.iou.amax(1).median())
        some = decoder(given, prompts, DENSE, "three", min_iou=limit)
    wanted = (everything.iou.amax(1) >= limit).nonzero()[:, 0]
    assert some.rows.tolist() == wanted.tolist()
    assert 0 < len(wanted) < 30
    torch.testing.assert_close(some.logits, everything.logits[wanted])
    with torch.no_grad():
        none = decoder(given, prompts, DENSE, "three", min_iou=2.0)
    assert none.logits.shape == (0, 3, 4 * SIDE, 4 * SIDE)


def test_the_number_done_at_once_changes_nothing(
    stock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = features(2)
    prompts = torch.randn(2, 7, 1, C, dtype=torch.float64)
    decoder = Sam2Decoder(stock, POSITION)
    with torch.no_grad():
        whole = decoder(given, prompts, DENSE)
        monkeypatch.setattr(sam2_decoder, "PROMPTS_AT_ONCE", 3)
        parts = decoder(given, prompts, DENSE)
    assert parts.rows.tolist() == list(range(14))
    torch.testing.assert_close(parts.logits, whole.logits, atol=1e-12, rtol=1e-10)
    torch.testing.assert_close(parts.iou, whole.iou, atol=1e-12, rtol=1e-10)


def test_bf16_agrees_in_nearly_all_signs(stock: Any) -> None:
    given = features(1).to(torch.float32)
    prompts = torch.randn(1, 8, 1, C, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        plain = Sam2Decoder(stock.float(), POSITION.float())(given, prompts, DENSE.float(), "first")
        half = Sam2Decoder(stock.bfloat16(), POSITION.bfloat16())(
            given.to(torch.bfloat16), prompts.bfloat16(), DENSE.bfloat16(), "first"
        )
        stock.double()
    agree = ((half.logits > 0) == (plain.logits > 0)).float().mean()
    assert agree > 0.97
