"""What a small BEiT-3 is taught before it is frozen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from anymask.methods.openworldsam.grounding_training import Beit3Grounding, GroundingCollate
from anymask.nn.beit3 import Beit3Config, Beit3Model
from anymask.training.recipe import train
from anymask.training.recipes.beit3_scenes import beit3_scenes
from anymask.training.scene_phrases import NAMES, ScenePhrases, phrase_tokenizer, word_weights

GRID = 4


@pytest.fixture(scope="module")
def config() -> Beit3Config:
    return Beit3Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        vocab_size=1024, image_size=64, patch_size=16, max_position_embeddings=34,
    )  # fmt: skip


def batch_of(config: Beit3Config, phrases: int) -> dict[str, Any]:
    data = ScenePhrases(3, 96, 5, phrases, grid=GRID)
    collate = GroundingCollate(config, phrase_tokenizer(), NAMES, word_weights())
    return collate([data[k] for k in range(3)])


def entropy(logit: float, truth: float) -> float:
    return -truth * math.log(1 / (1 + math.exp(-logit))) - (1 - truth) * math.log(
        1 / (1 + math.exp(logit))
    )


def halves(logits: torch.Tensor, cells: torch.Tensor) -> float:
    """Mean over phrases: what is meant and what is not count half each."""
    total = 0.0
    for row, truth in zip(logits.tolist(), cells.tolist(), strict=True):
        each = [entropy(a, b) for a, b in zip(row, truth, strict=True)]
        total += sum(e * b for e, b in zip(each, truth, strict=True)) / max(1.0, sum(truth))
        outside = [1 - b for b in truth]
        total += sum(e * b for e, b in zip(each, outside, strict=True)) / max(1.0, sum(outside))
    return total / len(cells)


@torch.no_grad()
def test_the_four_losses(config: Beit3Config) -> None:
    torch.manual_seed(0)
    model = Beit3Grounding(config).eval()
    batch = batch_of(config, 4)
    found = model(**batch)
    assert found.loss_parts is not None
    plain = super(Beit3Grounding, model)
    heat, patch, presence = [], [], []
    for row, picture in enumerate(batch["picture"].tolist()):  # a phrase at a time
        joint = plain.forward(
            batch["pixel_values"][picture][None],
            batch["input_ids"][row][None],
            batch["attention_mask"][row][None],
        )
        first = joint.pooler_output
        heat.append(model.grounding["heat"](first)[0])
        presence.append(float(model.grounding["presence"](first)))
        read = model.grounding["patch"](joint.last_hidden_state[0, 1 : 1 + GRID * GRID])
        patch.append(read[:, 0])
    cells = batch["cells"]
    there = [float(row.sum() > 0) for row in cells]
    wanted = {
        "heat": halves(torch.stack(heat), cells),
        "patch": halves(torch.stack(patch), cells),
        "presence": sum(map(entropy, presence, there)) / len(there),
    }
    seen = plain.forward(batch["pixel_values"]).last_hidden_state[:, 1:]
    said = plain.forward(
        input_ids=batch["word_ids"], attention_mask=batch["word_mask"]
    ).pooler_output
    total = weight = 0.0
    for patches, truth in zip(seen, batch["word_cells"], strict=True):
        for vector, shares in zip(patches, truth.T, strict=True):
            if float(shares.sum()) <= 0.2:
                continue
            cosines = F.cosine_similarity(vector[None], said)
            logs = (cosines * math.exp(2.3)).log_softmax(0)
            share = shares / shares.sum()
            counts = float((share * word_weights()).sum())
            total += counts * float(-(share * logs).sum())
            weight += counts
    wanted["words"] = total / weight
    for name, value in wanted.items():
        assert float(found.loss_parts[name]) == pytest.approx(value, rel=1e-4), name
    assert float(found.loss) == pytest.approx(sum(wanted.values()), rel=1e-4)


def test_words_alone_still_give_every_gradient(config: Beit3Config) -> None:
    model = Beit3Grounding(config).train()
    output = model(**batch_of(config, 0))
    assert set(output.loss_parts) == {"words"}
    output.loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_heads_start_anew_on_a_plain_beit3(config: Beit3Config, tmp_path: Path) -> None:
    """The bundled reader has no heads; what is missing must not be left as memory was."""
    torch.manual_seed(1)
    plain = Beit3Model(config)
    plain.save_pretrained(tmp_path)
    for _ in range(3):
        model = Beit3Grounding.from_pretrained(tmp_path)
        assert float(model.grounding["scale"].log.detach()) == pytest.approx(2.3)
        for name in ("heat", "patch", "presence"):
            assert 0 < float(model.grounding[name].weight.detach().std()) < 0.1
            assert float(model.grounding[name].bias.detach().abs().max()) == 0
        for name, weight in plain.state_dict().items():
            assert torch.equal(model.state_dict()[name], weight), name


def test_phrases_go_on_from_words(tmp_path: Path) -> None:
    words = train(beit3_scenes(4, 2, size=64), tmp_path / "words", device="cpu")
    recipe = beit3_scenes(2, 1, size=64, init=words, phrases=2)
    before = Beit3Grounding.from_pretrained(words).state_dict()
    assert all(torch.equal(w, before[n]) for n, w in recipe.model().state_dict().items())
    after = Beit3Grounding.from_pretrained(train(recipe, tmp_path / "phrases", device="cpu"))
    moved = [n for n, w in after.state_dict().items() if not torch.equal(w, before[n])]
    assert any(name.startswith("grounding.heat") for name in moved)
