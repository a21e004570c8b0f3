"""A note for people who show photographs to a model of drawn scenes."""

from __future__ import annotations

import typer

from anymask.checkpoints import find


def say_scenes_only(model: str, instead: str) -> None:
    """Say so, and what to give instead, if the model knows drawn scenes only."""
    row = find(model)
    if row is not None and row.scenes_only:
        typer.echo(
            f"note: {model} knows drawn scenes only; for photographs give {instead}", err=True
        )
