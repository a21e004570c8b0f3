"""``referring`` and ``concept``: answers to phrases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from anymask.cli.measure.reports import Out, show

PhraseFile = typer.Option(
    ..., help="phrases.json of scenes, X-Decoder's refcocog.json, the folder of RefCOCO as "
    "published, or a COCO file, whose class names are then the phrases.",
)  # fmt: skip
PhrasePredictions = typer.Option(
    None,
    help="JSON list of {phrase_id or image_id and phrase, segmentation}; of a COCO file: or COCO "
    "results with category_id.",
)
PhraseModel = typer.Option(None, help="Or: a model that is asked, as for anymask find.")
PhraseImages = typer.Option(None, help="Folder of the pictures; default: the file's.")
SentencesOption = typer.Option("first", help="Of every object: first (X-Decoder) or all (LISA).")
SplitOption = typer.Option("val", help="Of RefCOCO.")


def referring(
    truth: Path = PhraseFile,
    predictions: Path | None = PhrasePredictions,
    model: str | None = PhraseModel,
    images: Path | None = PhraseImages,
    sentences: str = SentencesOption,
    split: str = SplitOption,
    split_by: str = typer.Option("umd", help="Of RefCOCO: unc, umd or google."),
    out: Path | None = Out,
) -> None:
    """cIoU, gIoU and precision: everything a phrase means as one mask."""
    from anymask.benchmarks.phrase_protocols import measure_referring

    data = _phrases(truth, images, sentences, split, split_by, "oracle")
    _phrase_report(measure_referring, data, predictions, model, "referring", out)


def concept(
    truth: Path = PhraseFile,
    predictions: Path | None = PhrasePredictions,
    model: str | None = PhraseModel,
    images: Path | None = PhraseImages,
    vocabulary_use: str = typer.Option(
        "oracle",
        help="Of a COCO file: oracle (names of the picture), full (all names), or global (all "
        "names, and a mask has the best of them); never compare one with another.",
    ),
    sentences: str = SentencesOption,
    split: str = SplitOption,
    split_by: str = typer.Option("umd", help="Of RefCOCO: unc, umd or google."),
    out: Path | None = Out,
) -> None:
    """cgF1: every thing a phrase means, and whether there is any (presence MCC)."""
    from anymask.benchmarks.phrase_protocols import measure_concept

    data = _phrases(truth, images, sentences, split, split_by, vocabulary_use)
    _phrase_report(measure_concept, data, predictions, model, "instance", out)


def _phrases(
    truth: Path, images: Path | None, sentences: str, split: str, split_by: str, use: str
) -> Any:
    from anymask.data.coco import CocoDataset
    from anymask.data.phrases import class_names, read_phrases, read_refcoco
    from anymask.errors import DataError

    if truth.is_dir():
        return read_refcoco(truth, split, split_by, images, sentences)  # type: ignore[arg-type]
    try:
        return read_phrases(truth, images, sentences)  # type: ignore[arg-type]
    except DataError as error:
        if "sentences" not in str(error):
            raise
    return class_names(CocoDataset.read(truth, images), use)  # type: ignore[arg-type]


def _phrase_report(
    measure: Any,
    data: Any,
    predictions: Path | None,
    model: str | None,
    task: str,
    out: Path | None,
) -> None:
    from anymask.benchmarks.phrase_protocols import answers_from, answers_of
    from anymask.cli.progress import Progress
    from anymask.errors import InputError

    if (predictions is None) == (model is None):
        raise InputError("give --predictions FILE or --model NAME")
    if predictions is not None:
        answer, name = answers_from(predictions, data), predictions.name
    else:
        from anymask.loading import load_finder
        from anymask.verbs import find

        assert model is not None
        finder = load_finder(model)
        answer = answers_of(
            lambda image, phrases: find(image, phrases, task=task, model=finder), data
        )
        name = model
    pictures = len({phrase.image_id for phrase in data.phrases})
    with Progress(pictures) as advance:
        report = measure(data, answer, name=name, progress=lambda done, total: advance(None))
    show(report, out)
