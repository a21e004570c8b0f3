"""``anymask benchmark``: build the benchmarks' data from files one has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anymask.cli.progress import Tenths
from anymask.cli.rr7k import app as rr7k
from anymask.cli.text_models import HELP as TEXT_HELP
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.data.coco import CocoDataset

app = typer.Typer(help="Build benchmarks from data sets you have.", no_args_is_help=True)
lvis_ow = typer.Typer(help="LVIS-OW, the open-world split of LVIS v1.", no_args_is_help=True)
app.add_typer(lvis_ow, name="lvis-ow")
openbench = typer.Typer(
    help="A benchmark far from the training words, built as OpenBench was.", no_args_is_help=True
)
app.add_typer(openbench, name="openbench")
app.add_typer(rr7k, name="rr7k")

LvisTrain = typer.Option(..., "--lvis-train", help="lvis_v1_train.json")
Unseen = typer.Option(
    "rare", help="rare (the benchmark), or max-images:N: classes at most N pictures show."
)


@lvis_ow.command()
def build(
    lvis_train: Path = LvisTrain,
    lvis_val: Path = typer.Option(..., "--lvis-val", help="lvis_v1_val.json"),
    coco: Path = typer.Option(..., help="instances_train2017.json"),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for the two files."),
    unseen: str = Unseen,
) -> None:
    """Write the training and the test file, and compare their statistics with Table 1."""
    from anymask.benchmarks.lvis_ow import (
        EXPECTED,
        TEST_FILE,
        TRAIN_FILE,
        build_lvis_ow,
    )
    from anymask.data.coco import CocoDataset

    train, val, more = (CocoDataset.read(path) for path in (lvis_train, lvis_val, coco))
    with Tenths(len(train) + len(val)) as advance:
        found = build_lvis_ow(train, val, more, out, unseen=unseen, progress=advance)
    typer.echo(found.table(EXPECTED if unseen == "rare" else None))
    typer.echo(f"written: {out / TRAIN_FILE} and {out / TEST_FILE}")


@lvis_ow.command()
def survey(lvis_train: Path = LvisTrain) -> None:
    """Print how many classes and pictures each choice of unseen classes removes from training."""
    from anymask.benchmarks.lvis_ow import STUDIED, lvis_ow_split
    from anymask.benchmarks.open_split import survey as count
    from anymask.data.coco import CocoDataset

    data = CocoDataset.read(lvis_train)
    names = ["rare", *(f"max-images:{number}" for number in STUDIED)]
    choices = {name: lvis_ow_split(name).unseen for name in names}
    with Tenths(len(data)) as advance:
        moved = count(data, choices, advance)
    for name in names:
        share = 100 * moved[name] / max(1, len(data))
        typer.echo(
            f"{name:<15} {len(choices[name]):>5} unseen classes, {moved[name]:>7,} of "
            f"{len(data):,} pictures leave the training side ({share:.2f} %)"
        )


@app.command()
def split(
    train: Path = typer.Option(..., help="COCO-style file to split."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for train.json and test.json."),
    known: str = typer.Option(..., help="Names of known classes with commas, or a vocabulary."),
    unseen: str = typer.Option(..., help="Names of unseen classes with commas, or a vocabulary."),
    val: Path | None = typer.Option(None, help="COCO-style file that is all test."),
) -> None:
    """Split any COCO-style data set so that unseen classes are in no training picture."""
    from anymask.benchmarks.open_split import OpenSplit, make_split
    from anymask.data.coco import CocoDataset

    data = CocoDataset.read(train)
    tested = None if val is None else CocoDataset.read(val)
    chosen = OpenSplit(_ids(data, known), _ids(data, unseen))
    total = len(data) + (0 if tested is None else len(tested))
    with Tenths(total) as advance:
        found = make_split(
            data, tested, chosen, out / "train.json", out / "test.json", progress=advance
        )
    typer.echo(found.table())
    typer.echo(f"written: {out / 'train.json'} and {out / 'test.json'}")


def _ids(data: CocoDataset, words: str) -> frozenset[int]:
    """Category ids of names, or of a vocabulary file's names."""
    from anymask.vocabulary import Vocabulary, normalise

    if Path(words).is_file():
        names = list(Vocabulary.read(words).names)
    else:
        names = [word.strip() for word in words.split(",") if word.strip()]
    ids = {normalise(category["name"]): category["id"] for category in data.categories}
    missing = [name for name in names if normalise(name) not in ids]
    if missing:
        raise InputError(
            f"{data.path} has no category {missing[0]!r}; it has {', '.join(sorted(ids)[:20])}."
        )
    return frozenset(ids[normalise(name)] for name in names)


@openbench.command("build")
def build_openbench(
    source: list[str] = typer.Option(
        ..., help="KIND=FOLDER or KIND:SPLIT=FOLDER, several times; kinds: foodseg103, "
        "imagenet-s, camvid-32, camvid-11, ade20k-150, ...",
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the benchmark."),
    training: list[str] = typer.Option(
        ["coco-panoptic", "coco-stuff"], help="What must be far: built-in lists or files."
    ),
    text_model: str = typer.Option("openai/clip-vit-large-patch14", help=TEXT_HELP),
    sigma1: str = typer.Option("0.70", help="Pictures above are dropped; a number or q0.5."),
    sigma2: str = typer.Option("0.80", help="Classes above become others; a number or q0.9."),
    min_pixels: int = typer.Option(1, min=1, help="A class is present from so many pixels on."),
    centred: bool = typer.Option(False, help="Take away what all training words share."),
) -> None:  # fmt: skip
    """Build it; edit OUT/rules.json, set "reviewed": true, and run the same again to finish."""
    from anymask.benchmarks.openbench import RULES, Settings
    from anymask.benchmarks.openbench import build as build_it
    from anymask.cli.text_models import text_model as load
    from anymask.data.dense import read_dense
    from anymask.vocabulary import Vocabulary

    sources = []
    for entry in source:
        kind, equals, folder = entry.partition("=")
        if not equals:
            raise InputError(f"--source {entry} is not KIND=FOLDER")
        kind, _, split = kind.partition(":")
        found = read_dense(kind, folder, **({"split": split} if split else {}))
        for difference in found.differences():
            typer.echo(f"{found.title}: {difference}")
        sources.append(found)
    lists = [Vocabulary.of(name) for name in training]
    words = list(dict.fromkeys(word for v in lists for c in v.categories for word in c.words))
    known = Vocabulary.from_names(words, title=" + ".join(v.title for v in lists))
    settings = Settings(
        sigma1=_number(sigma1), sigma2=_number(sigma2), min_pixels=min_pixels, centred=centred,
        text_model=text_model,
    )  # fmt: skip
    with Tenths(sum(map(len, sources))) as advance:
        built = build_it(sources, known, load(text_model), out, settings, progress=advance)
    typer.echo(built.table())
    if built.reviewed:
        typer.echo(f"finished: {out}")
    else:
        typer.echo(
            f'now look at {out / RULES}: drop, rename or merge, set "reviewed": true, and run the '
            "same command again"
        )


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
