"""Two processes train exactly as one does on the same global batch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from data_parallel_run import FAMILIES as RECIPES
from data_parallel_run import dense
from safetensors.torch import load_file, save_file

from anymask.errors import CheckpointError, InputError
from anymask.training.recipe import train

RUN = Path(__file__).with_name("data_parallel_run.py")
FAMILIES = ("dense", "points", "prompts", "words", "phrases", "names", "modes")
# The last ones are of families whose saved weights have other names than the model's own.
RESUMED = ("dense", "phrases", "names", "modes")


def run(processes: int, out: Path, *families: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(RUN), str(out), *families]
    helpers = os.pathsep.join(str(RUN.parents[1] / name) for name in (".", "methods"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": helpers}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All families trained by one process."""
    out = tmp_path_factory.mktemp("one")
    run(1, out, *FAMILIES)
    return out


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All families trained by two processes."""
    out = tmp_path_factory.mktemp("two")
    run(2, out, *FAMILIES)
    return out


@pytest.fixture(scope="module")
def resumed(one: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that stopped after their second step and went on."""
    out = tmp_path_factory.mktemp("resumed")
    for family in RESUMED:
        cut = out / family
        shutil.copytree(one / family, cut)
        (cut / "model.safetensors").unlink()
        for checkpoint in cut.glob("checkpoint-3"):
            shutil.rmtree(checkpoint)
        assert (cut / "checkpoint-2").is_dir()
    run(1, out, *RESUMED)
    return out


@pytest.mark.parametrize("family", FAMILIES)
def test_two_processes_equal_one(one: Path, two: Path, family: str) -> None:
    alone = load_file(one / family / "model.safetensors")
    shared = load_file(two / family / "model.safetensors")
    assert alone.keys() == shared.keys()
    for name, value in alone.items():
        torch.testing.assert_close(shared[name], value, atol=1e-8, rtol=1e-6, msg=name)
    # The comparison means something only when training moved the weights.
    history = json.loads((one / family / "history.json").read_text())
    assert np.isfinite([record["loss"] for record in history if "loss" in record]).all()


@pytest.mark.parametrize("family", RESUMED)
def test_a_run_resumes_where_it_stopped(one: Path, resumed: Path, family: str) -> None:
    whole = load_file(one / family / "model.safetensors")
    cut = load_file(resumed / family / "model.safetensors")
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=1e-12, rtol=1e-9, msg=name)


def test_a_checkpoint_that_lacks_weights_is_refused(one: Path, tmp_path: Path) -> None:
    shutil.copytree(one / "dense", tmp_path / "dense")
    newest = tmp_path / "dense" / "checkpoint-3" / "model.safetensors"
    weights = load_file(newest)
    weights.pop(sorted(weights)[0])
    save_file(weights, newest, {"format": "pt"})
    with pytest.raises(CheckpointError, match="lacks 1 weights"):
        train(dense(tmp_path / "data"), tmp_path / "dense", device="cpu", checkpoint_every=2)


@pytest.mark.parametrize("family", ["words", "phrases", "modes"])
def test_kept_features_change_nothing(one: Path, tmp_path: Path, family: str) -> None:
    kept = tmp_path / "kept"
    plain = load_file(one / family / "model.safetensors")
    written = []
    for name in ("first", "again"):
        recipe = RECIPES[family](tmp_path / "data")
        train(recipe, tmp_path / name, device="cpu", checkpoint_every=100, features=kept)
        written.append({file: file.stat().st_mtime_ns for file in kept.glob("*/*")})
        found = load_file(tmp_path / name / "model.safetensors")
        for key, value in plain.items():
            torch.testing.assert_close(found[key], value, atol=1e-8, rtol=1e-6, msg=key)
    assert written[0]
    assert written[0] == written[1]


def test_only_frozen_parts_are_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no frozen part"):
        train(dense(tmp_path / "data"), tmp_path / "run", features=tmp_path / "kept")
