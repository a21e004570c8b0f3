"""``recall``, ``coco``, ``lvis``, ``lvis-ow``: instances against a truth."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.cli.measure.reports import Out, show

Truth = typer.Option(..., help="COCO- or LVIS-style instances file; may be gzipped.")
Predictions = typer.Option(
    ..., help="COCO results (image_id, segmentation, score), polygons or RLE; may be gzipped."
)
MaxDets = typer.Option(None, min=1, help="Predictions a picture keeps; default: the protocol's.")


def recall(
    truth: Path = Truth,
    predictions: Path = Predictions,
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
) -> None:
    """Class-agnostic AR and AP: all regions compete, categories are ignored."""
    _measure("recall", truth, predictions, max_dets, out)


def coco(
    truth: Path = Truth,
    predictions: Path = Predictions,
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
) -> None:
    """COCO's AP and AR of masks, by class."""
    _measure("coco", truth, predictions, max_dets, out)


def lvis(
    truth: Path = Truth,
    predictions: Path = Predictions,
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
    plot: Path | None = typer.Option(None, help="Draw AP against class frequency (PNG)."),
) -> None:
    """LVIS's federated AP, with rare, common and frequent classes."""
    _measure("lvis", truth, predictions, max_dets, out, plot=plot)


def lvis_ow(
    truth: Path = Truth,
    predictions: Path = Predictions,
    groups: str | None = typer.Option(
        None, help="Vocabulary with groups; default: the truth's own, or LVIS-OW's."
    ),
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
    plot: Path | None = typer.Option(None, help="Draw recall against class frequency (PNG)."),
) -> None:
    """Class-wise AR of known, seen and unseen classes; categories of predictions are ignored."""
    _measure("lvis-ow", truth, predictions, max_dets, out, groups=groups, plot=plot)


def _measure(
    protocol: str,
    truth: Path,
    predictions: Path,
    max_dets: int | None,
    out: Path | None,
    *,
    groups: str | None = None,
    plot: Path | None = None,
) -> None:
    from anymask.benchmarks.protocols import measure
    from anymask.vocabulary import Vocabulary

    vocabulary = None if groups is None else Vocabulary.of(groups)
    report = measure(truth, predictions, protocol, vocabulary=vocabulary, max_dets=max_dets)
    show(report, out)
    if plot is not None:
        from anymask.benchmarks.frequency_plot import draw_by_frequency
        from anymask.data.coco import CocoDataset

        draw_by_frequency(report, CocoDataset.read(truth), plot, vocabulary)
        typer.echo(f"picture: {plot}")
