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
from pictures import write_coco
from safetensors.torch import load_file, save_file

RUN = Path(__file__).with_name("data_parallel_run.py")


def run(processes: int, *arguments: str) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), str(RUN), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    [
        ("dense", "muon"),
        ("points", "adamw"),
        ("prompts-dense", "muon"),
        ("words", "adamw"),
        ("phrases", "adamw"),
        ("names", "adamw"),
        ("modes", "adamw"),
    ],
)
def test_two_processes_equal_one(tmp_path: Path, loss: str, optimizer: str) -> None:
    truth = write_coco(tmp_path / "data", count=5)
    rest = (loss, optimizer, str(truth), str(truth.parent))
    run(1, str(tmp_path / "one"), *rest)
    run(2, str(tmp_path / "two"), *rest)
    one = load_file(tmp_path / "one" / "model.safetensors")
    two = load_file(tmp_path / "two" / "model.safetensors")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=1e-8, rtol=1e-6, msg=name)
    # The comparison means something only when training moved the weights.
    history = json.loads((tmp_path / "one" / "history.json").read_text())
    assert np.isfinite([record["loss"] for record in history if "loss" in record]).all()


@pytest.mark.parametrize(
    ("loss", "optimizer"),
    # The last ones are of families whose saved weights have other names than the model's own.
    [("dense", "muon"), ("phrases", "adamw"), ("names", "adamw"), ("modes", "adamw")],
)
def test_a_run_resumes_where_it_stopped(tmp_path: Path, loss: str, optimizer: str) -> None:
    truth = write_coco(tmp_path / "data", count=5)
    rest = (loss, optimizer, str(truth), str(truth.parent))
    run(1, str(tmp_path / "whole"), *rest)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "model.safetensors").unlink()
    for checkpoint in (tmp_path / "cut").glob("checkpoint-3"):
        shutil.rmtree(checkpoint)
    assert (tmp_path / "cut" / "checkpoint-2").is_dir()
    run(1, str(tmp_path / "cut"), *rest)
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    cut = load_file(tmp_path / "cut" / "model.safetensors")
    for name, value in whole.items():
        torch.testing.assert_close(cut[name], value, atol=1e-12, rtol=1e-9, msg=name)


def test_a_checkpoint_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    truth = write_coco(tmp_path / "data", count=5)
    rest = ("dense", "muon", str(truth), str(truth.parent))
    run(1, str(tmp_path / "run"), *rest)
    newest = tmp_path / "run" / "checkpoint-3" / "model.safetensors"
    weights = load_file(newest)
    weights.pop(sorted(weights)[0])
    save_file(weights, newest, {"format": "pt"})
    with pytest.raises(AssertionError, match="lacks 1 weights"):
        run(1, str(tmp_path / "run"), *rest)
