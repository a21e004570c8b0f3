"""Features of frozen parts are computed once and kept, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from anymask.nn.frozen_features import FrozenFeatures


class Eye(nn.Module):
    """Counts the pictures it looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 2)
        self.looked = 0

    @torch.no_grad()
    def see(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        self.looked += len(pixels)
        found = self.layer(pixels)
        return found, found.mean((2, 3))


def test_every_picture_is_looked_at_once(tmp_path: Path) -> None:
    eye = Eye()
    see = FrozenFeatures(tmp_path).keep(eye, eye.see)
    pictures = torch.randn(4, 3, 5, 5)
    plain = eye.see(pictures)
    eye.looked = 0
    for rows in ([0, 1, 0], [1, 3, 2], [2, 2], [3, 0, 1]):
        for found, expected in zip(see(pictures[rows]), plain, strict=True):
            torch.testing.assert_close(found, expected[rows], rtol=0, atol=1e-6)
    assert eye.looked == 4
    # Another process finds them as well.
    again = FrozenFeatures(tmp_path).keep(eye, eye.see)
    again(pictures)
    assert eye.looked == 4


def test_what_decides_is_in_the_name(tmp_path: Path) -> None:
    eye = Eye()
    features = FrozenFeatures(tmp_path)
    picture = torch.randn(1, 3, 5, 5)
    features.keep(eye, eye.see)(picture)
    features.keep(eye, eye.see, "other settings")(picture)
    features.keep(eye, eye.see)(picture.reshape(1, 3, 25, 1).expand(1, 3, 25, 2).contiguous())
    assert eye.looked == 3
    with torch.no_grad():
        eye.layer.bias[0] += 1
    (changed, _) = features.keep(eye, eye.see)(picture)
    assert eye.looked == 4
    torch.testing.assert_close(changed, eye.layer(picture))


def test_damaged_files_and_full_disks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eye = Eye()
    pictures = torch.randn(2, 3, 5, 5)
    see = FrozenFeatures(tmp_path / "kept").keep(eye, eye.see)
    expected = see(pictures)
    for file in (tmp_path / "kept").glob("*/*.safetensors"):
        file.write_bytes(b"cut")
    for found, value in zip(see(pictures), expected, strict=True):
        assert torch.equal(found, value)
    assert eye.looked == 4
    (tmp_path / "file").write_text("in the way")
    see = FrozenFeatures(tmp_path / "file").keep(eye, eye.see)
    see(pictures)
    see(pictures)
    assert capsys.readouterr().err.count("no more features are kept") == 1
