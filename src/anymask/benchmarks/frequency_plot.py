"""A picture of a per-class metric against how often the class occurs."""

from __future__ import annotations

import math
from pathlib import Path

from anymask.benchmarks.protocols import frequencies, groups_of
from anymask.data.coco import CocoDataset
from anymask.errors import InputError
from anymask.plots import new_figure, save_figure
from anymask.report import Report
from anymask.vocabulary import Vocabulary

COLORS = {"known": "#4285f4", "seen": "#fba61c", "unseen": "#e53999", "all": "#4285f4"}


def draw_by_frequency(
    report: Report, data: CocoDataset, path: Path, vocabulary: Vocabulary | None = None
) -> None:
    """Draw every class of a report as a point, coloured by group, with the groups' means.

    Args:
        report: with ``per_class`` among its metrics.
        data: the truth it was measured on.
        path: of the picture; the suffix decides the format.
        vocabulary: as for ``measure``.

    Raises:
        InputError: the report has no metric by class.
        MissingExtraError: matplotlib is not installed.
    """
    per_class = report.metrics.get("per_class")
    if not isinstance(per_class, dict):
        raise InputError("this report has no metric by class: measure lvis or lvis-ow.")
    counts = frequencies(data)
    try:
        members, _ = groups_of(data, vocabulary)
        groups = {g: {data.names[i] for i in ids} for g, ids in members.items() if ids}
    except InputError:
        groups = {"all": set(per_class)}
    figure = new_figure("Drawing recall against frequency", 7, 4)
    axis = figure.subplots()
    for group, names in groups.items():
        found = [
            (max(counts[name], 1), value)
            for name, value in per_class.items()
            if name in names and name in counts and not math.isnan(value)
        ]
        if not found:
            continue
        pictures, values = zip(*found)
        axis.scatter(pictures, values, s=14, alpha=0.6, color=COLORS[group], linewidths=0)
        mean = sum(values) / len(values)
        label = f"{group}: {mean:.3f} ({len(found)} classes)"
        axis.axhline(mean, color=COLORS[group], linewidth=1.2, label=label)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter("{x:g}")
    axis.set_xlabel("pictures that show the class")
    axis.set_ylabel("AP" if report.protocol.get("protocol") == "lvis" else "AR")
    axis.set_ylim(0, 1)
    axis.set_title(report.title, fontsize="medium")
    axis.legend(fontsize="small")
    save_figure(figure, path)
