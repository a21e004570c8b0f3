"""Errors carry what the caller needs, also out of another process."""

from __future__ import annotations

import pickle
from pathlib import Path

from anymask.errors import MissingExtraError, PartialFailure


def test_missing_extra() -> None:
    error = MissingExtraError("Reading HEIC pictures", "heic")
    assert "pip install 'anymask[heic]'" in str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert copy.extra == "heic"


def test_partial_failure() -> None:
    error = PartialFailure([("a.jpg", "is empty"), (Path("b.jpg"), "is truncated")])
    assert error.failures == [(Path("a.jpg"), "is empty"), (Path("b.jpg"), "is truncated")]
    assert str(error).startswith("2 pictures failed")
    assert "a.jpg: is empty" in str(error)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(PartialFailure([("a.jpg", "x")])).startswith("1 picture failed")
