"""``anymask find``: more of what example masks show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anymask.cli.pictures import do_pictures
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.segments import Segments


def find(
    paths: list[Path] = typer.Argument(None, help="Pictures or folders of pictures."),
    like: list[Path] = typer.Option(
        [], help="COCO-style file of example pictures and masks; may be given several times."
    ),
    images: Path | None = typer.Option(
        None, help="Folder of the example pictures; default: the file's."
    ),
    bank: list[Path] = typer.Option([], help="Prompt bank saved earlier; may be given often."),
    save_bank: Path | None = typer.Option(None, help="Save the prompts here for later."),
    names: str | None = typer.Option(None, help="Only these names, separated by commas."),
    model: Path = typer.Option(..., help="Folder of a model trained with prompt branches."),
    out: Path = typer.Option(Path("out"), "--out", "-o", help="Folder for the results."),
    min_score: float = typer.Option(0.5, min=0.0, max=1.0, help="Drop finds below."),
    max_segments: int = typer.Option(100, min=1, help="At most so many of every name."),
    format: str = typer.Option(
        "coco,png,overlay",
        help="Of coco, png, overlay, separated by commas; or coco-dataset for one file.",
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:N or mps."),
    overwrite: bool = typer.Option(False, help="Do finished pictures again."),
) -> None:
    """Find things like those in example masks, in pictures they were never in.

    The examples' category names become the labels. Prompts can be saved, and banks are merged.
    """
    from anymask import folder
    from anymask.checkpoints import load_finder
    from anymask.data.coco import CocoDataset
    from anymask.methods.segprompt.few_shot import PromptBank

    if not like and not bank:
        raise InputError("nothing to look for: give --like FILE or --bank FILE")
    if not paths and save_bank is None:
        raise InputError("nothing to do: name pictures, or give --save-bank")
    formats = [part.strip() for part in format.split(",") if part.strip()]
    folder.check_formats(formats)
    finder = load_finder(model, device)
    banks = [PromptBank.load(path) for path in bank]
    for file in like:
        data = CocoDataset.read(file, images)
        examples = [
            (data.read_image(i), found)
            for i in data.image_ids
            if len(found := data.annotations_of(i, crowd=False))
        ]
        banks.append(finder.prompts(examples))
    asked = banks[0]
    for more in banks[1:]:
        asked = asked.merge(more)
    if names is not None:
        asked = asked.only([name.strip() for name in names.split(",") if name.strip()])
    counts = zip(asked.names, asked.counts.tolist(), strict=True)
    typer.echo("looking for " + ", ".join(f"{name} ({count})" for name, count in counts))
    if save_bank is not None:
        asked.save(save_bank)
        typer.echo(f"prompts saved in {save_bank}")
    if not paths:
        return

    def find_one(image: Image) -> Segments:
        return finder.find(image, asked, min_score=min_score, max_segments=max_segments)

    settings = {
        "model": finder.checkpoint,
        "prompts": asked.digest,
        "min_score": min_score,
        "max_segments": max_segments,
    }
    do_pictures(find_one, folder.plan(paths, out), out, formats, settings, overwrite)
