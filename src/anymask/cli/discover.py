"""``anymask discover``: masks for pictures and folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.cli.options import Device, Format, Out, Overwrite
from anymask.cli.pictures import do_pictures
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.segments import Segments


def discover(
    paths: list[Path] = typer.Argument(help="Pictures or folders of pictures."),
    out: Path = Out,
    model: str = typer.Option(
        "segprompt-pocket", help="A name (see anymask models), folder, checkpoint file or hub id."
    ),
    min_score: float | None = typer.Option(
        None, min=0.0, max=1.0, help="Drop proposals below; the model recommends one by default."
    ),
    max_segments: int = typer.Option(100, min=1, help="At most so many a picture."),
    tile: str = typer.Option(
        "none", help="Search large pictures in tiles too: a side in pixels, auto or none."
    ),
    labels: bool = typer.Option(
        False, "--labels", help="Of a class-aware model: its classes too, best pairs first."
    ),
    settings: str | None = typer.Option(
        None,
        help="With a SAM or SAM 2: options of automatic masks, such as "
        "pred_iou_thresh=0.9,crop_n_layers=1, or osm for OSM's.",
    ),
    format: str = Format,
    device: str = Device,
    overwrite: bool = Overwrite,
) -> None:
    """Find every object in pictures, whatever it is.

    For PICTURE.jpg the folder OUT gets PICTURE.json (COCO), PICTURE.png (a number per segment) and
    PICTURE.overlay.jpg (to look at). Finished pictures are not done twice.
    """
    from anymask import folder
    from anymask.loading import load_discoverer, recommended_min_score
    from anymask.verbs import discover as find

    formats = folder.parse_formats(format)
    side = parse_tile(tile)
    tasks = folder.plan(paths, out)
    loaded = with_settings(load_discoverer(model, device), settings)
    lowest = recommended_min_score(loaded) if min_score is None else min_score

    def discover_one(image: Image) -> Segments:
        return find(
            image,
            model=loaded,
            min_score=lowest,
            max_segments=max_segments,
            tile=side,
            labels=labels,
        )

    asked = {
        "model": identity(model),
        "min_score": lowest,
        "max_segments": max_segments,
        "tile": side,
        "settings": settings,
        "labels": labels,
    }
    do_pictures(discover_one, tasks, out, formats, asked, overwrite)


def with_settings(discoverer: Any, settings: str | None) -> Any:
    """The same SAM or SAM 2 with other options of automatic masks."""
    if settings is None:
        return discoverer
    from anymask.methods.sam2.automatic import AutomaticMasks, settings_of

    if not isinstance(discoverer, AutomaticMasks):
        raise InputError("--settings belongs to a SAM or SAM 2")
    return AutomaticMasks(discoverer.clicker, settings_of(settings))


def parse_tile(tile: str) -> int | str | None:
    """``none`` -> None, ``auto`` -> "auto", a number -> pixels."""
    if tile in ("none", "auto"):
        return None if tile == "none" else tile
    if not tile.isdigit():
        raise InputError(f"--tile is {tile!r}: give a number of pixels, auto or none")
    return int(tile)


def identity(model: str) -> str:
    """The model's name, and the digest of its weights where they are local."""
    from anymask.checkpoints import bundled_folder, digest_of, find

    row = find(model)
    folder = bundled_folder(model) if row is not None and row.source == "bundled" else Path(model)
    if (folder / "model.safetensors").is_file():
        return f"{model} {digest_of(folder)[:12]}"
    return model
