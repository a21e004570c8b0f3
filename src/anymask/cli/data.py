"""``anymask data``: training files from data sets one has."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.errors import InputError

app = typer.Typer(help="Make training files from data sets you have.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``regions`` a subcommand while it is the only one."""


@app.command()
def regions(
    coco: Path | None = typer.Option(
        None, help="COCO-style file: COCO, LVIS, PACO, stuff_train2017.json, your own."
    ),
    dense: str | None = typer.Option(
        None, help="KIND=FOLDER or KIND:SPLIT=FOLDER of label maps, such as "
        "coco-stuff:train2017=COCO; kinds as of benchmark openbench build.",
    ),
    osprey: Path | None = typer.Option(
        None, help="lvis_val_1k_category.json or paco_val_1k_category.json."
    ),
    images: Path | None = typer.Option(None, help="With --coco: folder of the pictures."),
    root: Path | None = typer.Option(
        None, help="What the pictures' names will be relative to; default: --images."
    ),
    prefix: str = typer.Option("", help="With --osprey: put before names, such as val2017/."),
    most: int = typer.Option(30, min=1, help="Regions a line; the paper trains on 30 at most."),
    out: Path = typer.Option(..., "--out", "-o", help="The .jsonl file to write."),
) -> None:  # fmt: skip
    """Write named masks, one picture a line: what WOW-Seg is trained and measured on."""
    from collections.abc import Iterator

    from anymask.data import regions as r
    from anymask.data.coco import CocoDataset
    from anymask.data.dense import read_dense

    if sum(source is not None for source in (coco, dense, osprey)) != 1:
        raise InputError("say what to read, in one way: --coco, --dense or --osprey")
    found: Iterator[r.RegionRecord]
    if coco is not None:
        data = CocoDataset.read(coco, images)
        above = "" if root is None else f"{data.images_dir.resolve().relative_to(root.resolve())}/"
        found = r.regions_of_coco(data, most, above)
    elif osprey is not None:
        found = r.regions_of_osprey(osprey, prefix)
    else:
        kind, _, folder = str(dense).partition("=")
        name, _, split = kind.partition(":")
        if not folder:
            raise InputError(f"--dense is {dense!r}: write KIND=FOLDER or KIND:SPLIT=FOLDER")
        labelled = read_dense(name, folder, **({"split": split} if split else {}))
        found = r.regions_of_dense(labelled, root or Path(folder), most)
    count = r.write_regions(found, out)
    typer.echo(f"written: {out} ({count} lines)")
