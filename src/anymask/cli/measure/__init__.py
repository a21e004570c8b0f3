"""``anymask measure``: the results of any tool against a truth, a subcommand per protocol."""

from __future__ import annotations

import typer

from anymask.cli.measure.dense import panoptic, semantic
from anymask.cli.measure.masks import coco, lvis, lvis_ow, recall
from anymask.cli.measure.names import naming, open_naming
from anymask.cli.measure.phrases import concept, referring
from anymask.cli.measure.reports import bars, diff
from anymask.cli.measure.words import distractors, leakage, vocabulary_map

app = typer.Typer(help="Measure the results of any tool.", no_args_is_help=True)
for command in (
    recall,
    coco,
    lvis,
    lvis_ow,
    referring,
    concept,
    semantic,
    panoptic,
    leakage,
    vocabulary_map,
    distractors,
    naming,
    open_naming,
    bars,
    diff,
):
    app.command()(command)
