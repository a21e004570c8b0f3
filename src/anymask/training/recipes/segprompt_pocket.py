"""The bundled checkpoint ``segprompt-pocket``: class-agnostic masks from 1,800 photographs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.training.mixture import Augmentation, Mixture, Phase, Source
from anymask.training.recipe import Recipe

# Shares of the samples. BSDS500 is the only source whose pictures are labelled everywhere.
WEIGHTS = {"coco": 0.42, "bsds500": 0.26, "clothing": 0.13, "facade": 0.11, "camvid": 0.08}


def is_held_out(source: str, record: dict[str, object], position: int) -> bool:
    """Whether a picture is kept for evaluation.

    COCO val2017 and the BSDS500 test split are; of the sources without a split of their own every
    tenth picture in order of file names.
    """
    if source == "coco":
        return record["coco_split"] == "val2017"
    if source == "bsds500":
        return record["orig_split"] == "test"
    return position % 10 == 0


def held_out_ids(annotations: Path) -> tuple[frozenset[int], frozenset[int]]:
    """Image ids of a source file ``<source>.json``: (for training, held out)."""
    source = annotations.stem
    records = sorted(
        json.loads(annotations.read_text(encoding="utf-8"))["images"], key=lambda r: r["file_name"]
    )
    held = {r["id"] for k, r in enumerate(records) if is_held_out(source, r, k)}
    return frozenset(r["id"] for r in records) - held, frozenset(held)


# Most samples are small, and so cheap: what is learned there carries over to larger pictures.
PHASES = (Phase(27_000, 128), Phase(12_600, 192), Phase(8_400, 256))
# What goes on from a trained model has no use for the smallest ones.
FURTHER = (Phase(14_400, 192), Phase(14_400, 256))


def segprompt_pocket(
    photos: Path,
    phases: Sequence[Phase] | None = None,
    batch_size: int = 24,
    seed: int = 0,
    lr: float | None = None,
    init: Path | None = None,
) -> Recipe:
    """The recipe.

    Args:
        photos: folder with ``<source>.json`` and the pictures beside them.
        phases: the run, size by size; default: ``PHASES`` or ``FURTHER``.
        batch_size: pictures a step.
        seed: of weights and samples.
        lr: of Muon's matrices; default: 2e-3 from nothing, 5e-3 from a trained model.
        init: folder of a trained model to go on from; None = from nothing.
    """
    sources = [
        Source(
            photos / f"{name}.json",
            photos,
            weight=weight,
            exhaustive=name == "bsds500",
            image_ids=held_out_ids(photos / f"{name}.json")[0],
            donor=name == "coco",
        )
        for name, weight in WEIGHTS.items()
    ]
    augmentation = Augmentation(
        scale=(0.6, 2.0), anchor="anywhere", color=0.4, copy_paste=0.5, min_area=12
    )
    if init is None:
        config = SegPromptConfig.pocket()
        rate, schedule, share = lr or 2e-3, phases or PHASES, 0.6
    else:
        config = SegPromptConfig.from_pretrained(init)
        rate, schedule, share = lr or 5e-3, phases or FURTHER, 1.0
    return Recipe(
        name="segprompt-pocket",
        model=lambda: (
            SegPromptModel(config) if init is None else SegPromptModel.from_pretrained(init)
        ),
        data=lambda: Mixture(sources, schedule, augmentation, seed=seed),
        collate=Collate(config),
        batch_size=batch_size,
        optimizer="muon",
        lr=rate,
        others_lr=rate / 2,
        warmup=100,
        decay="linear",
        decay_share=share,
        clip=0.0,
        average=0.998,
        seed=seed,
    )
