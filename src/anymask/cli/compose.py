"""``anymask compose``: training pictures pasted together from photographs with masks."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.cli.progress import Progress
from anymask.errors import InputError


def compose(
    folder: Path = typer.Argument(help="Where the pictures go; made if need be."),
    photos: list[Path] = typer.Option(
        ..., help="COCO-style file of photographs with masks; may be given several times."
    ),
    images: Path | None = typer.Option(
        None, help="Folder of the photographs; default: the file's."
    ),
    count: int = typer.Option(100, min=1, help="How many pictures."),
    size: int = typer.Option(256, min=32, help="Side of the pictures in pixels."),
    seed: int = typer.Option(0, min=0, help="Another seed gives other pictures."),
    objects: str = typer.Option("2-7", help="Fewest and most pasted objects."),
) -> None:
    """Cut objects out of photographs and paste them onto others, with exact masks and labels.

    Mind the licences of the photographs: the pictures made here contain them.
    """
    from anymask.data.coco import CocoDataset
    from anymask.data.composer import PhotoComposer, Photos, write_compositions

    fewest, _, most = objects.partition("-")
    if not fewest.isdigit() or not (most or fewest).isdigit():
        raise InputError(f"--objects is {objects!r}: give a range such as 2-7")
    sources = [Photos(CocoDataset.read(file, images)) for file in photos]
    composer = PhotoComposer(sources, size, seed, (int(fewest), int(most or fewest)))
    step = max(1, count // 10)
    with Progress(count) as advance:
        write_compositions(
            composer,
            folder,
            count,
            lambda done: advance(
                f"{done} of {count} pictures" if done % step == 0 or done == count else None
            ),
        )
    typer.echo(f"{count} pictures in {folder}/images, their masks in {folder}/instances.json")
