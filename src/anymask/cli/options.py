"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path

import typer

Out = typer.Option(Path("out"), "--out", "-o", help="Folder for the results.")
Format = typer.Option(
    "coco,png,overlay",
    help="Of coco, png, overlay, separated by commas; or coco-dataset for one file.",
)
Device = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps.")
Overwrite = typer.Option(False, help="Do finished pictures again.")

# Of commands that name masks.
By = typer.Option(
    "meaning",
    help="With --vocabulary: meaning; word: drop names that are none of its words; or "
    "likelihood: an OSM weighs every word.",
)
Ensemble = typer.Option(
    None, help="With --by likelihood: a model of match whose CLIP has a say as well."
)
Trained = typer.Option(None, help="With --ensemble: the vocabulary that the OSM was trained on.")
