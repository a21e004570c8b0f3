"""What ships is half as large and does not tell where it was made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from anymask.checkpoints import TABLE, bundled_folder
from anymask.training.release import release


def test_a_run_becomes_a_folder_that_ships(tiny_model: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_model / "config.json").read_text())
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    inner = {"_name_or_path": "/somewhere", "kept": 1}
    (run / "config.json").write_text(json.dumps({**config, "inner": inner}))
    (run / "tokenizer.json").write_text("{}")
    sha = release(run, tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    assert sha == hashlib.sha256(file.read_bytes()).hexdigest()
    before, after = load_file(run / "model.safetensors"), load_file(file)
    assert before.keys() == after.keys()
    assert all(v.dtype == torch.float16 for v in after.values() if v.is_floating_point())
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    shipped = json.loads((tmp_path / "out" / "config.json").read_text())
    assert shipped["inner"] == {"kept": 1}


def test_bundled_configurations_name_no_folder() -> None:
    for row in TABLE:
        if row.source == "bundled":
            text = (bundled_folder(row.name) / "config.json").read_text()
            assert '"_name_or_path": "/' not in text
