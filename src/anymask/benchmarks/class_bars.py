"""A report as bars: a number for every class, or for every metric (OpenWorldSAM, Fig. 9)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from anymask.errors import InputError
from anymask.plots import new_figure, save_figure
from anymask.report import Report

COLORS = ("#4285f4", "#fba61c", "#e53999", "#34a853")
ROW = 0.18  # inches of height a class


def class_numbers(report: Report) -> dict[str, float]:
    """Class name -> number, of the classes that have one; of a report without classes (recall,
    phrases) every metric that is a share, with its slices.

    Raises:
        InputError: the report has nothing to draw.
    """
    found = report.metrics.get("per_class")
    if not isinstance(found, dict):
        found = {name: value for name, value in report.flat.items() if 0 <= value <= 1}
        if not found:
            raise InputError(f"{report.title} has no metric between 0 and 1 to draw")
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, (int, float)) and not math.isnan(value)
    }


def draw_class_bars(reports: Sequence[Report], path: Path, most: int = 60) -> None:
    """Draw the classes of one report, or the same classes of several side by side.

    Args:
        reports: the first one orders the classes.
        path: of the picture; the suffix decides the format.
        most: classes to draw; of more, the best and the worst half of so many.

    Raises:
        InputError: no report, or one with nothing to draw.
        MissingExtraError: matplotlib is not installed.
    """
    if not reports:
        raise InputError("no report was given")
    tables = [class_numbers(report) for report in reports]
    names = list(tables[0])
    by_class = "per_class" in reports[0].metrics
    if by_class:
        names.sort(key=lambda name: -tables[0][name])
    left_out = len(names) - most
    if left_out > 0:
        names = [*names[: most // 2], *names[-(most - most // 2) :]]
    height = 1.2 + ROW * len(names) * max(1, 0.7 * len(reports))
    figure = new_figure("Drawing numbers by class", 7, height)
    axis = figure.subplots()
    thick = 0.8 / len(reports)
    for k, (report, table) in enumerate(zip(reports, tables, strict=True)):
        rows = [row + (k - (len(reports) - 1) / 2) * thick for row in range(len(names))]
        values = [table.get(name, 0.0) for name in names]
        label = report.title
        if by_class and table:
            mean = sum(table.values()) / len(table)
            label += f": mean {mean:.3f} ({len(table)} classes)"
        axis.barh(rows, values, height=thick, color=COLORS[k % len(COLORS)], label=label)
    axis.set_yticks(range(len(names)), names, fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="x", alpha=0.3)
    if left_out > 0:
        axis.axhline(most // 2 - 0.5, color="#888888", linewidth=0.8, linestyle="--")
        axis.set_xlabel(f"{left_out} classes between the best and the worst are not drawn")
    axis.legend(fontsize=7, loc="lower right")
    save_figure(figure, path)
