"""The bundled `wowseg-scenes` and `osm-scenes` on scenes that no training saw."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import anymask
from anymask.checkpoints import TABLE, bundled_folder, digest_of
from anymask.cli.app import app
from anymask.data.scenes import Scene, make_scene
from anymask.loading import load_namer
from anymask.segments import Segments
from anymask.training.recipes.scene_masks import SETS, names_of
from anymask.training.scene_descriptions import WORDS

WORLD = 58  # not the one that the model cards measure on


def shown(scene: Scene) -> tuple[list[str], list[str], Segments]:
    """True names, their groups and the masks."""
    named = [(o.thing.name, o.thing.group, scene.mask(k)) for k, o in enumerate(scene.objects)]
    named += [(name, "stuff", mask) for name, mask in scene.stuff().items()]
    names, groups, masks = zip(*named, strict=True)
    return list(names), list(groups), Segments.from_masks(masks)


@pytest.mark.parametrize("name", ["wowseg-scenes", "osm-scenes"])
def test_the_weights_are_the_ones_in_the_table(name: str) -> None:
    row = next(row for row in TABLE if row.name == name)
    assert digest_of(bundled_folder(name)) == row.sha256


@pytest.mark.parametrize("name", ["wowseg-scenes", "osm-scenes"])
def test_names_are_far_better_than_the_commonest(name: str) -> None:
    namer = load_namer(name, "cpu")
    right: dict[str, list[bool]] = {}
    every: Counter[str] = Counter()
    for index in range(10):
        scene = make_scene(WORLD, index, 256, "val")
        names, groups, masks = shown(scene)
        options = {"mode": "names"} if name == "osm-scenes" else {}
        found = anymask.name(scene.as_image(), masks, model=namer, **options)
        for said, true, group in zip(found.labels, names, groups, strict=True):
            right.setdefault(group, []).append(said == true)
            every[true] += 1
    together = [flag for flags in right.values() for flag in flags]
    assert np.mean(together) > 2 * every.most_common(1)[0][1] / every.total()
    assert np.mean(right["stuff"]) > 0.5
    things = [flag for group in ("known", "seen", "unseen") for flag in right[group]]
    assert np.mean(things) > 4 / 72  # four times a guess


def test_modes_speak_each_data_sets_words() -> None:
    """The same masks are answered in the words that were asked for."""
    namer = load_namer("osm-scenes", "cpu")
    inside: dict[tuple[str, str], list[bool]] = {}
    for index in range(6):
        scene = make_scene(WORLD, index, 256, "val")
        masks = shown(scene)[2]
        for asked in SETS:
            found = anymask.name(scene.as_image(), masks, model=namer, mode=asked)
            for data_set in SETS:
                words = set(names_of(data_set))
                inside.setdefault((asked, data_set), []).extend(
                    label in words for label in found.labels if label
                )
    for asked in SETS:
        assert np.mean(inside[asked, asked]) > 0.8
    # Kinds are wider words, of which few are names.
    assert np.mean(inside["kinds", "kinds"]) > np.mean(inside["names", "kinds"]) + 0.2


def test_from_a_fresh_install(tmp_path: Path) -> None:
    make_scene(WORLD, 0, 256, "val").as_image().to_pil().save(tmp_path / "scene.png")
    result = CliRunner().invoke(
        app, ["segment", str(tmp_path / "scene.png"), "-o", str(tmp_path / "out"), "--device",
              "cpu"], catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "drawn scenes only" in result.output
    found = json.loads((tmp_path / "out" / "scene.json").read_text())["annotations"]
    words = {word for words in WORDS.values() for word in words}
    assert len({r["label"] for r in found} & words) >= 2
