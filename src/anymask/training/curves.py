"""Learning curves of a study, drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anymask.plots import new_figure, save_figure
from anymask.training.study import Results


def draw_curves(results: Results, path: Path) -> None:
    """Draw every metric over the steps, a line per arm: the mean, and thinly every seed.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    metrics = results.study.metrics
    figure = new_figure("Drawing learning curves", 3.6 * len(metrics), 3.2)
    for axis, metric in zip(np.atleast_1d(figure.subplots(1, len(metrics))), metrics):
        for number, (arm, runs) in enumerate(results.curves.items()):
            color = f"C{number}"
            lines = [[(step, c[step][metric]) for step in sorted(c)] for c in runs.values()]
            for line in lines:
                axis.plot(*zip(*line), color=color, linewidth=0.7, alpha=0.4)
            if lines:
                steps = [step for step, _ in lines[0]]
                mean = np.mean([[value for _, value in line] for line in lines], 0)
                axis.plot(steps, mean, color=color, linewidth=2, marker="o", ms=3, label=arm)
        axis.set_title(metric)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize="small")
    save_figure(figure, path)
