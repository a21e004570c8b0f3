"""The benchmark of `name` runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "name.py"


def test_it_runs_and_counts() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--instances", "1", "6", "--tiles", "2",
         "--threads", "1"],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    crops, masks = re.search(r"(\d+) crops for (\d+) masks shared", done.stdout).groups()
    assert 0 < int(crops) < int(masks) == 6
    assert re.search(r"language part of 6 masks: \d+\.\dx", done.stdout)
    assert len(re.findall(r"^(packed|share|one by one)", done.stdout, re.M)) == 4
