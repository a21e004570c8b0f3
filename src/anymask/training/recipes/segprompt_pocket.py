"""The bundled checkpoint ``segprompt-pocket``: class-agnostic masks from 1,800 photographs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.training.mixture import Augmentation, Mixture, Phase, Source
from anymask.training.recipe import Recipe

# Shares of the samples. BSDS500 is the only source whose pictures are labelled everywhere.
WEIGHTS = {"coco": 0.42, "bsds500": 0.26, "clothing": 0.13, "facade": 0.11, "camvid": 0.08}

CLASSLESS = ("bsds500",)  # whole pictures cut into regions that have no names
EXAMPLES: dict[str, Any] = {
    "freeze_segmenter": True,
    "likeness_weight": 1.0,
    "queries_per_class": 0,
    "max_examples": 20,
    "min_mask_area": 40,
    "isolated_examples": True,
    "use_class_embedding": False,
}
COMPARING = (Phase(12_000, 256),)
AUGMENTATION = Augmentation(
    scale=(0.6, 2.0), anchor="anywhere", color=0.4, copy_paste=0.5, min_area=12
)


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
    """The recipe without prompts: class-agnostic masks alone.

    Args:
        photos: folder with ``<source>.json`` and the pictures beside them.
        phases: the run, size by size; default: ``PHASES`` or ``FURTHER``.
        batch_size: pictures a step.
        seed: of weights and samples.
        lr: of Muon's matrices; default: 2e-3 from nothing, 5e-3 from a trained model.
        init: folder of a trained model to go on from; None = from nothing.
    """
    sources = [_source(photos, name) for name in WEIGHTS]
    if init is None:
        config = SegPromptConfig.pocket()
        rate, schedule, share = lr or 2e-3, phases or PHASES, 0.6
    else:
        config = SegPromptConfig.from_pretrained(init)
        rate, schedule, share = lr or 5e-3, phases or FURTHER, 1.0
    return _recipe(
        "segprompt-pocket",
        lambda: SegPromptModel(config) if init is None else SegPromptModel.from_pretrained(init),
        config,
        sources,
        schedule,
        batch_size,
        seed,
        rate,
        share,
    )


def segprompt_pocket_examples(
    photos: Path,
    init: Path,
    phases: Sequence[Phase] = COMPARING,
    batch_size: int = 24,
    seed: int = 0,
    lr: float = 1e-2,
) -> Recipe:
    """The model learns to compare examples and stays what it is in everything else; arguments as
    above. Every source keeps its own classes, and only those of one source are compared."""
    rows = classes_of(photos)
    of_rows = tuple(k for k, labels in enumerate(rows.values()) for _ in labels)
    config = PromptLearningConfig(
        **SegPromptConfig.from_pretrained(init).settings(),
        **EXAMPLES,
        prompt_classes=len(of_rows),
        class_sources=of_rows,
    )

    def start() -> PromptLearningModel:
        model = PromptLearningModel(config)
        model.segmenter.load_state_dict(SegPromptModel.from_pretrained(init).state_dict())
        return model

    sources = [_source(photos, name, rows=labels) for name, labels in rows.items()]
    recipe = _recipe(
        "segprompt-pocket-examples", start, config, sources, phases, batch_size, seed, lr, 0.7
    )
    # Nothing of a picture is pasted into one of another source, whose classes are others.
    augmentation = replace(AUGMENTATION, copy_paste=0.0)
    return replace(recipe, data=lambda: Mixture(sources, phases, augmentation, seed=seed))


def classes_of(photos: Path) -> dict[str, dict[int, int]]:
    """Source -> its category ids -> rows of the prompt tables; sources without classes are left
    out."""
    rows: dict[str, dict[int, int]] = {}
    count = 0
    for name in WEIGHTS:
        if name in CLASSLESS:
            continue
        ids = sorted(
            c["id"]
            for c in json.loads((photos / f"{name}.json").read_text(encoding="utf-8"))["categories"]
        )
        rows[name] = {number: count + k for k, number in enumerate(ids)}
        count += len(ids)
    return rows


def _source(photos: Path, name: str, **classes: Any) -> Source:
    return Source(
        photos / f"{name}.json",
        photos,
        weight=WEIGHTS[name],
        exhaustive=name in CLASSLESS,
        image_ids=held_out_ids(photos / f"{name}.json")[0],
        donor=name == "coco",
        **classes,
    )


def _recipe(
    name: str,
    model: Callable[[], PreTrainedModel],
    config: SegPromptConfig,
    sources: Sequence[Source],
    phases: Sequence[Phase],
    batch_size: int,
    seed: int,
    lr: float,
    decay_share: float,
) -> Recipe:
    return Recipe(
        name=name,
        model=model,
        data=lambda: Mixture(sources, phases, AUGMENTATION, seed=seed),
        collate=Collate(config),
        batch_size=batch_size,
        optimizer="muon",
        lr=lr,
        others_lr=lr / 2,
        warmup=100,
        decay="linear",
        decay_share=decay_share,
        clip=0.0,
        average=0.998,
        seed=seed,
    )
