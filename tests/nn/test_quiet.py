"""Bars are away while something loads, and back afterwards."""

from __future__ import annotations

import pytest
from transformers.utils import logging

from anymask.nn.quiet import no_bars


def test_bars_come_back() -> None:
    before = logging.is_progress_bar_enabled()
    try:
        for shown in (True, False):
            (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
            with no_bars():
                assert not logging.is_progress_bar_enabled()
            assert logging.is_progress_bar_enabled() == shown
            with pytest.raises(KeyError), no_bars():
                raise KeyError
            assert logging.is_progress_bar_enabled() == shown
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()
