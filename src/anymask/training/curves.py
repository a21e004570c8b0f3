"""Learning curves of a study, drawn."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from anymask.plots import new_figure, save_figure
from anymask.training.study import Results

Runs = Mapping[str, Mapping[int, Mapping[int, float]]]
"""Arm -> seed -> step -> value."""


def draw_curves(results: Results, path: Path) -> None:
    """Draw the training loss, where there is one, and every metric, a colour per arm: the mean of
    the seeds, and faintly every seed. Metrics that were measured once, at the end, become a row of
    points for every arm.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    metrics: dict[str, Runs] = {
        metric: {
            arm: {seed: {k: float(c[k][metric]) for k in c} for seed, c in runs.items()}
            for arm, runs in results.curves.items()
        }
        for metric in results.study.metrics
    }
    trained = any(losses for runs in results.losses.values() for losses in runs.values())
    count = len(metrics) + trained
    figure = new_figure("Drawing learning curves", 3.6 * count, 3.4)
    axes = list(np.atleast_1d(figure.subplots(1, count)))
    if trained:
        axis = axes.pop(0)
        _lines(axis, results.losses)
        axis.set_title("training loss")
        axis.set_yscale("log")
    for axis, (title, runs) in zip(axes, metrics.items(), strict=True):
        (_lines if results.study.points > 1 else _points)(axis, runs)
        axis.set_title(title)
    lines, arms = figure.axes[0].get_legend_handles_labels()
    if lines:
        figure.legend(lines, arms, loc="outside right center", fontsize="small")
    save_figure(figure, path)


def _look(number: int) -> dict[str, Any]:
    return {"color": f"C{number % 10}", "linestyle": "-" if number < 10 else "--"}


def _lines(axis: Any, runs: Runs) -> None:
    for number, (arm, seeds) in enumerate(runs.items()):
        lines = [sorted(values.items()) for values in seeds.values() if values]
        for line in lines:
            axis.plot(*zip(*line, strict=True), linewidth=0.7, alpha=0.4, **_look(number))
        if lines:
            steps = [step for step, _ in lines[0]]
            mean = np.mean([[value for _, value in line] for line in lines], 0)
            axis.plot(steps, mean, linewidth=2, marker="o", ms=3, label=arm, **_look(number))
    axis.set_xlabel("step")
    axis.grid(alpha=0.3)


def _points(axis: Any, runs: Runs) -> None:
    for number, seeds in enumerate(runs.values()):
        values = [value for curve in seeds.values() for value in curve.values()]
        if values:
            color = _look(number)["color"]
            axis.plot(values, [number] * len(values), ".", color=color, alpha=0.5)
            axis.plot(np.mean(values), number, "|", color=color, ms=14, mew=2.5)
    axis.set_yticks(range(len(runs)), list(runs), fontsize="x-small")
    axis.invert_yaxis()
    axis.grid(alpha=0.3)
