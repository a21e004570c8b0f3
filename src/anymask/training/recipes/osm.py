"""The paper's run (OSM, section 4; specification 3.4 and 3.5): six data sets, 144 masks a step,
AdamW 4e-5 with a cosine, until six million masks were seen. The released code draws all data sets
alike instead of the paper's shares, which its published weights most likely saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from anymask.data.region_sources import RegionSource, read_meta
from anymask.errors import InputError
from anymask.methods.osm.collate import Collate
from anymask.methods.osm.files import load_texts
from anymask.methods.osm.model import OSMModel
from anymask.training.mask_samples import MaskSamples
from anymask.training.recipe import Recipe

MASKS = 6_000_000  # of the run
SHARES = {"coco": 32, "lvis": 64, "a847": 16, "pc459": 8, "ade20k": 16, "cityscapes": 8,
          "v3det": 128, "partimagenet": 32, "pascal_part": 16}  # fmt: skip
WARMUP = 100
LR = 4e-5
Mix = Literal["paper", "equal"]


def osm(
    data: Path,
    init: Path,
    *,
    mix: Mix = "paper",
    samples: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    boxes: float = 0.0,
    augment: bool = True,
    lr: float = LR,
) -> Recipe:
    """The recipe.

    Args:
        data: a meta file; each data set's ``mode`` (by default its name) is a mode of the model.
        init: folder of an OSM with its tokenizers.
        mix: the paper's samples a step, or as many of each data set.
        samples: length of the run in masks; None = six million.
        batch_size: samples a step; None = the paper's, or 8 of each.
        seed: of everything that is drawn.
        boxes: share of masks shown as boxes (0.2 in the "part and box" model).
        augment: scale, flip and crop.
        lr: learning rate.

    Raises:
        InputError: the model has no mode for a data set, or the batch is too small for it.
    """
    model = OSMModel.from_pretrained(init)
    sources = read_meta(data)
    unknown = [s.mode for s in sources if (s.mode or s.name) not in model.config.modes]
    if unknown:
        raise InputError(
            f"the model has no mode {unknown[0]!r}; it has {', '.join(model.config.modes)}: write "
            'one of them as "mode" in the meta file'
        )
    shares = shares_of(sources, mix, batch_size)
    total = sum(shares)
    run = MaskSamples(
        sources,
        shares,
        (samples or MASKS) // total,
        model.config.canvas,
        seed,
        augment,
        boxes,
    )
    return Recipe(
        name="osm",
        model=lambda: model,
        data=lambda: run,
        collate=Collate(model.config, load_texts(init)),
        batch_size=total,
        optimizer="adamw",
        lr=lr,
        weight_decay=0.05,
        decay_all=True,
        warmup=WARMUP,
        decay="cosine",
        clip=1.0,
        seed=seed,
    )


def shares_of(sources: list[RegionSource], mix: Mix, batch_size: int | None) -> list[int]:
    """Samples of each data set in a step, at least two."""
    if mix == "equal":
        each = 8 if batch_size is None else batch_size // len(sources)
        wanted: list[Any] = [each] * len(sources)
    else:
        wanted = [SHARES.get(s.mode or s.name, 16) for s in sources]
        if batch_size is not None:
            scale = batch_size / sum(wanted)
            wanted = [round(share * scale) for share in wanted]
    if min(wanted) < 2:
        raise InputError(
            f"a batch of {batch_size} leaves a data set less than two samples a step: give more"
        )
    return [int(share) for share in wanted]
