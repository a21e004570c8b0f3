"""The commands and their options."""

from __future__ import annotations

import typer

from anymask.cli.benchmark import app as benchmark
from anymask.cli.compare import compare
from anymask.cli.compose import compose
from anymask.cli.data import app as data
from anymask.cli.discover import discover
from anymask.cli.doctor import doctor
from anymask.cli.evaluate import evaluate
from anymask.cli.find import find
from anymask.cli.match import match
from anymask.cli.measure import app as measure
from anymask.cli.models import models
from anymask.cli.name import name
from anymask.cli.scenes import scenes
from anymask.cli.segment import segment
from anymask.cli.study import study
from anymask.cli.train import train
from anymask.version import __version__

app = typer.Typer(
    help="Open-world image segmentation: find every object in a picture nobody labelled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    discover,
    find,
    name,
    match,
    segment,
    evaluate,
    compare,
    train,
    scenes,
    compose,
    study,
    models,
    doctor,
):
    app.command()(command)
app.add_typer(measure, name="measure")
app.add_typer(benchmark, name="benchmark")
app.add_typer(data, name="data")


@app.callback(invoke_without_command=True)
def _version(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of every error."),
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
