"""The benchmark of `match` runs, and both sides give the same answer."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "match.py"


def test_both_sides_agree() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--sides", "stock", "ours", "--size", "64",
         "--rounds", "1", "--words", "9", "--threads", "1"],
        capture_output=True, text=True, check=True, timeout=250,
    )  # fmt: skip
    assert re.search(r"9 words: 100\.00 % of the pixels", done.stdout)
    assert "times as fast" in done.stdout
