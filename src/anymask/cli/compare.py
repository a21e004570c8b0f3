"""``anymask compare``: two results side by side."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.cli.progress import Progress


def compare(
    first: Path = typer.Argument(help="Results: COCO file (coco-dataset) or list of results."),
    second: Path = typer.Argument(help="Results of another model on the same pictures."),
    photos: Path = typer.Option(..., help="Folder of the pictures."),
    truth: Path | None = typer.Option(None, help="COCO-style file: count its objects."),
    top: int = typer.Option(30, min=1, help="Draw so many pictures, the most different first."),
    out: Path = typer.Option(Path("compare"), "--out", "-o", help="Folder for the pictures."),
    proposals: int = typer.Option(100, min=1, help="Segments a picture keeps, by score."),
) -> None:
    """Draw two results side by side, coloured by group, with what only one found boxed.

    Writes OUT/01-NAME.jpg, 02-..., the most different first, and prints who found how much.
    """
    from anymask.comparison import Results, compare_results, draw_comparison, summary
    from anymask.data.coco import CocoDataset
    from anymask.data.formats.atomic import atomic_write
    from anymask.errors import AnymaskError
    from anymask.image import read_image

    data = None if truth is None else CocoDataset.read(truth, photos)
    one, two = (Results.read(path, data, proposals) for path in (first, second))
    names = (one.name, two.name)
    if names[0] == names[1]:
        # Two results of one name: their folders tell them apart.
        names = (first.parent.name or "first", second.parent.name or "second")
    compared = list(compare_results(one, two, data))
    typer.echo(summary(compared, names))
    drawn = sorted(compared, key=lambda c: -c.difference)[:top]
    failed = []
    with Progress(len(drawn)) as advance:
        for number, seen in enumerate(drawn, 1):
            stem = Path(seen.name).with_suffix("").as_posix().replace("/", "-")
            path = out / f"{number:02}-{stem}.jpg"
            try:
                picture = draw_comparison(read_image(photos / seen.name), seen, names)
            except AnymaskError as error:
                failed.append(f"{seen.name}: {error}")
                advance(f"{seen.name}: failed")
                continue
            with atomic_write(path) as stream:
                picture.save(stream, format="JPEG", quality=90)
            advance(f"{path}: {seen.difference} found by one only")
    if failed:
        typer.echo("These pictures could not be drawn:", err=True)
        for line in failed:
            typer.echo(f"  {line}", err=True)
        raise typer.Exit(1)
