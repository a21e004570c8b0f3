"""OpenWorldSAM: oracles of the specification, switches, batches, and what a user meets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openworldsam_tiny as tiny
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import anymask
from anymask.errors import CheckpointError, InputError
from anymask.methods.openworldsam import OpenWorldSAMConfig, OpenWorldSAMModel, PhraseFinder
from anymask.methods.openworldsam.adapter import Adapter, SoftPrompting
from anymask.methods.openworldsam.collate import Collate
from anymask.methods.openworldsam.loss import PhraseLoss, focal_cost, iou_at_full_size
from anymask.methods.openworldsam.model import padded_phrases
from anymask.methods.openworldsam.results import (
    Answers,
    best_of_each,
    class_shares,
    class_weight,
    instances,
    panoptic_map,
)
from anymask.nn.losses import focal_entropy
from anymask.nn.matching import pairwise_dice
from anymask.ops.mask_classification import Canvas, semantic_scores
from anymask.ops.masks import nms
from anymask.ops.rle import decode, encode

# ------------------------------------------------------------------------------------- oracles


def test_t1_layouts() -> None:
    adapter = Adapter(5, 5, 4, num_tie_breakers=3, num_layers=1, num_heads=2, mlp_dim=8).eval()
    vectors, memory = torch.randn(1, 2, 5), torch.randn(1, 6, 4)
    queries = adapter.queries(vectors)[0].flatten(0, 1)
    refined = adapter.soft_prompting(adapter.queries(vectors), memory, False)[0].flatten(0, 1)
    single = adapter(vectors, memory, "single", isolate=False)[0]
    pairs = adapter(vectors, memory, "all_pairs", isolate=False)[0]
    assert single.shape == (6, 1, 4)
    assert pairs.shape == (6, 6, 4)
    torch.testing.assert_close(single[4, 0], queries[4] + refined[4])
    torch.testing.assert_close(pairs[4, 1], queries[4] + refined[1])


def test_t2_trainable_parameters() -> None:
    with torch.device("meta"):
        adapter = Adapter(1024, 1024, 256)
    assert sum(p.numel() for p in adapter.parameters()) == 4_477_440
    assert len(adapter.state_dict()) == 4 + 1 + 3 * (6 + 16 + 4)


def test_the_paper_is_the_default_and_its_size_is_the_papers() -> None:
    with torch.device("meta"):
        model = OpenWorldSAMModel(OpenWorldSAMConfig())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert trained == 4_477_440
    assert sum(p.numel() for p in model.reader.parameters()) == 672_702_464
    assert sum(p.numel() for p in model.sam2.parameters()) == 216_924_865


def test_t3_focal_and_dice() -> None:
    logits, truth = torch.zeros(1, 4), torch.tensor([[1.0, 0, 0, 0]])
    assert focal_entropy(logits, truth).mean().item() == pytest.approx(0.108304, abs=1e-6)
    logits, truth = torch.tensor([[2.0, -2, 0, 3]]), torch.tensor([[1.0, 0, 1, 0]])
    each = focal_entropy(logits, truth)[0]
    assert each.tolist() == pytest.approx([0.00045089, 0.0013527, 0.043322, 2.0747], rel=1e-3)
    assert each.mean().item() == pytest.approx(0.529959, abs=1e-5)
    assert pairwise_dice(logits, truth).item() == pytest.approx(0.310125, abs=1e-5)


def test_t4_matching() -> None:
    found = torch.tensor([[[4.0, 4], [-4, -4]], [[-4, 4], [-4, 4]], [[0, 0], [0, 0]]])
    truth = torch.tensor([[[0, 1], [0, 1]], [[1, 1], [0, 0]]]).bool()
    costs = focal_cost(found.flatten(1), truth.flatten(1).float())
    wanted = [[0.96873, 2.9358e-06], [2.9358e-06, 0.96873], [0.086643, 0.086643]]
    torch.testing.assert_close(costs, torch.tensor(wanted), atol=1e-5, rtol=1e-4)
    loss = PhraseLoss(mask_weight=1.0)
    match = loss.match([found], [torch.zeros(3)], [truth])[0]
    assert [x.tolist() for x in match] == [[0, 1], [1, 0]]
    parts = loss.parts(found[None], torch.zeros(1, 3), torch.zeros(1, 3), [truth], [match])
    assert parts["mask"].item() == pytest.approx(2.9358e-06, rel=1e-3)


def test_t5_phrases_weigh_the_same_whatever_their_picture() -> None:
    loss = PhraseLoss(mask_weight=1.0)
    logits = torch.randn(4, 1, 4, 4)
    truth = [torch.rand(1, 4, 4) > 0.5 for _ in range(4)]
    match = [(torch.tensor([0]), torch.tensor([0]))] * 4
    zeros = torch.zeros(4, 1)
    each = [
        loss.parts(logits[k : k + 1], zeros[:1], zeros[:1], [truth[k]], match[:1])["mask"].item()
        for k in range(4)
    ]
    both = loss.parts(logits, zeros, zeros, truth, match)["mask"].item()
    assert both == pytest.approx(np.mean(each), rel=1e-5)
    # K = 2 queries, G = 3 things: two pairs are summed and divided by three.
    logits, three = torch.randn(1, 2, 4, 4), torch.rand(3, 4, 4) > 0.5
    pairs = (torch.tensor([0, 1]), torch.tensor([2, 0]))
    found = loss.parts(logits, torch.zeros(1, 2), torch.zeros(1, 2), [three], [pairs])["mask"]
    apart = focal_entropy(logits[0], three[[2, 0]].float()).mean((-2, -1)).sum() / 3
    torch.testing.assert_close(found, apart)


def test_t6_masks_suppress_each_other() -> None:
    masks = [[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]]
    rles = [encode(np.array([m], bool)) for m in masks]
    assert sorted(nms(rles, [0.8, 0.95, 0.9, 0.75], 0.5)) == [1, 3]


def answers(masks: Any, scores: Any, labels: Any) -> Answers:
    logits = (torch.from_numpy(np.array(masks, np.float32)) * 2 - 1) * 3
    size = (logits.shape[1], logits.shape[2])
    return Answers(Canvas(logits, None, size), torch.tensor(scores), torch.tensor(labels))


def test_t7_boxes_and_masks_disagree() -> None:
    crossed = answers([np.eye(4), np.eye(4)[::-1].copy()], [0.9, 0.8], [0, 0])
    assert instances(crossed, 0.7, 0.5, "box").rows.tolist() == [0]
    assert instances(crossed, 0.7, 0.5, "mask").rows.tolist() == [0, 1]


def test_t8_semantic_merge() -> None:
    logits = torch.tensor([[[2.0, 2], [-2, -2]], [[-2, -2], [2, 2]], [[-2, 1], [2, 2]]])
    scores, labels = torch.tensor([0.9, 0.5, 0.8]), torch.tensor([0, 2, 2])
    maps = semantic_scores(Canvas(logits, None, (2, 2)), class_shares(scores, labels, 3))
    wanted = [
        [[0.4453, 0.5624], [0.4117, 0.4117]],
        [[0.2098, 0.3269], [0.3799, 0.3799]],
        [[0.2544, 0.5150], [0.7093, 0.7093]],
    ]
    torch.testing.assert_close(maps, torch.tensor(wanted), atol=1e-4, rtol=0)
    weights = class_weight(scores, 3)
    assert weights.tolist() == pytest.approx([0.267346, 0.139548, 0.234529], abs=1e-5)
    reduced = (weights[1:, None, None] * logits[1:].sigmoid()).sum(0)
    torch.testing.assert_close(
        reduced, torch.tensor([[0.0446, 0.1881], [0.3295, 0.3295]]), atol=1e-4, rtol=0
    )


def test_t9_t10_panoptic() -> None:
    masks = [[[1, 1, 0, 0]], [[1, 1, 1, 0]], [[0, 0, 1, 1]], [[0, 0, 0, 1]]]
    given = answers(masks, [0.9, 0.8, 0.95, 0.6], [0, 0, 5, 5])
    things = [True] * 5 + [False]
    ids, segments = panoptic_map(given, things, 0.7, 0.5)
    assert ids.tolist() == [[1, 1, 2, 2]]
    assert [(s.id, s.is_thing, s.category) for s in segments] == [(1, True, 0), (2, False, 5)]
    masks = [[[1, 1, 0, 0, 0, 0]], [[0, 1, 1, 1, 0, 0]], [[0, 0, 0, 0, 1, 1]], [[1, 1, 0, 0, 0, 0]]]
    given = answers(masks, [0.9, 0.8, 0.95, 0.75], [0, 5, 5, 1])
    ids, segments = panoptic_map(given, things, 0.7, 0.5)
    assert ids.tolist() == [[1, 1, 2, 2, 2, 2]]
    assert len(segments) == 2


def test_t11_the_border_score() -> None:
    given = answers([[[1, 0]]], [0.5], [0])
    assert len(instances(given, 0.5, 0.5).rows) == 1
    assert panoptic_map(given, [True], 0.5, 0.5)[1] == []


def test_t12_unstable_masks_fall_back() -> None:
    decoder = tiny.sam2().model.mask_decoder
    logits = torch.full((1, 1, 4, 1, 4), -1.0)
    logits[0, 0, 0, 0] = torch.tensor([1.0, 0.02, -0.02, -1.0])
    logits[0, 0, 2] = 7.0
    iou = torch.tensor([[[0.9, 0.5, 0.7, 0.6]]])
    mask, score = decoder._dynamic_multimask_via_stability(logits, iou)
    assert mask.flatten().tolist() == [7.0] * 4
    assert score.item() == pytest.approx(0.7)
    logits[0, 0, 0] = -1.0
    mask, score = decoder._dynamic_multimask_via_stability(logits, iou)
    assert score.item() == pytest.approx(0.9)


def test_t19_soft_prompting() -> None:
    module = SoftPrompting(8, 2, 2, 32, 0.0).eval()
    state = {}
    for name, value in module.state_dict().items():
        key = name.replace("fc1", "mlp.0").replace("fc2", "mlp.3")
        state[name] = value
        if "_proj." in key and "out_proj" not in key:
            continue
        state[name] = _filled(key.replace("out_proj", "out_proj"), value.shape)
    for layer in range(2):
        for attention in ("self_attn", "cross_attn"):
            stem = f"layers.{layer}.{attention}."
            for kind in ("weight", "bias"):
                packed = _filled(f"{stem}in_proj_{kind}", (24, 8) if kind == "weight" else (24,))
                for part, values in zip("qkv", packed.chunk(3), strict=True):
                    state[f"{stem}{part}_proj.{kind}"] = values
    module.load_state_dict(state)
    ramp = torch.arange(8.0)
    phrases = torch.stack([0.1 * ramp, 0.5 - 0.1 * ramp])
    ties = torch.stack([0.05 * ramp, -0.05 * ramp])
    queries = (phrases[:, None] + ties)[None]
    memory = torch.sin(0.3 * torch.arange(48.0)).reshape(1, 6, 8)
    together = module(queries, memory, isolate=False)[0].flatten(0, 1)
    first = (0.09626, -0.52042, -1.18837, -1.31185, -0.96603, -0.20052, 0.79298, 1.49763)
    last = (-0.17862, -0.36867, -1.25208, -0.98330, -1.17804, -0.71399, -0.65746, -0.53230)
    torch.testing.assert_close(together[0], torch.tensor(first), atol=1e-4, rtol=0)
    torch.testing.assert_close(together[3], torch.tensor(last), atol=1e-4, rtol=0)
    alone = (0.08209, -0.56028, -1.19687, -1.28969, -0.95150, -0.14264, 0.77738, 1.53045)
    for isolated in (
        module(queries, memory, isolate=True)[0, 0, 0],
        module(queries[:, :1], memory, isolate=False)[0, 0, 0],
    ):
        torch.testing.assert_close(isolated, torch.tensor(alone), atol=1e-4, rtol=0)


def _filled(key: str, shape: Any) -> torch.Tensor:
    shift = sum(map(ord, key)) % 97
    count = int(np.prod(shape))
    values = 0.2 * torch.sin(0.37 * torch.arange(count, dtype=torch.float64) + shift)
    if "norm" in key and key.endswith("weight"):
        values = values + 1
    return values.reshape(tuple(shape)).float()


def test_t20_referring() -> None:
    picked = best_of_each(torch.tensor([0.2, 0.7, 0.9, 0.1]), torch.tensor([0, 0, 1, 1]))
    assert picked.tolist() == [1, 2]


# ------------------------------------------------------------------------------------- batches


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_any_number_of_phrases_a_picture(counts: list[int]) -> None:
    picture = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    flat = torch.randn(len(picture), 3)
    table, valid = padded_phrases(flat, picture, len(counts))
    assert valid.sum(1).tolist() == counts
    torch.testing.assert_close(table[valid], flat)
    assert (table[~valid] == 0).all()


def samples(*counts: int) -> list[dict[str, Any]]:
    source = np.random.default_rng(0)
    texts = ["red cup", "blue ball", "the dog left of the cup", "dog", "cup"]
    made = []
    for number, count in enumerate(counts):
        masks = [
            torch.from_numpy(source.random((int(source.integers(0, 4)), 48, 60)) > 0.5)
            for _ in range(count)
        ]
        image = torch.from_numpy(tiny.picture(number).pixels.copy())
        made.append({"image": image, "texts": texts[:count], "instances": masks})
    return made


@pytest.mark.parametrize("layout", ["single", "all_pairs"])
@pytest.mark.parametrize("isolate", [True, False])
def test_a_batch_is_its_pictures_one_by_one(layout: str, isolate: bool) -> None:
    model = tiny.model(prompt_layout=layout, isolate_prompts=isolate)
    collate = Collate(model.config, tiny.tokenizer())
    given = samples(1, 4, 2)
    with torch.no_grad():
        whole = model(**collate(given))
        for k, sample in enumerate(given):
            alone = model(**collate([sample]))
            count = len(sample["texts"])
            torch.testing.assert_close(
                whole.mask_logits[k, :count], alone.mask_logits[0], atol=1e-4, rtol=1e-4
            )
            torch.testing.assert_close(whole.iou[k, :count], alone.iou[0], atol=1e-5, rtol=1e-4)


def test_gradients_do_not_depend_on_the_padding() -> None:
    """One process with pictures of 1, 0 and 5 phrases has the mean gradient over six phrases."""
    model = tiny.model().double().train()
    collate = Collate(model.config, tiny.tokenizer())

    def gradient(given: list[dict[str, Any]]) -> tuple[torch.Tensor, int]:
        batch = collate(given)
        batch["pixel_values"] = batch["pixel_values"].double()
        batch["reader_pixels"] = batch["reader_pixels"].double()
        model.zero_grad()
        model(**batch).loss.backward()
        found = torch.cat([p.grad.flatten() for p in model.adapter.parameters()])
        return found, len(batch["masks"])

    given = samples(1, 0, 5)
    whole, count = gradient(given)
    parts = [gradient([sample]) for sample in given]
    assert parts[1][0].abs().max() == 0  # a picture without phrases moves nothing
    mean = sum(g * n for g, n in parts) / count
    torch.testing.assert_close(whole, mean, atol=1e-9, rtol=1e-6)


def test_only_the_adapter_trains() -> None:
    model = tiny.model().train()
    batch = Collate(model.config, tiny.tokenizer())(samples(2, 3))
    model(**batch).loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("adapter."), name
    tuned = tiny.model(train_reader=True).train()
    tuned(**batch).loss.backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in tuned.reader.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_layers": 0},
        {"num_tie_breakers": 0},
        {"use_picture": False},
        {"dice_weight": 1.0, "iou_weight": 1.0, "no_object_weight": 0.1, "presence_weight": 1.0},
        {"prompt_layout": "all_pairs", "isolate_prompts": False},
    ],
)
def test_every_switch_learns(changes: dict[str, Any]) -> None:
    model = tiny.model(**changes).train()
    given = samples(2, 1)
    for sample in given:
        sample["instances"] = [torch.zeros(1, 48, 60, dtype=torch.bool) for _ in sample["texts"]]
        for masks in sample["instances"]:
            masks[0, :24, :30] = True
    batch = Collate(model.config, tiny.tokenizer())(given)
    optimizer = torch.optim.Adam(model.adapter.parameters(), 5e-3)
    losses = []
    for _ in range(40):
        output = model(**batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert min(losses[-5:]) < 0.8 * losses[0], (losses[0], losses[-1])
    assert set(output.loss_parts) >= {"mask"}


# ------------------------------------------------------------------------------------- finding


@pytest.fixture(scope="module")
def finder() -> PhraseFinder:
    return PhraseFinder(tiny.model(), tiny.tokenizer(), "cpu")


PHRASES = ["red cup", "blue ball", "dog", "the dog left of the cup"]


def test_an_answer_does_not_depend_on_its_neighbours(finder: PhraseFinder) -> None:
    picture = tiny.picture()
    together = finder(picture, PHRASES, min_score=0.0)
    for phrase in PHRASES:
        alone = finder(picture, [phrase], min_score=0.0)
        mine = together[[k for k, label in enumerate(together.labels) if label == phrase]]
        assert len(alone) == len(mine) > 0
        np.testing.assert_allclose(np.sort(alone.scores), np.sort(mine.scores), atol=1e-5)
        assert set(alone.labels) == {phrase}


def test_the_released_layout_does_depend_on_them() -> None:
    model = tiny.model(prompt_layout="all_pairs", isolate_prompts=False)
    finder = PhraseFinder(model, tiny.tokenizer(), "cpu")
    picture = tiny.picture()
    alone = finder(picture, ["dog"], "referring")
    both = finder(picture, ["red cup", "dog"], "referring")
    mine = both[[k for k, label in enumerate(both.labels) if label == "dog"]]
    assert abs(alone.scores[0] - mine.scores[0]) > 1e-6


@pytest.mark.parametrize("task", ["instance", "referring", "semantic", "panoptic"])
@pytest.mark.parametrize("two_stage", [False, True])
def test_every_task_answers(finder: PhraseFinder, task: str, two_stage: bool) -> None:
    picture = tiny.picture()
    found = finder(picture, PHRASES, task, two_stage=two_stage)
    assert found.size == picture.size
    assert set(found.labels) <= set(PHRASES)
    assert len(found)
    covered = sum(decode(rle).astype(int) for rle in found.rles)
    if task in ("semantic", "panoptic"):
        assert covered.max() == 1
    if task == "semantic":
        assert covered.min() == 1
    if task == "referring":
        assert list(found.labels) == PHRASES


def test_phrases_in_small_portions_give_the_same(
    finder: PhraseFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from anymask.methods.openworldsam import inference

    picture = tiny.picture()
    whole = {task: finder(picture, PHRASES, task) for task in ("instance", "semantic", "panoptic")}
    monkeypatch.setattr(inference, "QUERIES_AT_ONCE", 3)
    for task, wanted in whole.items():
        found = finder(picture, PHRASES, task)
        assert sorted(found.labels) == sorted(wanted.labels)
        assert [decode(a).sum() for a in found.rles] == [decode(b).sum() for b in wanted.rles]


def test_a_picture_is_looked_at_once_and_a_phrase_read_once(
    finder: PhraseFinder, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tiny.picture(7)
    finder(picture, PHRASES[:2])

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("looked again")

    monkeypatch.setattr(finder.model.sam2.vision_encoder, "forward", never)
    monkeypatch.setattr(finder.model.reader, "forward", never)
    finder(picture, PHRASES[:2], "referring")
    finder.prompts(picture, points=[[5, 5]])
    with pytest.raises(AssertionError, match="looked again"):
        finder(picture, ["something new"])


def test_the_object_score_learns_how_much_was_found() -> None:
    """Two queries, one half on the thing, the other on nothing; a phrase that means nothing."""
    logits = torch.full((2, 2, 4, 4), -9.0)
    logits[0, 0, :2] = 9.0
    logits[1, 1] = 9.0
    things = [torch.zeros(1, 4, 4, dtype=torch.bool), torch.zeros(0, 4, 4, dtype=torch.bool)]
    things[0][0, 0] = True
    assert iou_at_full_size(logits[0], things[0]).tolist() == [0.5, 0.0]
    assert iou_at_full_size(logits[1], things[1]).tolist() == [0.0, 0.0]
    scores = torch.tensor([[0.3, -1.0], [2.0, -2.0]])
    loss = PhraseLoss(presence_weight=2.0)
    iou = torch.zeros(2, 2)
    matches = loss.match(logits, iou, things)
    parts = loss.parts(logits, iou, scores, things, matches)
    wanted = torch.tensor([[0.5, 0.0], [0.0, 0.0]])
    own = -(wanted * scores.sigmoid().log() + (1 - wanted) * (1 - scores.sigmoid()).log())
    assert float(parts["presence"]) == pytest.approx(2.0 * float(own.mean()), rel=1e-6)


def test_absent_phrases_are_left_out() -> None:
    model = tiny.model(presence_weight=1.0, presence_threshold=0.5)
    finder = PhraseFinder(model, tiny.tokenizer(), "cpu")
    head = model.sam2.mask_decoder.pred_obj_score_head.proj_out
    with torch.no_grad():
        head.weight.zero_()
        head.bias.fill_(5.0)
    assert finder.says_absent
    present = finder(tiny.picture(), ["dog"], "referring")
    assert len(present) == 1
    with torch.no_grad():
        head.bias.fill_(-5.0)
    for task in ("instance", "referring", "semantic", "panoptic"):
        assert len(finder(tiny.picture(), ["dog"], task)) == 0
    assert not PhraseFinder(tiny.model(), tiny.tokenizer(), "cpu").says_absent


def test_the_verb(finder: PhraseFinder, tmp_path: Path) -> None:
    picture = tiny.picture()
    assert set(anymask.find(picture, "dog", model=finder).labels) == {"dog"}
    assert len(anymask.find(picture, PHRASES, model=finder, max_segments=1)) == len(PHRASES)
    found = anymask.find(picture, points=[[5, 5], [20, 9]], model=finder)
    assert len(found) == 1
    refined = anymask.find(picture, points=[[[5, 5]]], masks=found, model=finder)
    assert len(refined) == 1
    finder.model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="tokenizer"):
        anymask.find(picture, "dog", model=tmp_path)
    finder.tokenizer.save_pretrained(tmp_path)
    again = anymask.find(picture, PHRASES, model=tmp_path)
    before = anymask.find(picture, PHRASES, model=finder)
    np.testing.assert_allclose(again.scores, before.scores, atol=1e-5)
    for wrong, message in (
        ({}, "nothing to look for"),
        ({"phrases": "dog", "points": [[1, 1]]}, "one at a time"),
        ({"phrases": ["dog", " "]}, "is no phrase"),
        ({"phrases": []}, "no phrase was given"),
        ({"phrases": "dog", "task": "everything"}, "use one of"),
        ({"phrases": "dog", "min_score": 2}, "between 0 and 1"),
    ):
        with pytest.raises(InputError, match=message):
            anymask.find(picture, model=finder, **wrong)
    with pytest.raises(CheckpointError, match="takes no examples"):
        anymask.find(picture, examples=[(picture, np.ones(picture.size, bool))], model=finder)
    with pytest.raises(CheckpointError, match="does not understand phrases"):
        anymask.find(picture, "dog", model=finder.prompts)
    with pytest.raises(CheckpointError, match="no model"):
        anymask.find(picture, "dog", model="openworldsam-scene")


def test_the_configuration_is_checked() -> None:
    with pytest.raises(ValueError, match="use one of beit3"):
        tiny.config(reader="bert")
    with pytest.raises(ValueError, match="single, all_pairs"):
        tiny.config(prompt_layout="pairs")
    assert OpenWorldSAMConfig.released().prompt_layout == "all_pairs"
