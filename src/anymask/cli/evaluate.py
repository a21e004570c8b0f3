"""``anymask evaluate``: how much of the truth a model finds."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from anymask.cli.options import Device
from anymask.errors import InputError


def evaluate(
    model: str = typer.Argument(
        help="A model (see anymask models), or a COCO results file (.json)."
    ),
    truth: Path = typer.Option(..., help="COCO-style instances file."),
    images: Path | None = typer.Option(None, help="Folder of its pictures; default: its own."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the report as JSON here."),
    by: str | None = typer.Option(None, help="Field of the image records to slice by."),
    only: str | None = typer.Option(None, help="FIELD=VALUE: only these pictures."),
    max_dets: int = typer.Option(100, min=1, help="Proposals a picture may keep."),
    tile: str = typer.Option("none", help="As of anymask discover."),
    device: str = Device,
) -> None:
    """Class-agnostic recall and precision of a model, or of another tool's results.

    The truth's own image ids are used; categories are ignored.
    """
    from anymask.checkpoints import bundled_folder, digest_of, find
    from anymask.cli.discover import parse_tile
    from anymask.data.coco import CocoDataset
    from anymask.evaluation import evaluate_discoverer, evaluate_results
    from anymask.loading import load_discoverer
    from anymask.verbs import discover

    data = CocoDataset.read(truth, images)
    if only is not None:
        field, equals, value = only.partition("=")
        if not equals:
            raise InputError(f"--only is {only!r}: write FIELD=VALUE")
        chosen = [r["id"] for r in data.images if str(r.get(field)) == value]
        if not chosen:
            raise InputError(f"no picture of {truth} has {field} = {value}")
        data = data.subset(chosen)
    side = parse_tile(tile)
    if model.endswith(".json"):
        report = evaluate_results(model, data, max_dets=max_dets, by=by)
    else:
        loaded = load_discoverer(model, device)
        row = find(model)
        folder = bundled_folder(model) if row and row.source == "bundled" else Path(model)
        weights = folder / "model.safetensors"
        report = evaluate_discoverer(
            lambda image: discover(
                image, model=loaded, min_score=0.0, max_segments=max_dets, tile=side
            ),
            data,
            max_dets=max_dets,
            by=by,
            name=model,
            checkpoint={model: digest_of(folder)} if weights.is_file() else None,
            progress=Counter(),
        )
    typer.echo(report.table())
    if out is not None:
        report.to_json(out)


class Counter:
    """A line for every tenth of the way, on the error stream."""

    def __init__(self) -> None:
        self.tenth = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > self.tenth:
            self.tenth = tenth
            print(f"{done}/{total} pictures", file=sys.stderr, flush=True)
