"""Every golden folder that the library covers agrees with the official implementation."""

from __future__ import annotations

from pathlib import Path

import golden
import pytest
from shared import SHARED, needs_shared

FOLDERS = sorted(path for path in (SHARED / "golden").glob("*") if path.is_dir())


@needs_shared
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_agrees_with_the_official_code(folder: Path) -> None:
    check = golden.check_of(folder)
    assert check is not None, f"{folder} is of no known kind"
    rows = check.check(folder)
    assert rows
    wrong = [
        f"{name}: {error} > {tolerance}"
        for name, error, tolerance in rows
        if not error <= tolerance
    ]
    assert not wrong, wrong


def test_an_unknown_folder_is_an_error(tmp_path: Path) -> None:
    assert golden.main([str(tmp_path)]) == 1
    assert golden.main([str(tmp_path / "missing")]) == 1
