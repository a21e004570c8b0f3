"""The bundled `ovsnet-scenes` on scenes that no training saw."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import anymask
from anymask.checkpoints import TABLE, bundled_folder, digest_of
from anymask.data.scenes import make_scene
from anymask.loading import load_matcher
from anymask.metrics.semantic import ConfusionMatrix
from anymask.training.studies._scenes import DENSE_GROUPS, DENSE_WORDS, dense_truth

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "clip_scenes.py"
WORLD = 55  # not the one that the model card measures on


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("clip_scenes_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_weights_are_the_ones_in_the_table() -> None:
    row = next(row for row in TABLE if row.name == "ovsnet-scenes")
    assert digest_of(bundled_folder("ovsnet-scenes")) == row.sha256


def test_it_beats_one_answer_for_everything() -> None:
    matcher = load_matcher("ovsnet-scenes", "cpu")
    table, constant = (ConfusionMatrix(len(DENSE_WORDS)) for _ in range(2))
    for index in range(12):
        scene = make_scene(WORLD, index, 256, "val")
        truth = dense_truth(scene)
        table.add(truth, matcher.label_map(scene.as_image(), DENSE_WORDS))
        most = np.bincount(truth.ravel()).argmax()  # even the best single answer of each picture
        constant.add(truth, np.full_like(truth, most))
    found, trivial = (t.summary(groups=DENSE_GROUPS) for t in (table, constant))
    assert found["pACC"] > trivial["pACC"]
    assert found["mIoU"] > 2 * trivial["mIoU"]
    assert found["mIoU_stuff"] > 0.4
    assert found["mIoU_known"] > 0.1


def test_its_clip_names_crops_of_unseen_things(benchmark: ModuleType) -> None:
    matcher = load_matcher("ovsnet-scenes", "cpu")
    found = benchmark.accuracy(matcher.model.clip, 40)
    assert found["crops/unseen"] >= 0.55  # 64 % over 300 scenes, see the model card
    assert found["crops/all"] >= 0.6


def test_the_default_model_is_the_bundled_one() -> None:
    scene = make_scene(WORLD, 3, 256, "val")
    names = sorted({o.thing.name for o in scene.objects} | set(scene.stuff()))
    found = anymask.match(scene.image, names)
    assert set(found.labels) <= set(names)
    assert len(found) >= 2
