"""Pictures as SAM 2 and BEiT-3 get them in the released OpenWorldSAM."""

from __future__ import annotations

from pathlib import Path

import torch

from anymask.image import Image
from anymask.methods.openworldsam.readers import Reader
from anymask.nn.sam2 import square_pixels
from golden_checks.compare import Row, close, names, tensors

ATOL = 1e-4


def matches(folder: Path) -> bool:
    return any(
        {"image0.beit3_every2", "image0.sam2_every16"} <= f.keys() for f in tensors(folder).values()
    )


def check(folder: Path) -> list[Row]:
    rows = []
    for data in tensors(folder).values():
        for number in names(data, r"image(\d+)\."):
            key = f"image{number}."
            image = Image(data[f"{key}input"].numpy())
            wanted = data[f"{key}sam2_every16"]
            sam = square_pixels(image, 16 * wanted.shape[-1], antialias=False)
            rows.append(close(f"{key}sam2_every16", sam[:, 5::16, 3::16], wanted, ATOL))
            both = torch.stack([sam.mean(), sam.std()])
            rows.append(close(f"{key}sam2_mean_std", both, data[f"{key}sam2_mean_std"], ATOL))
            wanted = data[f"{key}beit3_every2"]
            reader = Reader()
            reader.picture_size = 2 * wanted.shape[-1]
            beit = reader.pixels(image)
            rows.append(close(f"{key}beit3_every2", beit[:, ::2, 1::2], wanted, ATOL))
            four = torch.stack([beit.mean(), beit.std(), beit.min(), beit.max()])
            name = f"{key}beit3_mean_std_min_max"
            rows.append(close(name, four, data[name], ATOL))
    return rows
