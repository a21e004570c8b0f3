"""The benchmark of OSM runs, and both sides agree."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "osm.py"


def test_both_sides_agree() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--masks", "5", "--threads", "1"],
        capture_output=True, text=True, check=True, timeout=200,
    )  # fmt: skip
    off = re.search(r"largest difference (\S+)", done.stdout)
    assert off is not None
    assert float(off.group(1)) < 1e-4
    assert len(re.findall(r"^(ours|stock)", done.stdout, re.M)) == 3
