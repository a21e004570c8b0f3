"""Expected calibration error by hand."""

from __future__ import annotations

import numpy as np
import pytest

from anymask.errors import InputError
from anymask.metrics.calibration import calibration


def test_by_hand() -> None:
    found = calibration([0.95, 0.95, 0.15, np.nan], [True, False, False, True])
    # Bin 9: two predictions, 0.95 said and 0.5 right; bin 1: one, 0.15 said and 0 right.
    assert found.counts.tolist() == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    assert found.error == pytest.approx((2 * 0.45 + 0.15) / 3)
    assert found.brier == pytest.approx((0.05**2 + 0.95**2 + 0.15**2) / 3)
    assert np.isnan(found.accuracy[0])


def test_honest_probabilities_have_no_error() -> None:
    rng = np.random.default_rng(0)
    p = rng.random(40_000)
    assert calibration(p, rng.random(40_000) < p).error < 0.02
    assert calibration([1.0, 0.0], [True, False]).error == 0
    assert np.isnan(calibration([], []).error)


def test_mistakes() -> None:
    with pytest.raises(InputError, match="do not fit"):
        calibration([0.1], [True, False])
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration([1.5], [True])
