from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerMaskedAttentionDecoder,
    Mask2FormerTransformerModule,
)

from anymask.methods.segprompt.convert import HUGGING_FACE
from anymask.nn.masked_attention_decoder import MaskedAttentionDecoder
from anymask.nn.published import rename

DIM, MASK_DIM, QUERIES = 32, 24, 10


def pair() -> tuple[MaskedAttentionDecoder, dict[str, Tensor], Mask2FormerTransformerModule]:
    torch.manual_seed(0)
    config = Mask2FormerConfig(
        hidden_dim=DIM,
        feature_size=DIM,
        mask_feature_size=MASK_DIM,
        dim_feedforward=48,
        decoder_layers=6,
        num_attention_heads=4,
        num_queries=QUERIES,
    )
    theirs = Mask2FormerTransformerModule(DIM, config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    state = {f"model.transformer_module.{k}": v for k, v in theirs.state_dict().items()}
    renamed = rename(state, HUGGING_FACE)
    ours = MaskedAttentionDecoder(DIM, 4, 48, num_layers=5, mask_dim=MASK_DIM).eval()
    ours.load_state_dict(
        {k.removeprefix("decoder."): v for k, v in renamed.items() if k.startswith("decoder.")}
    )
    return ours, renamed, theirs


def pyramid(dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    torch.manual_seed(1)
    levels = [torch.randn(2, DIM, h, w, dtype=dtype) for h, w in ((3, 2), (5, 4), (10, 7))]
    return levels, torch.randn(2, MASK_DIM, 20, 14, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["single", "double"]
)
def test_equals_hugging_face(dtype: torch.dtype, atol: float) -> None:
    ours, weights, theirs = pair()
    ours, theirs = ours.to(dtype), theirs.to(dtype)
    levels, mask_features = pyramid(dtype)
    content, position = (
        weights[f"queries.{name}.weight"].to(dtype).expand(2, -1, -1)
        for name in ("content", "position")
    )
    with torch.inference_mode():
        output = ours(content, position, levels, mask_features, inner_features=mask_features)
        wanted = theirs(levels, mask_features)
    assert isinstance(theirs.decoder, Mask2FormerMaskedAttentionDecoder)
    for mine, masks in zip(output.masks, wanted.masks_queries_logits, strict=True):
        torch.testing.assert_close(mine, masks, rtol=0, atol=atol)
    for mine, state in zip(output.states, wanted.intermediate_hidden_states, strict=True):
        torch.testing.assert_close(mine, state.transpose(0, 1), rtol=0, atol=atol)
    torch.testing.assert_close(output.hidden, wanted.last_hidden_state, rtol=0, atol=atol)


def test_given_masks_steer_the_last_queries_only() -> None:
    # The last two queries are shown masks; they attend there, and nobody else changes.
    ours, weights, _ = pair()
    levels, mask_features = pyramid(torch.float32)
    content = weights["queries.content.weight"].expand(2, -1, -1)
    given = torch.zeros(2, 2, 80, 56)
    given[:, 0, :40] = 1
    apart = torch.block_diag(torch.ones(QUERIES - 2, QUERIES - 2), torch.ones(2, 2)).bool()
    seen: dict[str, Tensor] = {}
    ours.layers[2].register_forward_pre_hook(lambda _, args: seen.update(cross=args[4]))
    plain = ours(content, content, levels, mask_features, self_visible=apart[None, None])
    visible_plain = seen["cross"]
    steered = ours(
        content,
        content,
        levels,
        mask_features,
        self_visible=apart[None, None],
        given_masks=given,
    )
    torch.testing.assert_close(steered.hidden[:, :-2], plain.hidden[:, :-2])
    assert not torch.allclose(steered.hidden[:, -2:], plain.hidden[:, -2:])
    assert torch.equal(seen["cross"][:, :, :-2], visible_plain[:, :, :-2])
    rows = seen["cross"][0, 0].view(QUERIES, 10, 7)
    assert rows[-2, :5].all()
    assert not rows[-2, 5:].any()
    assert rows[-1].all()  # an empty mask sees everything


def test_the_smallest_trace_of_a_mask_counts() -> None:
    # Specification, oracle O7: one pixel of a 4 x 4 mask is a quarter of a 2 x 2 cell, visible;
    # resized to one cell it vanishes, and the query sees everything.
    ours = MaskedAttentionDecoder(32, 4, 16, num_layers=2, mask_dim=8, num_levels=2).eval()
    seen: list[Tensor] = []
    for layer in ours.layers:
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[4]))
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, 0] = 1
    levels = [torch.randn(1, 32, 2, 2), torch.randn(1, 32, 1, 1)]
    query = torch.zeros(1, 1, 32)
    ours(query, query, levels, torch.randn(1, 8, 4, 4), given_masks=mask)
    assert seen[0].flatten().tolist() == [True, False, False, False]
    assert seen[1].flatten().tolist() == [True]


def test_inner_masks_are_only_computed_when_asked_for() -> None:
    ours, weights, _ = pair()
    levels, mask_features = pyramid(torch.float32)
    content = weights["queries.content.weight"].expand(2, -1, -1)
    output = ours(content, content, levels, mask_features)
    assert len(output.masks) == 1
    assert len(output.states) == 6
