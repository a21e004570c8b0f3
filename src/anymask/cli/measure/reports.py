"""``bars`` and ``diff`` of reports, and how a report is shown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from anymask.report import Report

Out = typer.Option(None, "--out", "-o", help="Write the report as JSON here.")


def bars(
    reports: list[Path] = typer.Argument(help="Reports as --out writes them; the first orders."),
    out: Path = typer.Option(..., "--out", "-o", help="The picture (PNG)."),
    most: int = typer.Option(60, min=2, help="Classes to draw: the best and the worst of more."),
) -> None:
    """A bar for every class of a report, or of several side by side."""
    from anymask.benchmarks.class_bars import draw_class_bars
    from anymask.report import Report

    draw_class_bars([Report.from_json(path) for path in reports], out, most)
    typer.echo(f"{out} drawn")


def diff(
    before: Path = typer.Argument(help="Report of one tool, as --out writes it."),
    after: Path = typer.Argument(help="Report of the other."),
) -> None:
    """Two reports side by side; other data or another protocol are refused."""
    from dataclasses import replace

    from anymask.report import Report

    one, two = (Report.from_json(path) for path in (before, after))
    short = [replace(r, metrics={k: v for k, v in r.metrics.items() if k != "per_class"})
             for r in (one, two)]  # fmt: skip
    typer.echo(short[0].diff(short[1]).table())


def show(report: Report, out: Path | None) -> None:
    """Print a report without its classes, and write the whole of it."""
    from dataclasses import replace

    short = {name: value for name, value in report.metrics.items() if name != "per_class"}
    typer.echo(replace(report, metrics=short).table())
    if out is not None:
        report.to_json(out)
        typer.echo(f"{'per class and all' if 'per_class' in report.metrics else 'all'}: {out}")
