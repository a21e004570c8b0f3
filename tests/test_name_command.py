"""`anymask name`: names for masks from a file, from clicks, or found by a discoverer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openworldsam_tiny
import PIL.Image
import pytest
import torch
import wowseg_tiny as tiny
from safetensors.torch import save_file
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.errors import CheckpointError
from anymask.loading import load_namer
from anymask.methods.wowseg.convert import TABLE, convert_internvl
from anymask.methods.wowseg.vocabulary_mapping import nearest_words, to_vocabulary
from anymask.segments import Segments
from anymask.vocabulary import Category, Vocabulary

RUN = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("namer")
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    PIL.Image.fromarray(openworldsam_tiny.picture().pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*arguments: str | Path) -> tuple[int, str]:
    done = RUN.invoke(app, ["name", *map(str, arguments), "--device", "cpu"])
    return done.exit_code, f"{done.output}{done.exception or ''}"


def square() -> Segments:
    masks = np.zeros((2, 48, 60), bool)
    masks[0, 5:25, 5:30] = True
    masks[1, 20:45, 30:56] = True
    return Segments.from_masks(masks, scores=[0.9, 0.8])


def test_masks_of_a_file(photo: Path, model: Path, tmp_path: Path) -> None:
    file = {
        "images": [{"id": 1, "file_name": "photo.png", "height": 48, "width": 60}],
        "annotations": [{**row, "id": k} for k, row in enumerate(square().to_coco(image_id=1), 1)],
        "categories": [{"id": 1, "name": "object"}],
    }
    for row in file["annotations"]:
        row["category_id"] = 1
    (tmp_path / "masks.json").write_text(json.dumps(file))
    code, text = run(photo, "--masks", tmp_path / "masks.json", "--model", model,
                     "--longest", "3", "--out", tmp_path / "o")  # fmt: skip
    assert code == 0, text
    assert len(json.loads((tmp_path / "o" / "photo.json").read_text())["annotations"]) == 2
    other = tmp_path / "other.png"
    photo.rename(other)
    code, text = run(other, "--masks", tmp_path / "masks.json", "--model", model,
                     "--out", tmp_path / "p")  # fmt: skip
    assert code != 0
    assert "no picture of this name" in text


def test_clicks_and_discovered_masks(photo: Path, model: Path, tmp_path: Path) -> None:
    openworldsam_tiny.sam2().model.save_pretrained(tmp_path / "sam2")
    code, text = run(photo, "--box", "5,5,40,40", "--prompter", tmp_path / "sam2", "--model", model,
                     "--longest", "2", "--out", tmp_path / "a")  # fmt: skip
    assert code == 0, text
    code, text = run(photo, "--auto", "segprompt-pocket", "--model", model, "--longest", "2",
                     "--max-segments", "3", "--out", tmp_path / "b")  # fmt: skip
    assert code == 0, text


@pytest.mark.parametrize("arguments", [(), ("--auto", "segprompt-pocket", "--box", "1,1,5,5")])
def test_one_source_of_masks(photo: Path, model: Path, arguments: tuple[str, ...]) -> None:
    code, text = run(photo, *arguments, "--model", model)
    assert code != 0
    assert "where the masks come from" in text


def test_the_verb_and_the_published_layout(model: Path, tmp_path: Path) -> None:
    picture, segments = openworldsam_tiny.picture(), square()
    found = anymask.name(picture, segments, model=model, longest=3)
    assert len(found) == 2
    np.testing.assert_allclose(found.scores, segments.scores)
    dense = anymask.name(picture, segments.masks[0], model=model, longest=3)
    assert len(dense) == 1
    with pytest.raises(CheckpointError, match="names nothing"):
        anymask.name(picture, segments, model=openworldsam_folder(tmp_path / "o"))


def openworldsam_folder(folder: Path) -> Path:
    openworldsam_tiny.sam2().model.save_pretrained(folder)
    return folder


def test_published_names_convert_both_ways() -> None:
    """Every tensor of the library's model comes from exactly one published name."""
    ours = tiny.model().state_dict()
    published = published_of(ours)
    again = convert_internvl({**published, "prompt_encoder.old": torch.zeros(1)})
    assert again.keys() == ours.keys()
    for key, value in ours.items():
        assert torch.equal(again[key], value), key
    with pytest.raises(CheckpointError, match="surprise"):
        convert_internvl({**published, "surprise": torch.zeros(1)})
    assert len(TABLE) > 10


def published_of(ours: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The published layout, written down by hand."""
    simple = {
        "model.vision_tower.embeddings.cls_token": "vision_model.embeddings.class_embedding",
        "model.vision_tower.embeddings.position_embeddings":
            "vision_model.embeddings.position_embedding",
        "lm_head.weight": "language_model.lm_head.weight",
    }  # fmt: skip
    parts = (
        ("model.vision_tower.embeddings.patch_embeddings.projection",
         "vision_model.embeddings.patch_embedding"),
        ("model.vision_tower.encoder.layer.", "vision_model.encoder.layers."),
        ("attention.projection_layer", "attn.proj"),
        ("layernorm_before", "norm1"), ("layernorm_after", "norm2"),
        ("lambda_1", "ls1"), ("lambda_2", "ls2"),
        ("model.multi_modal_projector.layer_norm", "mlp1.0"),
        ("model.multi_modal_projector.linear_1", "mlp1.1"),
        ("model.multi_modal_projector.linear_2", "mlp1.3"),
        ("model.language_model.", "language_model.model."),
    )  # fmt: skip
    out: dict[str, torch.Tensor] = {}
    for key, value in ours.items():
        if any(f"attention.{p}_proj" in key for p in "kv") and "vision_tower" in key:
            continue
        new = simple.get(key, key)
        if new == key:
            for a, b in parts:
                new = new.replace(a, b)
        if "attention.q_proj" in key and "vision_tower" in key:
            three = [ours[key.replace("q_proj", f"{p}_proj")] for p in "qkv"]
            value, new = torch.cat(three), new.replace("attention.q_proj", "attn.qkv")
        out[new] = value
    return out


def test_the_word_tables_are_not_tied(tmp_path: Path) -> None:
    from anymask.methods.wowseg.convert import load_internvl

    published = published_of(tiny.model().state_dict())
    save_file({k: v.contiguous().clone() for k, v in published.items()}, tmp_path / "m.safetensors")
    loaded = load_internvl(tmp_path, vision_heads=2, text_heads=4, image_token_id=260)
    assert loaded.lm_head.weight is not loaded.get_input_embeddings().weight
    assert not torch.equal(loaded.lm_head.weight, loaded.get_input_embeddings().weight)
    with pytest.raises(CheckpointError, match=r"no \.safetensors"):
        load_internvl(tmp_path / "..")


def test_names_become_words_of_a_list() -> None:
    words = Vocabulary(
        (Category("dog", 1, ("puppy",)), Category("car", 2), Category("tree", 3)), title="t"
    )

    def letters(texts: list[str]) -> np.ndarray:
        rows = np.array([[t.count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts], float)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)

    positions, cosines, ahead = nearest_words(["puppy", "race car", "treee"], words, letters)
    assert positions.tolist() == [0, 1, 2]
    assert cosines[0] == 1
    assert (ahead > 0).all()
    segments = square().with_labels(["puppy", None], [0.5, np.nan], ["wowseg", None])
    found = to_vocabulary(segments, words, letters)
    assert found.labels == ("dog", None)
    assert to_vocabulary(square(), words, letters).labels == (None, None)


def test_a_folder_without_a_namer(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load_namer(tmp_path)
