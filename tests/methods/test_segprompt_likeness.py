"""Prompts that can be compared: the loss, and the search that asks every mask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.likeness import Likeness
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.methods.segprompt.selection import Kind, choose_candidates
from anymask.training.mixture import Mixture, Phase, Source
from anymask.training.scene_samples import SceneSamples
from tests.methods.test_segprompt_few_shot import SMALL, picture, squares

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
    assert float(likeness(one, one)) == pytest.approx(float(likeness.threshold))
    assert float(likeness(one, two)) < float(likeness.threshold)
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
    assert float(found[2.0][0] - found[0.0][0]) == pytest.approx(2 * part, rel=1e-3)


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


# ------------------------------------------------------------------- sources with other classes


def test_objects_without_a_class_are_found_and_nothing_else() -> None:
    torch.manual_seed(0)
    model = PromptLearningModel(PromptLearningConfig.pocket(**{**COMPARED, "prompt_classes": 40}))
    data = SceneSamples(4, 96, 1, class_aware=True)
    batch = Collate(model.config)([data[k] for k in range(4)])
    for target in batch["targets"]:
        target.labels = torch.full_like(target.labels, -1)
    for target in batch["targets"]:
        chosen = model.select(target)
        assert not chosen.examples
        assert Kind.OUTLINED not in chosen.candidates.kinds
        assert Kind.PRESENT not in chosen.candidates.kinds
        areas = target.masks.flatten(1).sum(1)
        assert len(model._main_rows(target)) == int((areas > model.config.min_mask_area).sum())
    parts = model.train()(**batch).loss_parts
    assert float(parts["mask"]) > 0
    assert float(parts["prompt_mask"]) == float(parts["example_mask"]) == 0


def test_a_source_is_silent_about_the_classes_of_others(tmp_path: Path) -> None:
    import json

    import PIL.Image

    PIL.Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(tmp_path / "a.png")
    square = [[8, 8, 60, 8, 60, 60, 8, 60]]
    row = {"id": 1, "image_id": 1, "category_id": 7, "iscrowd": 0, "area": 2704,
           "bbox": [8, 8, 52, 52], "segmentation": square}  # fmt: skip
    file = {"images": [{"id": 1, "file_name": "a.png", "height": 64, "width": 64}],
            "annotations": [row], "categories": [{"id": 7, "name": "x"}]}  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(file))
    phases = [Phase(3, 64)]
    named = Mixture([Source(tmp_path / "a.json", tmp_path, rows={7: 2}, unjudged=(0, 1))], phases)[
        0
    ]
    assert named["labels"].tolist() in ([2], [])
    assert named["not_exhaustive"] == (0, 1)
    unnamed = Mixture([Source(tmp_path / "a.json", tmp_path, label=-1)], phases)[0]
    assert set(unnamed["labels"].tolist()) <= {-1}
    rng = np.random.default_rng(0)
    tried = choose_candidates(
        [2], [500.0], known=range(5), rng=rng, not_exhaustive=(0, 1), max_classes=5
    )
    assert tried.classes[0] == 2
    assert set(tried.classes) == {2, 3, 4, -1}  # and never 0 or 1
