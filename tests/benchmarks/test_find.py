"""The benchmark of `find` runs, and both sides draw the same masks."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "find.py"


def test_both_sides_agree() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--sides", "stock", "ours", "--sizes", "tiny",
         "--phrases", "2", "--points", "4", "--rounds", "1", "--threads", "1"],
        capture_output=True, text=True, check=True, timeout=280,
    )  # fmt: skip
    assert re.search(r"ours: 100\.00 % of the signs", done.stdout)
    assert "automatic masks" in done.stdout
