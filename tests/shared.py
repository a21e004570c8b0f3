"""Where the shared material lies that some tests need, and how they skip without it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("ANYMASK_SHARED", Path(__file__).resolve().parents[2] / "shared"))

needs_shared = pytest.mark.skipif(
    not (SHARED / "golden").is_dir(),
    reason=f"needs the project's shared material, which is not at {SHARED} "
    "(set ANYMASK_SHARED to its folder)",
)
