"""Prompts that can be compared: the loss, and the search that asks every mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segprompt_tiny import SMALL, picture, squares
from torch.nn import functional as F

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.few_shot import SegPromptFinder, _of_any_name
from anymask.methods.segprompt.likeness import Likeness
from anymask.methods.segprompt.processing import proposals
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.training.scene_samples import SceneSamples

COMPARED: dict[str, Any] = {**SMALL, "likeness_weight": 2.0, "isolated_examples": True}


def test_the_loss_weighs_pairs_of_one_class_and_of_two_alike() -> None:
    torch.manual_seed(0)
    likeness = Likeness(5)
    prompts, classes = torch.randn(7, 5), torch.tensor([0, 1, 0, 2, -1, 1, 0])
    logits = likeness(prompts, prompts).detach()
    same, other = [], []
    for i in range(7):
        for j in range(7):
            if i == j or -1 in (classes[i], classes[j]):
                continue
            chance = torch.sigmoid(logits[i, j])
            if classes[i] == classes[j]:
                same.append(-float(chance.log()))
            else:
                other.append(-float((1 - chance).log()))
    loss, parts = likeness.loss(prompts, classes)
    assert loss.item() == pytest.approx(np.mean(same) + np.mean(other), rel=1e-5)
    assert parts["likeness"].item() == pytest.approx(loss.item())
    # Nothing to compare is no mistake.
    assert likeness.loss(prompts, torch.full((7,), -1))[0].item() == 0
    assert likeness.loss(prompts[:1], classes[:1])[0].item() == 0


def test_a_prompt_is_like_itself_and_the_mean_of_prompts_is_a_prototype() -> None:
    torch.manual_seed(0)
    likeness = Likeness(5)
    one, two = torch.randn(1, 5), torch.randn(1, 5)
    assert likeness(one, one).item() == pytest.approx(likeness.threshold.item())
    assert likeness(one, two).item() < likeness.threshold.item()
    places = likeness.space(torch.cat([one, two]))
    middle = likeness.space((one + two) / 2)
    torch.testing.assert_close(places.mean(0, keepdim=True), middle)


def test_it_learns_what_tells_classes_apart() -> None:
    torch.manual_seed(0)
    likeness = Likeness(8)
    optimizer = torch.optim.Adam(likeness.parameters(), 1e-2)

    def draw(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        classes = torch.randint(0, 3, (count,))
        prompts = torch.randn(count, 8) * 2  # loud, and in all places but one meaningless
        prompts[:, 3] = classes.float() - 1
        return prompts, classes

    for _ in range(200):
        loss, _ = likeness.loss(*draw(64))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    prompts, classes = draw(200)
    with torch.no_grad():
        logits = likeness(prompts, prompts)
    same = classes[:, None] == classes[None]
    right = (logits > 0) == same
    assert float(right[same].float().mean()) > 0.8
    assert float(right[~same].float().mean()) > 0.8


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("compared")
    PromptLearningModel(PromptLearningConfig.pocket(**COMPARED)).save_pretrained(folder)
    return folder


def test_examples_learn_from_it_with_prompts_out_of_the_cache() -> None:
    """The paper's prompts carry no gradient: without this loss what an example says of its class
    would be left to chance."""
    data = SceneSamples(8, 96, 1, class_aware=True)
    found = {}
    weights: dict[str, torch.Tensor] = {}
    torch.manual_seed(0)
    for weight in (2.0, 0.0):
        settings = {**COMPARED, "prompt_classes": 40, "likeness_weight": weight}
        model = PromptLearningModel(PromptLearningConfig.pocket(**settings)).train()
        weights = weights or {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(weights, strict=False)
        output = model(**Collate(model.config)([data[k] for k in range(8)]))
        found[weight] = (output.loss, output.loss_parts)
    assert "likeness" not in found[0.0][1]
    part = float(found[2.0][1]["likeness"])
    assert part > 0
    assert (found[2.0][0] - found[0.0][0]).item() == pytest.approx(2 * part, rel=1e-3)


def test_isolated_examples_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    model = PromptLearningModel(PromptLearningConfig.pocket(**COMPARED)).eval()
    finder = SegPromptFinder(model, "cpu")
    both = finder.extract(picture(), squares((5, 5), (40, 50)))
    alone = finder.extract(picture(), squares((40, 50)))
    np.testing.assert_allclose(both[1:], alone, atol=1e-5)
    # And in training: the same answer of the first example whatever the others show.
    mask_features, levels = model.segmenter.encode(torch.randn(1, 3, 96, 96))
    nothing = tuple(x[:, :0] for x in model.segmenter.queries(levels[-1]))
    masks = torch.zeros(1, 2, 96, 96)
    masks[0, 0, :30, :30] = 1
    ends = []
    for corner in (40, 60):
        masks[0, 1] = 0
        masks[0, 1, corner:, corner:] = 1
        seen = model.packed(
            levels,
            mask_features,
            nothing,
            nothing,
            masks,
            isolated=True,  # type: ignore[arg-type]
        )
        ends.append(seen.examples[0, 0])
    torch.testing.assert_close(ends[0], ends[1], atol=1e-5, rtol=0)


def test_every_mask_may_be_what_any_name_means(compared: Path) -> None:
    finder = SegPromptFinder.from_pretrained(compared, "cpu")
    likeness = finder.branches.likeness
    assert likeness is not None
    image = picture(3)
    bank = finder.prompts([(picture(1), squares((5, 5), (40, 50), labels=["mug", "key"]))])
    found = finder.find(image, bank, min_score=0.0, max_segments=5)
    assert set(found.labels) == {"mug", "key"}
    assert (np.diff(found.scores) <= 0).all()
    # A threshold that nothing reaches leaves nothing, one that all reach leaves the rest alone.
    with torch.no_grad():
        likeness.threshold.fill_(-30.0)
    assert not len(finder.find(image, bank, min_score=0.01))
    with torch.no_grad():
        likeness.threshold.fill_(300.0)
    everything = finder.find(image, bank, min_score=0.0, max_segments=5)
    counts = [everything.labels.count(name) for name in bank.names]
    assert counts[0] == counts[1] > 0
    mugs, keys = (
        [r["counts"] for r, label in zip(everything.rles, everything.labels) if label == name]
        for name in bank.names
    )
    assert mugs == keys


# ------------------------------------------------------------------------ the segmenter is frozen


FROZEN: dict[str, Any] = {
    **COMPARED,
    "prompt_classes": 40,
    "queries_per_class": 0,
    "freeze_segmenter": True,
    "likeness_weight": 1.0,
}


def test_only_the_comparison_learns_when_the_segmenter_is_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PromptLearningModel(PromptLearningConfig.pocket(**FROZEN)).train()
    batch = Collate(model.config)([SceneSamples(6, 96, 1, class_aware=True)[k] for k in range(6)])
    output = model(**batch)
    assert set(output.loss_parts) == {"likeness"}
    output.loss.backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None}
    assert learned
    assert all(name.startswith("branches.likeness.") for name in learned)
    # The same after saving and loading, which makes everything trainable at first.
    model.save_pretrained(tmp_path)
    again = PromptLearningModel.from_pretrained(tmp_path).train()
    trained = {name for name, p in again.named_parameters() if p.requires_grad}
    assert trained == learned
    # Without candidates the search compares what the class-agnostic queries find.
    finder = SegPromptFinder(again, "cpu")
    bank = finder.prompts([(picture(), squares((5, 5), labels=["mug"]))])
    assert set(finder.find(picture(1), bank, min_score=0.0).labels) == {"mug"}
    for wrong in ({"likeness_weight": 0.0}, {"class_sources": (0, 1)}):
        with pytest.raises(ValueError, match=r"likeness_weight|class_sources"):
            PromptLearningConfig.pocket(**{**FROZEN, **wrong})


def test_examples_of_different_sources_are_not_compared() -> None:
    torch.manual_seed(0)
    likeness = Likeness(5)
    prompts = torch.randn(8, 5)
    classes = torch.tensor([0, 0, 1, 1, 2, 2, 3, -1])
    sources = torch.tensor([0, 0, 0, 0, 1, 1, 1, 0])
    both, _ = likeness.loss(prompts, classes, sources)
    moved = prompts.clone()
    moved[4:7] += 100.0  # far from the first source's, as near to each other as before
    again, _ = likeness.loss(moved, classes, sources)
    torch.testing.assert_close(both, again, rtol=1e-3, atol=1e-3)
    assert not torch.isclose(likeness.loss(prompts, classes)[0], likeness.loss(moved, classes)[0])


@pytest.mark.parametrize("nms_iou", [0.3, 1.0])
def test_masks_of_many_names_are_those_of_each(nms_iou: float) -> None:
    torch.manual_seed(1)
    logits, alike = torch.randn(14, 2) * 2, torch.randn(14, 3) * 2
    masks = F.interpolate(torch.randn(1, 14, 6, 8) * 4, (24, 32), mode="bilinear")[0]
    masks[3] = -5.0  # an empty one
    names = ("mug", "key", "sky")
    for least, most in ((0.0, 4), (0.2, 100)):
        found = _of_any_name(logits, masks, alike, names, (90, 120), (60, 80), least, most, nms_iou)
        for column, name in enumerate(names):
            expected = proposals(
                logits, masks, alike[:, column], scaled_size=(90, 120), original_size=(60, 80),
                min_score=least, max_segments=most, nms_iou=nms_iou,
            )  # fmt: skip
            rows = np.array([label == name for label in found.labels], bool)
            mine = found[rows].sorted_by_score()
            assert [r["counts"] for r in mine.rles] == [r["counts"] for r in expected.rles]
            np.testing.assert_allclose(mine.scores, expected.scores, rtol=1e-5)
