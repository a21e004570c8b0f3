"""The Cascade Attention Mask and Mask2Token: what they promise, on a random language model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen2Config, Qwen2ForCausalLM

from anymask.data.regions import normalise_category
from anymask.methods.wowseg.cascade_attention_mask import (
    branch_mask,
    branch_positions,
    cascade_attention_mask,
)
from anymask.methods.wowseg.mask2token import crop_box, on_canvas, selector
from anymask.methods.wowseg.names import clean_answer, region_question
from anymask.ops.tile_grid import tile_grid


@pytest.fixture(scope="module")
def language() -> Any:
    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, vocab_size=64, attn_implementation="sdpa",
    )  # fmt: skip
    return Qwen2ForCausalLM(config).double().eval()


PREFIX = [1, 2, 3, 4, 5]
BRANCHES = [[10, 11, 12, 13], [20, 21], [30, 31, 32, 33, 34, 35]]


def row(branches: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = PREFIX + [token for branch in branches for token in branch]
    tags = [0] * len(PREFIX) + [k for k, b in enumerate(branches, 1) for _ in b]
    return torch.tensor([ids]), torch.tensor([tags])


@torch.no_grad()
def run(language: Any, ids: torch.Tensor, allowed: torch.Tensor, places: torch.Tensor) -> Any:
    return language(input_ids=ids, attention_mask=allowed, position_ids=places).logits[0]


def test_packed_branches_equal_one_run_a_mask(language: Any) -> None:
    ids, tags = row(BRANCHES)
    packed = run(language, ids, branch_mask(tags), branch_positions(tags))
    for number, branch in enumerate(BRANCHES, 1):
        alone, own = row([branch])
        single = language(input_ids=alone).logits[0, len(PREFIX) :]
        mine = packed[tags[0] == number]
        torch.testing.assert_close(mine, single, atol=1e-9, rtol=1e-9)
        assert branch_positions(own)[0].tolist() == list(range(alone.shape[1]))


def test_the_released_layout_is_not_independent(language: Any) -> None:
    """Changing region 2 changes name 1: the suffix sees all regions and every name sees it."""
    ids = torch.tensor([[1, 2, 3, 10, 11, 20, 21, 40, 41, 50, 51, 52, 53]])
    region = torch.tensor([[0, 0, 0, 1, 1, 2, 2, 0, 0, 0, 0, 0, 0]])
    output = torch.tensor([[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 2, 2]])
    places = torch.arange(13)[None]
    allowed = cascade_attention_mask(region, output)
    changed = ids.clone()
    changed[0, 5:7] = torch.tensor([22, 23])
    before, after = (run(language, x, allowed, places) for x in (ids, changed))
    assert (before[9:11] - after[9:11]).abs().max() > 1e-6
    # With a suffix that sees no region the first name's logits do not move.
    blind = allowed.clone()
    blind[0, 0, 7:9, 3:7] = False
    before, after = (run(language, x, blind, places) for x in (ids, changed))
    torch.testing.assert_close(before[9:11], after[9:11], atol=1e-12, rtol=0)


def test_padding_is_seen_by_nobody() -> None:
    tags = torch.tensor([[0, 0, 1, 1, 0, 0]])
    keep = torch.tensor([[True, True, True, True, False, False]])
    for allowed in (cascade_attention_mask(tags, tags * 0, keep), branch_mask(tags, keep)):
        assert not allowed[0, 0, :, 4:].any()
        assert allowed[0, 0].any(1).all()  # no row is empty


@given(
    st.integers(20, 90), st.integers(20, 90), st.integers(0, 10**6), st.sampled_from([1.5, 2, 2.5])
)
def test_windows_hold_their_mask(width: int, height: int, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    y, x = rng.integers(0, height), rng.integers(0, width)
    mask[y : y + int(rng.integers(1, 20)), x : x + int(rng.integers(1, 20))] = True
    box = crop_box(mask, scale)
    assert box is not None
    assert 0 <= box[0] < box[2] <= width
    assert 0 <= box[1] < box[3] <= height
    inside = mask[box[1] : box[3], box[0] : box[2]]
    assert inside.sum() == mask.sum()
    assert selector(mask, box).any()


def test_thin_masks_keep_a_cell() -> None:
    mask = np.zeros((200, 200), bool)
    mask[10:190, 101] = True
    box = crop_box(mask, 2)
    assert box is not None
    assert not selector(mask, box, thin="none").any()
    assert selector(mask, box).sum() == 1
    assert crop_box(np.zeros((5, 5), bool), 2) is None
    assert on_canvas(np.ones((4, 6), bool), (12, 8)).shape == (8, 12)


def test_grids() -> None:
    assert tile_grid(640, 480, 4) == (1, 1)
    assert tile_grid(640, 480, 12) == (4, 3)
    assert tile_grid(448, 448, 1) == (1, 1)


def test_names() -> None:
    assert normalise_category("trash_can:body") == "trash can: body"
    assert clean_answer("Category: Office chair. More\nignored") == "Office chair"
    assert region_question("What is it?").count("<image>") == 2
