"""``anymask scenes``: a synthetic data set with exact truth."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.cli.progress import Progress


def scenes(
    folder: Path = typer.Argument(help="Where the scenes go; made if need be."),
    count: int = typer.Option(100, min=1, help="How many scenes."),
    seed: int = typer.Option(0, min=0, help="Another seed is another world."),
    size: int = typer.Option(256, help="Side of the pictures in pixels, 32 to 1024."),
    split: str = typer.Option(
        "train", help="train (some things unlabelled, some absent) or val (all there, labelled)."
    ),
    workers: int = typer.Option(1, min=1, help="Processes that draw."),
) -> None:
    """Draw scenes of known, seen and unseen things, with masks, parts, phrases and captions.

    The same options give the same scenes on every machine. An interrupted run is continued by the
    same command.
    """
    from anymask.data.scenes.files import World, write_scenes

    world = World(count, seed, size, split)  # type: ignore[arg-type]
    step = max(1, count // 10)
    with Progress(count) as advance:
        for done in write_scenes(folder, world, workers):
            advance(f"{done} of {count} scenes" if done % step == 0 or done == count else None)
    typer.echo(f"{count} scenes in {folder}/: start with instances.json and phrases.json")
