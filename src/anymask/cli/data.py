"""``anymask data``: training files from data sets one has."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.errors import InputError

app = typer.Typer(help="Make training files from data sets you have.", no_args_is_help=True)


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
    partimagenet: Path | None = typer.Option(
        None, help="PartImageNet's folder with images/ and annotations/; --split says which."
    ),
    pascal_part: Path | None = typer.Option(
        None, help="Pascal-Part's Annotations_Part; --images is VOC's JPEGImages."
    ),
    boxes: Path | None = typer.Option(None, help="COCO-style file without masks, as V3Det's."),
    images: Path | None = typer.Option(
        None, help="With --coco and --pascal-part: folder of the pictures."
    ),
    root: Path | None = typer.Option(
        None, help="What the pictures' names will be relative to; default: --images."
    ),
    split: str = typer.Option("train", help="With --partimagenet."),
    prefix: str = typer.Option(
        "", help="With --osprey and --boxes: put before names, such as val2017/."
    ),
    most: int = typer.Option(30, min=1, help="Regions a line; the paper trains on 30 at most."),
    out: Path = typer.Option(..., "--out", "-o", help="The .jsonl file to write."),
) -> None:  # fmt: skip
    """Write named masks, one picture a line: what WOW-Seg and OSM are trained and measured on."""
    from collections.abc import Iterator

    from anymask.data import parts
    from anymask.data import regions as r
    from anymask.data.coco import CocoDataset
    from anymask.data.dense import read_dense

    given = (coco, dense, osprey, partimagenet, pascal_part, boxes)
    if sum(source is not None for source in given) != 1:
        raise InputError(
            "say what to read, in one way: --coco, --dense, --osprey, --partimagenet, "
            "--pascal-part or --boxes"
        )
    found: Iterator[r.RegionRecord]
    if coco is not None:
        data = CocoDataset.read(coco, images)
        above = "" if root is None else f"{r.below(data.images_dir, root)}/"
        found = r.regions_of_coco(data, most, above)
    elif osprey is not None:
        found = r.regions_of_osprey(osprey, prefix)
    elif partimagenet is not None:
        found = parts.regions_of_part_image_net(partimagenet, split)
    elif pascal_part is not None:
        if images is None:
            raise InputError("--pascal-part needs --images, VOC's JPEGImages")
        found = parts.regions_of_pascal_part(pascal_part, images, root or images)
    elif boxes is not None:
        found = parts.regions_of_boxes(boxes, prefix)
    else:
        kind, _, folder = str(dense).partition("=")
        name, _, split = kind.partition(":")
        if not folder:
            raise InputError(f"--dense is {dense!r}: write KIND=FOLDER or KIND:SPLIT=FOLDER")
        labelled = read_dense(name, folder, **({"split": split} if split else {}))
        found = r.regions_of_dense(labelled, root or Path(folder), most)
    count = r.write_regions(found, out)
    typer.echo(f"written: {out} ({count} lines)")


@app.command()
def shard(
    meta: Path = typer.Argument(help="A meta file, or a file of lines (.jsonl)."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder; every data set gets one in it."),
    per_shard: int = typer.Option(1000, min=1, help="Samples a shard."),
    seed: int = typer.Option(20230731, help="Of the order of the pictures."),
) -> None:
    """Write lines and their pictures as WebDataset shards, and the meta file that reads them.

    Training from shards reads long pieces one after the other. Run it again to go on after an
    interruption.
    """
    import json

    from anymask.cli.progress import Progress
    from anymask.data.formats.atomic import atomic_write
    from anymask.data.region_sources import read_meta
    from anymask.data.regions import RegionFile
    from anymask.data.shards import write_shards

    sources = read_meta(meta)
    entries = {} if meta.suffix == ".jsonl" else json.loads(meta.read_text(encoding="utf-8"))
    for source in sources:
        if not isinstance(source.file, RegionFile):
            raise InputError(f"{source.name} is in shards already")
        count = -(-len(source.file) // per_shard)
        with Progress(count) as advance:
            for path in write_shards(
                source.name, source.file, out / source.name, per_shard=per_shard, seed=seed
            ):
                if path.suffix == ".tar":
                    advance(str(path))
        rest = {
            key: value
            for key, value in entries.get(source.name, {}).items()
            if key not in ("root", "annotation")
        }
        entries[source.name] = {"shards": source.name, **rest}
        typer.echo(f"{source.name}: {len(source.file)} pictures in {count} shards")
    with atomic_write(out / "meta.json") as stream:
        stream.write(json.dumps(entries, indent=1).encode())
    typer.echo(f"written: {out / 'meta.json'}")
