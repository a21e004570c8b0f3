"""The paper's runs (OpenWorldSAM, section 4.1; specification 3.4 and 3.6).

COCO panoptic: 25 epochs of 104 k pictures at batch 8, AdamW 1e-4, drops at 0.889 and 0.963; the
released code runs 500,000 iterations with drops at 0.656 and 0.710. RefCOCOg: 15 epochs at 1e-5
from the COCO model; the released code 100,000 iterations. Only the adapter trains.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Any, Literal

from torch.utils.data import Dataset

from anymask.data.dense import DenseDataset
from anymask.data.phrases import PhraseData
from anymask.methods.openworldsam.collate import Collate
from anymask.methods.openworldsam.model import OpenWorldSAMModel
from anymask.training.dense_samples import LabelSource, PanopticSource
from anymask.training.phrase_samples import CategoryPhrases, ReferringPhrases
from anymask.training.recipe import Recipe
from anymask.vocabulary import Vocabulary

BATCH = 8
# iterations, learning rate, where it falls tenfold, warm-up, weight decay
SCHEDULES: Mapping[tuple[str, str], tuple[int, float, tuple[float, ...], int, float]] = {
    ("coco", "paper"): (325_000, 1e-4, (0.889, 0.963), 0, 0.05),
    ("coco", "released"): (500_000, 1e-4, (0.6556, 0.7102), 0, 0.05),
    ("refcocog", "paper"): (41_000, 1e-5, (), 0, 0.05),
    ("refcocog", "released"): (100_000, 1e-4, (0.3,), 1000, 1e-4),
}
CLIP = 0.005
Schedule = Literal["paper", "released"]
Model = Callable[[], OpenWorldSAMModel]


def openworldsam_coco(
    annotations: Path,
    images: Path,
    model: Model,
    collate: Collate,
    *,
    schedule: Schedule = "paper",
    without: Container[int] = (),
    negatives: int = 0,
    **options: Any,
) -> Recipe:
    """Class names of COCO panoptic.

    Args:
        annotations: ``panoptic_train2017.json``; its PNGs in the folder beside it.
        images: folder of the pictures.
        model: makes the model to train.
        collate: of its configuration and its reader's tokenizer.
        schedule: whose.
        without: ids of pictures to leave out; the paper's are those of RefCOCOg's UMD val.
        negatives: absent names a picture, with ``presence_weight`` in the model's configuration.
        options: ``steps``, ``batch_size``, ``seed``.
    """
    vocabulary = Vocabulary.builtin("coco-panoptic")
    rows = {number: k for k, number in enumerate(vocabulary.ids)}
    source = PanopticSource(annotations, images, rows, without)

    def data(count: int, seed: int) -> Dataset[Any]:
        return CategoryPhrases(source, vocabulary.names, count, seed, negatives=negatives)

    return _recipe("coco", schedule, model, collate, data, **options)


def openworldsam_refcocog(
    phrases: PhraseData,
    model: Model,
    collate: Collate,
    *,
    schedule: Schedule = "paper",
    **options: Any,
) -> Recipe:
    """Sentences of RefCOCOg, from the COCO model on.

    Args:
        phrases: of ``read_refcoco(folder, "train", sentences="all")``.
        model, collate, schedule, options: as of :func:`openworldsam_coco`.
    """

    def data(count: int, seed: int) -> Dataset[Any]:
        return ReferringPhrases(phrases, count, seed)

    return _recipe("refcocog", schedule, model, collate, data, **options)


def openworldsam_dense(
    dense: DenseDataset, model: Model, collate: Collate, **options: Any
) -> Recipe:
    """Any data set with a class for every pixel, as the paper does with Cityscapes (Table 8).

    The paper does not say how long; the schedule is that of RefCOCOg's fine-tuning.

    Args:
        dense: of ``anymask.data.dense``.
        model, collate, options: as of :func:`openworldsam_coco`.
    """

    def data(count: int, seed: int) -> Dataset[Any]:
        return CategoryPhrases(LabelSource(dense), dense.vocabulary.names, count, seed)

    return _recipe("refcocog", "paper", model, collate, data, **options)


def _recipe(
    kind: str,
    schedule: Schedule,
    model: Model,
    collate: Collate,
    data: Callable[[int, int], Dataset[Any]],
    *,
    steps: int | None = None,
    batch_size: int = BATCH,
    seed: int = 0,
) -> Recipe:
    length, lr, drops, warmup, decay = SCHEDULES[kind, schedule]
    count = (steps or length) * batch_size
    return Recipe(
        name=f"openworldsam-{kind}",
        model=model,
        data=lambda: data(count, seed),
        collate=collate,
        batch_size=batch_size,
        optimizer="adamw",
        lr=lr,
        weight_decay=decay,
        warmup=warmup,
        decay="steps",
        drops=drops,
        clip=CLIP,
        seed=seed,
    )
