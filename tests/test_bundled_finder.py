"""The bundled `openworldsam-scenes` on scenes that no training saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import anymask
from anymask.checkpoints import DEFAULT_FINDER, TABLE, bundled_folder, digest_of
from anymask.cli.app import app
from anymask.data.scenes import Scene, make_scene
from anymask.loading import load_finder
from anymask.ops.rle import encode, iou

WORLD = 57  # not the one that the model card measures on


def scenes(count: int) -> list[Scene]:
    return [make_scene(WORLD, index, 256, "val") for index in range(count)]


def test_the_weights_are_the_ones_in_the_table() -> None:
    row = next(row for row in TABLE if row.name == DEFAULT_FINDER)
    assert digest_of(bundled_folder(DEFAULT_FINDER)) == row.sha256


def test_boxes_and_clicks() -> None:
    """A box's mask beats the filled box, and a click's is far better than another thing's."""
    by_box, filled, by_click = [], [], []
    for scene in scenes(8):
        masks = [scene.mask(k) for k in range(len(scene.objects)) if scene.mask(k).sum() > 150]
        image = scene.as_image()
        boxes, clicks = [], []
        for mask in masks:
            rows, columns = np.nonzero(mask)
            boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            clicks.append([[columns[len(rows) // 2] + 0.5, rows[len(rows) // 2] + 0.5]])
        true = [encode(mask) for mask in masks]
        found = anymask.find(image, boxes=boxes, device="cpu")
        by_box += np.diag(iou(list(found.rles), true)).tolist()
        found = anymask.find(image, points=clicks, device="cpu")
        by_click += np.diag(iou(list(found.rles), true)).tolist()
        for (x1, y1, x2, y2), mask in zip(boxes, masks, strict=True):
            filled.append(mask.sum() / ((x2 - x1) * (y2 - y1)))
    assert np.mean(by_box) > np.mean(filled) + 0.03
    assert np.mean(by_click) > 0.45


def test_phrases_find_stuff_and_sometimes_things() -> None:
    """Stuff by its name, against the same masks under other names; things better than chance."""
    finder = load_finder(DEFAULT_FINDER, "cpu")
    right, swapped, things, chance = [], [], [], []
    for scene in scenes(12):
        image, ground = scene.as_image(), scene.stuff()
        names = [n for n, m in ground.items() if m.mean() > 0.1]
        found = finder(image, names, task="referring")
        for rle, label in zip(found.rles, found.labels, strict=True):
            right.append(iou([rle], [encode(ground[str(label)])])[0, 0])
            others = [encode(ground[n]) for n in names if n != label]
            swapped += iou([rle], others)[0].tolist() if others else []
        wanted = sorted({o.thing.name for o in scene.objects})
        found = finder(image, wanted, task="referring")
        every = [encode(scene.mask(k)) for k in range(len(scene.objects))]
        for rle, label in zip(found.rles, found.labels, strict=True):
            overlap = iou([rle], every)[0]
            mine = [o.thing.name == label for o in scene.objects]
            things.append(overlap[mine].max())
            chance.append(overlap[[not m for m in mine]].mean() if not all(mine) else 0.0)
    assert np.mean(right) > 0.6
    assert np.mean(right) > 2 * np.mean(swapped)
    assert np.mean(things) > 0.1
    assert np.mean(things) > np.mean(chance)


def test_from_a_fresh_install(tmp_path: Path) -> None:
    make_scene(WORLD, 0, 256, "val").as_image().to_pil().save(tmp_path / "scene.png")
    result = CliRunner().invoke(
        app, ["find", str(tmp_path / "scene.png"), "sky", "grass", "-o", str(tmp_path / "out"),
              "--device", "cpu"], catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0
    assert "drawn scenes only" in result.output
    assert (tmp_path / "out" / "scene.overlay.jpg").is_file()


def test_all_bundled_weights_fit() -> None:
    folders = [bundled_folder(row.name) for row in TABLE if row.source == "bundled"]
    files = [file for folder in folders for file in folder.rglob("*.safetensors")]
    assert sum(file.stat().st_size for file in files) < 40_000_000
    for folder in folders:
        assert (folder / "README.md").is_file()


def test_examples_need_another_model() -> None:
    """The default finder gives way to the bundled model that takes examples; others say no."""
    image = make_scene(WORLD, 0, 128, "val").as_image()
    shown = [(image, np.ones((128, 128), bool))]
    assert isinstance(anymask.find(image, examples=shown, device="cpu"), anymask.Segments)
    loaded = load_finder("openworldsam-scenes", "cpu")
    with pytest.raises(anymask.CheckpointError, match="takes no examples"):
        anymask.find(image, examples=shown, model=loaded)
