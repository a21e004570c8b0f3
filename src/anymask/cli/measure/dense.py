"""``semantic`` and ``panoptic``: a word for every pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from anymask.cli.measure.reports import Out, show
from anymask.cli.text_models import HELP as TEXT_HELP


def semantic(
    predictions: Path | None = typer.Option(
        None, help="Folder of label pictures (values: the vocabulary's ids), or a COCO file with "
        "labelled segments.",
    ),
    model: str | None = typer.Option(
        None, help="Or: a model that answers phrases, as for anymask find, asked for class names."
    ),
    vocabulary_use: str = typer.Option(
        "oracle", help="With --model: oracle (classes of the picture) or full (all of them)."
    ),
    dataset: str | None = typer.Option(
        None, help="A known data set (ade20k-150, pc-459, ...) or openbench; with --root."
    ),
    root: Path | None = typer.Option(None, help="Its folder."),
    truth: Path | None = typer.Option(None, help="Or: a folder of label pictures."),
    images: Path | None = typer.Option(None, help="With --truth: the folder of its pictures."),
    vocabulary: str | None = typer.Option(
        None, help="With --truth: built-in list or file; ids are pixel values."
    ),
    training: str | None = typer.Option(
        None, help="Training vocabulary: report seen and unseen classes apart."
    ),
    text_model: str | None = typer.Option(
        None, help="With --training: also mIoU by similarity to it. " + TEXT_HELP
    ),
    others: str = typer.Option(
        "class", help="class, scored, ignore or void; see docs/openbench.md."
    ),
    out: Path | None = Out,
) -> None:  # fmt: skip
    """Mean IoU of label maps, in both conventions."""
    from anymask.benchmarks.dense_protocols import measure_semantic, predictions_from
    from anymask.cli.progress import Progress
    from anymask.data.dense import label_folder
    from anymask.errors import InputError
    from anymask.vocabulary import Vocabulary

    if dataset is not None and root is not None:
        data = read_any(dataset, root)
    elif truth is not None and images is not None and vocabulary is not None:
        data = label_folder(images, truth, Vocabulary.of(vocabulary))
    else:
        raise InputError(
            "give --dataset NAME --root FOLDER, or --truth FOLDER --images FOLDER --vocabulary LIST"
        )
    if (predictions is None) == (model is None):
        raise InputError("give --predictions PATH or --model NAME")
    if predictions is not None:
        predict, name = predictions_from(predictions, data.vocabulary), predictions.name
    else:
        predict, name = _asked_semantic(str(model), data, vocabulary_use), f"{model}"
    known = None if training is None else Vocabulary.of(training)
    near = None
    if text_model is not None:
        from anymask.benchmarks.similarity import measure_similarity
        from anymask.cli.text_models import text_model as load

        if known is None:
            raise InputError("--text-model compares with a training vocabulary: give --training")
        near = measure_similarity(data.vocabulary, known, load(text_model)).values.tolist()
    with Progress(len(data)) as advance:
        report = measure_semantic(
            data,
            predict,
            name=name,
            vocabulary_use="global" if model is None else vocabulary_use,
            training=known,
            similarity=near,
            others=others,
            progress=lambda done, total: advance(None),
        )
    show(report, out)


def _asked_semantic(model: str, data: Any, use: str) -> Any:
    from anymask.benchmarks.dense_protocols import asked_of
    from anymask.loading import load_finder
    from anymask.verbs import find

    finder = load_finder(model)
    return asked_of(
        lambda image, phrases: find(image, phrases, task="semantic", model=finder), data, use
    )


def panoptic(
    truth: Path = typer.Option(..., help="COCO panoptic JSON; its PNGs lie in a folder beside it."),
    predictions: Path = typer.Option(
        ..., help="The same of any tool, or a COCO file with labelled segments."
    ),
    out: Path | None = Out,
) -> None:
    """Panoptic quality, segmentation and recognition quality, of things and stuff."""
    from anymask.benchmarks.dense_protocols import measure_panoptic

    show(measure_panoptic(truth, predictions), out)


def read_any(dataset: str, root: Path):  # type: ignore[no-untyped-def]
    """A known data set or a built benchmark."""
    from anymask.benchmarks.openbench import read_built
    from anymask.data.dense import read_dense

    return read_built(root) if dataset == "openbench" else read_dense(dataset, root)
