"""Examples become prompts, prompts are kept in banks, and banks search pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from segprompt_tiny import SMALL, picture, squares
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.data.formats.coco import write_coco_dataset
from anymask.errors import CheckpointError, DataError, InputError
from anymask.methods.segprompt import SegPromptDiscoverer
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.prompt_bank import PromptBank
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.segments import Segments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("prompts")
    PromptLearningModel(PromptLearningConfig.pocket(**SMALL)).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def finder(folder: Path) -> SegPromptFinder:
    return SegPromptFinder.from_pretrained(folder, "cpu")


def bank(*names: str, seed: int = 0, checkpoint: str = "x") -> PromptBank:
    rng = np.random.default_rng(seed)
    vectors: NDArray[np.float32] = rng.standard_normal((len(names), 4)).astype(np.float32)
    return PromptBank(names, vectors, rng.integers(1, 5, len(names)), checkpoint)


# -------------------------------------------------------------------------------------- banks


def test_banks_round_trip(tmp_path: Path) -> None:
    one = bank("mug", "blue whale", "ö")
    one.save(tmp_path / "b.safetensors")
    two = PromptBank.load(tmp_path / "b.safetensors")
    assert two.names == one.names
    assert (two.vectors == one.vectors).all()
    assert (two.counts == one.counts).all()
    assert two.checkpoint == "x"
    assert two.digest == one.digest


def test_merging_is_the_mean_over_examples() -> None:
    one = PromptBank(("a", "b"), np.array([[1.0], [5.0]], np.float32), np.array([1, 2]), "x")
    two = PromptBank(("b", "c"), np.array([[2.0], [7.0]], np.float32), np.array([1, 3]), "x")
    both = one.merge(two)
    assert both.names == ("a", "b", "c")
    assert both.vectors[:, 0].tolist() == [1, 4, 7]
    assert both.counts.tolist() == [1, 3, 3]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True), st.integers(0, 9))
def test_merging_does_not_depend_on_the_order(names: list[str], seed: int) -> None:
    one, two = bank(*names, seed=seed), bank("b", "d", seed=seed + 1)
    forth, back = one.merge(two), two.merge(one).only(one.merge(two).names)
    np.testing.assert_allclose(forth.vectors, back.vectors, rtol=1e-5)
    assert (forth.counts == back.counts).all()


def test_banks_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different checkpoints"):
        bank("a").merge(bank("a", checkpoint="y"))
    with pytest.raises(InputError, match="there are a, b"):
        bank("a", "b").only(["c"])
    with pytest.raises(InputError, match="every name once"):
        bank("a", "a")
    with pytest.raises(DataError, match="cannot be read"):
        PromptBank.load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(DataError, match="cannot be read"):
        PromptBank.load(tmp_path / "broken.safetensors")
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match="no prompt bank"):
        PromptBank.load(tmp_path / "other.safetensors")


# ------------------------------------------------------------------------------------ prompts


def test_isolated_examples_do_not_see_each_other(finder: SegPromptFinder) -> None:
    image, three = picture(), squares((0, 0), (30, 40), (45, 5))
    together = finder.extract(image, three)
    assert together.shape == (3, 32)
    alone = np.concatenate([finder.extract(image, three[k : k + 1]) for k in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    seeing = SegPromptFinder(finder.model, "cpu", isolated=False)
    assert np.abs(seeing.extract(image, three) - alone).max() > 1e-3


def test_prompts_are_means_by_name(finder: SegPromptFinder) -> None:
    image, other = picture(), picture(1)
    first = squares((0, 0), (30, 40), labels=["mug", "key"])
    second = squares((10, 10), labels=["mug"])
    made = finder.prompts([(image, first), (other, second)])
    assert made.names == ("mug", "key")
    assert made.counts.tolist() == [2, 1]
    mean = (finder.extract(image, first)[0] + finder.extract(other, second)[0]) / 2
    np.testing.assert_allclose(made.vectors[0], mean, atol=1e-5)
    assert finder.prompts([(image, squares((0, 0)))]).names == ("object",)


def test_a_tiny_example_is_an_example(finder: SegPromptFinder) -> None:
    mask = np.zeros((1, 700, 900), bool)
    mask[0, 333, 444] = True
    image = picture(height=700, width=900)
    tiny = finder.extract(image, Segments.from_masks(mask))
    large = finder.extract(image, Segments.from_masks(~mask))
    assert np.isfinite(tiny).all()
    assert np.abs(tiny - large).max() > 1e-3


def test_many_examples_of_one_picture(finder: SegPromptFinder) -> None:
    corners = [(y, x) for y in range(0, 50, 8) for x in range(0, 70, 10)]
    assert finder.extract(picture(), squares(*corners)).shape == (len(corners), 32)


def test_examples_say_what_is_wrong(finder: SegPromptFinder) -> None:
    with pytest.raises(InputError, match="example masks are for a picture"):
        finder.extract(picture(), squares((0, 0), size=(50, 50)))
    with pytest.raises(InputError, match="at least one pixel"):
        finder.extract(picture(), Segments.from_masks(np.zeros((1, 70, 90), bool)))
    with pytest.raises(InputError, match="no example mask"):
        finder.prompts([(picture(), Segments.empty((70, 90)))])


# ------------------------------------------------------------------------------------- finding


def test_names_do_not_disturb_each_other(finder: SegPromptFinder) -> None:
    made = finder.prompts([(picture(), squares((0, 0), (30, 40), labels=["mug", "key"]))])
    both = finder.find(picture(2), made, min_score=0.0)
    alone = finder.find(picture(2), made.only(["key"]), min_score=0.0)
    keys = both[np.array([label == "key" for label in both.labels])]
    assert set(both.labels) == {"mug", "key"}
    assert [rle["counts"] for rle in keys.rles] == [rle["counts"] for rle in alone.rles]
    np.testing.assert_allclose(keys.scores, alone.scores, atol=1e-5)
    assert (np.diff(both.scores) <= 0).all()
    assert len(finder.find(picture(2), made, min_score=1.0)) == 0
    assert len(finder.find(picture(2), made, min_score=0.0, max_segments=1)) == 2


def test_a_bank_belongs_to_its_weights(finder: SegPromptFinder, folder: Path) -> None:
    made = finder.prompts([(picture(), squares((0, 0)))])
    again = SegPromptFinder.from_pretrained(folder, "cpu")
    assert again.checkpoint == finder.checkpoint
    assert len(again.find(picture(), made, min_score=0.0)) > 0
    with torch.no_grad():
        again.model.segmenter.class_head.bias += 1
    other = SegPromptFinder(again.model, "cpu")
    with pytest.raises(InputError, match="other weights"):
        other.find(picture(), made)


def test_the_cache_speaks_for_trained_classes(finder: SegPromptFinder) -> None:
    cache = finder.branches.cache
    with pytest.raises(InputError, match="never saw"):
        finder.learned({"mug": 2})
    cache.update(torch.ones(1, 32), torch.tensor([2]))
    made = finder.learned({"mug": 2})
    assert made.vectors.tolist() == [[1.0] * 32]
    cache.vectors.zero_()
    cache.initialised.zero_()


def test_a_model_without_branches_takes_no_examples(tmp_path: Path, tiny_model: Path) -> None:
    bare = PromptLearningModel(PromptLearningConfig.pocket(**SMALL, auxiliary="none"))
    with pytest.raises(CheckpointError, match="without prompt branches"):
        SegPromptFinder(bare)
    with pytest.raises(CheckpointError, match="takes no examples"):
        anymask.find(picture(), examples=[(picture(), squares((0, 0)))], model=tiny_model)


def test_the_verb(folder: Path, finder: SegPromptFinder, tmp_path: Path) -> None:
    mask = squares((5, 5)).masks[0]
    one = anymask.find(picture(2), examples=[(picture(), mask)], model=folder, min_score=0.0)
    assert set(one.labels) == {"object"}
    made = finder.prompts([(picture(), squares((0, 0), labels=["key"]))])
    made.save(tmp_path / "b.safetensors")
    path = tmp_path / "b.safetensors"
    two = anymask.find(picture(2), bank=path, model=finder, min_score=0.0)
    assert set(two.labels) == {"key"}
    both = anymask.find(
        picture(2), examples=[(picture(), mask)], bank=made, model=finder, min_score=0.0
    )
    assert set(both.labels) == {"object", "key"}
    with pytest.raises(InputError, match="nothing to look for"):
        anymask.find(picture(), model=finder)
    with pytest.raises(InputError, match="between 0 and 1"):
        anymask.find(picture(), bank=made, model=finder, min_score=2)


def test_the_same_folder_discovers(folder: Path) -> None:
    from anymask.loading import load_discoverer

    found = load_discoverer(folder, "cpu")
    assert isinstance(found, SegPromptDiscoverer)
    assert len(found(picture())) > 0


# ------------------------------------------------------------------------------------ terminal


@pytest.fixture
def world(tmp_path: Path) -> Path:
    (tmp_path / "shown").mkdir()
    (tmp_path / "photos").mkdir()
    PIL.Image.fromarray(picture(0).pixels).save(tmp_path / "shown" / "a.png")
    PIL.Image.fromarray(picture(2).pixels).save(tmp_path / "photos" / "b.png")
    support = [({"file_name": "a.png"}, squares((0, 0), (30, 40), labels=["mug", "key"]))]
    write_coco_dataset(tmp_path / "support.json", support)
    return tmp_path


def run(world: Path, folder: Path, *more: str) -> Any:
    arguments = ["find", "--model", str(folder), "--device", "cpu", "--out", str(world / "out")]
    return CliRunner().invoke(app, [*arguments, "--min-score", "0", *more])


def test_the_command(world: Path, folder: Path) -> None:
    like = ["--like", str(world / "support.json"), "--images", str(world / "shown")]
    kept = world / "bank.safetensors"
    result = run(world, folder, str(world / "photos"), *like, "--save-bank", str(kept))
    assert result.exit_code == 0, result.output
    assert "looking for mug (1), key (1)" in result.output
    content = json.loads((world / "out" / "b.json").read_text())
    assert {row["label"] for row in content["annotations"]} == {"mug", "key"}
    again = run(world, folder, str(world / "photos"), *like)
    assert "already done" in again.output
    banked = run(world, folder, str(world / "photos"), "--bank", str(kept), "--names", "key")
    assert "looking for key (1)" in banked.output
    content = json.loads((world / "out" / "b.json").read_text())
    assert {row["label"] for row in content["annotations"]} == {"key"}
    merged = run(world, folder, *like, "--bank", str(kept), "--save-bank", str(kept))
    assert merged.exit_code == 0, merged.output
    assert PromptBank.load(kept).counts.tolist() == [2, 2]


def test_the_command_says_what_is_missing(world: Path, folder: Path) -> None:
    photo = str(world / "photos" / "b.png")
    assert isinstance(run(world, folder, photo).exception, InputError)
    assert isinstance(run(world, folder, "--bank", "x").exception, InputError)
    assert isinstance(run(world, folder, photo, "--bank", "x").exception, DataError)


def test_words_are_prompts_too() -> None:
    torch.manual_seed(0)
    config = PromptLearningConfig.pocket(**SMALL, text_dim=8)
    model = PromptLearningModel(config)
    words = torch.randn(6, 8)
    assert model.branches is not None
    model.branches.set_text(words)
    classes = torch.tensor([[2, -1]])
    expected = model.branches.text(words[2])  # type: ignore[misc]
    torch.testing.assert_close(model.branches.prompts(classes)[0, 0], expected)
    assert not model.branches.prompts(classes)[0, 1].any()
    with pytest.raises(ValueError, match="one of 8 numbers"):
        model.branches.set_text(words[:3])
    finder = SegPromptFinder(model, "cpu")
    made = finder.from_text(["cup", "key"], words[:2].numpy())
    np.testing.assert_allclose(
        made.vectors[1],
        model.branches.text(words[1]).detach().numpy(),  # type: ignore[misc]
        atol=1e-6,
    )
    found = finder.find(picture(), made, min_score=0.0)
    assert set(found.labels) == {"cup", "key"}
    with pytest.raises(InputError, match="8 numbers for each"):
        finder.from_text(["cup"], words.numpy())
    plain = SegPromptFinder(PromptLearningModel(PromptLearningConfig.pocket(**SMALL)), "cpu")
    with pytest.raises(InputError, match="without text"):
        plain.from_text(["cup"], words[:1].numpy())


def test_seen_things_are_known_by_name_only() -> None:
    from anymask.methods.segprompt.collate import Collate
    from anymask.methods.segprompt.selection import Kind
    from anymask.training.scene_samples import KNOWN, SEEN, SceneSamples

    data = SceneSamples(30, 64, seed=1, class_aware=True, image_labels=True)
    classes = len(KNOWN) + len(SEEN)
    settings = {**SMALL, "prompt_classes": classes, "known_classes": tuple(range(len(KNOWN)))}
    model = PromptLearningModel(
        PromptLearningConfig.pocket(**{**settings, "max_classes": 20, "min_mask_area": 4})
    ).train()
    batch = Collate(model.config)([data[k] for k in range(6)])
    named = [target.image_labels for target in batch["targets"]]
    assert any(named)
    assert all(len(KNOWN) <= label < classes for labels in named for label in labels)
    for target in batch["targets"]:
        chosen = model.select(target).candidates
        kinds = dict(zip(chosen.classes, chosen.kinds, strict=True))
        assert all(kinds[label] == Kind.PRESENT for label in target.image_labels)
    loss = model(**batch).loss
    loss.backward()
    assert torch.isfinite(loss)
