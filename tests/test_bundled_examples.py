"""The bundled pocket is shown one thing and finds others like it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from shared import SHARED, needs_shared
from typer.testing import CliRunner

import anymask
from anymask.checkpoints import bundled_folder
from anymask.cli.app import app
from anymask.loading import load_discoverer, load_finder
from anymask.methods.segprompt.few_shot import BESIDE, SegPromptFinder, save_beside
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningModel
from anymask.ops.rle import encode, iou
from anymask.segments import Segments

POCKET = "segprompt-pocket"


def shapes() -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]], list[str]]:
    """Four red squares with white bars and four blue discs on a grey ground."""
    rng = np.random.default_rng(0)
    picture = np.full((256, 256, 3), 150, np.uint8)
    picture += rng.integers(0, 12, picture.shape, np.uint8)
    y, x = np.mgrid[:256, :256]
    masks, kinds = [], []
    for k in range(8):
        cy, cx = 40 + 58 * (k // 3), 45 + 80 * (k % 3)
        if k % 2:
            mask = (y - cy) ** 2 + (x - cx) ** 2 < 22**2
            picture[mask] = (30, 60, 200)
        else:
            mask = (abs(y - cy) < 20) & (abs(x - cx) < 20)
            picture[mask] = (210, 30, 30)
            picture[mask & (y // 6 % 2 == 0)] = (240, 235, 230)
        masks.append(mask)
        kinds.append("disc" if k % 2 else "square")
    return picture, masks, kinds


def test_what_is_like_the_example_comes_first() -> None:
    picture, masks, kinds = shapes()
    for kind in ("disc", "square"):
        first = kinds.index(kind)
        found = anymask.find(picture, examples=[(picture, masks[first])], min_score=0, device="cpu")
        overlap = iou(found.rles, [encode(mask) for mask in masks])
        ranks: dict[str, list[int]] = {"disc": [], "square": []}
        for k, other in enumerate(kinds):
            hits = np.flatnonzero(overlap[:, k] > 0.5)
            if k != first and len(hits):
                ranks[other].append(int(hits[0]))
        other = "square" if kind == "disc" else "disc"
        assert len(ranks[kind]) >= 2, kind
        assert np.mean(ranks[kind]) < np.mean(ranks[other] or [len(found)]), kind


def test_discovering_is_what_it_was() -> None:
    """What compares examples lies beside the segmenter and takes nothing from it."""
    finder = load_finder(POCKET, "cpu")
    assert isinstance(finder, SegPromptFinder)
    plain = SegPromptModel.from_pretrained(bundled_folder(POCKET)).state_dict()
    for name, value in finder.model.segmenter.state_dict().items():
        assert torch.equal(value, plain[name]), name
    assert not hasattr(load_discoverer(POCKET, "cpu"), "branches")
    assert finder.branches.likeness is not None
    assert 0 < finder.model.config.example_min_score < 1


def test_the_command_takes_examples_without_a_model(tmp_path: Path) -> None:
    picture, masks, kinds = shapes()
    PIL.Image.fromarray(picture).save(tmp_path / "p.png")
    shown = Segments.from_masks(np.stack(masks[:2]), labels=kinds[:2])
    content = {
        "images": [{"id": 1, "file_name": "p.png", "height": 256, "width": 256}],
        "annotations": shown.to_coco(image_id=1, category_ids={"square": 1, "disc": 2}),
        "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
    }
    (tmp_path / "shown.json").write_text(json.dumps(content))
    result = CliRunner().invoke(
        app, ["find", str(tmp_path / "p.png"), "--like", str(tmp_path / "shown.json"), "--images",
              str(tmp_path), "-o", str(tmp_path / "out"), "--device", "cpu"],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "p.json").read_text())["annotations"]
    assert {row["label"] for row in found} == {"square", "disc"}


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(bundled_folder(POCKET), folder)
    finder = SegPromptFinder.beside(folder, "cpu")
    again = tmp_path / "again"
    shutil.copytree(bundled_folder(POCKET), again)
    save_beside(finder.model, again, 0.25)
    assert SegPromptFinder.beside(again, "cpu").model.config.example_min_score == 0.25
    (folder / BESIDE).write_bytes(b"nothing")
    with pytest.raises(anymask.CheckpointError, match="cannot be used"):
        SegPromptFinder.beside(folder, "cpu")
    other = SegPromptModel.from_pretrained(again)
    with torch.no_grad():
        other.class_head.bias += 1
    other.save_pretrained(again)
    with pytest.raises(anymask.CheckpointError, match="another segmenter"):
        SegPromptFinder.beside(again, "cpu")
    with pytest.raises(anymask.CheckpointError, match="not the segmenter"):
        save_beside(finder.model, again, 0.25)
    # Without the file the folder still discovers, and says that it takes no examples.
    (again / BESIDE).unlink()
    with pytest.raises(anymask.CheckpointError, match="takes no examples"):
        load_finder(str(again), "cpu")
    assert isinstance(finder.model, PromptLearningModel)


@needs_shared
def test_windows_of_real_facades() -> None:
    """Held-out photographs: one window is shown, the others of the picture come before what is no
    window."""
    from anymask.data.coco import CocoDataset
    from anymask.training.recipes.segprompt_pocket import held_out_ids

    photos = SHARED / "data" / "photos"
    data = CocoDataset.read(photos / "facade.json", photos)
    finder = load_finder(POCKET, "cpu")
    share, chance = [], []
    for image_id in sorted(held_out_ids(photos / "facade.json")[1])[:4]:
        truth = data.annotations_of(image_id, crowd=False)
        rows = [k for k, label in enumerate(truth.labels) if label == "window"]
        if len(rows) < 6:
            continue
        largest = max(rows, key=lambda k: truth.areas[k])
        image = data.read_image(image_id)
        found = anymask.find(image, examples=[(image, truth[[largest]])], model=finder, min_score=0)
        windows = iou(found.rles, [truth.rles[k] for k in rows]).max(1) >= 0.5
        share.append(windows[:10].mean())
        chance.append(windows.mean())
    assert share
    assert np.mean(share) > 1.3 * np.mean(chance)
