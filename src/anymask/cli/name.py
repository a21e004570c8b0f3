"""``anymask name``: free names for masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.checkpoints import DEFAULT_NAMER
from anymask.cli.discover import identity
from anymask.cli.find import numbers_of, pointed
from anymask.cli.options import By, Device, Ensemble, Format, Out, Overwrite, Trained
from anymask.cli.pictures import contents, digest_of, do_pictures, words_of
from anymask.cli.scenes_only import say_scenes_only
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.segments import Segments


def name(
    paths: list[Path] = typer.Argument(help="Pictures or folders of pictures."),
    model: str = typer.Option(
        DEFAULT_NAMER,
        help="A name (see anymask models), folder or hub id: an InternVL (WOW-Seg) or OSM.",
    ),
    masks: Path | None = typer.Option(
        None, help="COCO-style or panoptic file with the pictures' masks, or a folder of maps."
    ),
    point: list[str] = typer.Option([], help="X,Y in pixels inside of the thing to name."),
    not_point: list[str] = typer.Option([], help="X,Y in pixels outside of the thing."),
    box: list[str] = typer.Option([], help="X1,Y1,X2,Y2 in pixels; a thing each."),
    auto: str | None = typer.Option(
        None, help="A model of discover that finds the masks: segprompt-pocket, a SAM 2, ..."
    ),
    prompter: str = typer.Option(
        "sam2.1-hiera-tiny", help="With --point or --box: the SAM 2 that draws the masks."
    ),
    vocabulary: str | None = typer.Option(
        None, help="Replace names by the nearest words of this list (a file or a built-in name)."
    ),
    verify: bool = typer.Option(
        False, help="Ask the model again whether each name is right; its answer is the score."
    ),
    mode: str | None = typer.Option(
        None, help="Of an OSM: any, or a data set's words: coco, lvis, ade20k, cityscapes, ..."
    ),
    by: str = By,
    ensemble: str | None = Ensemble,
    trained: str | None = Trained,
    longest: int = typer.Option(24, min=1, help="Tokens of a name."),
    max_segments: int = typer.Option(100, min=1, help="With --auto: at most so many a picture."),
    out: Path = Out,
    format: str = Format,
    device: str = Device,
    overwrite: bool = Overwrite,
) -> None:
    """Call every mask by a free name, all masks of a picture at once."""
    from anymask import folder
    from anymask.loading import load_namer
    from anymask.verbs import check_namer
    from anymask.verbs import name as name_in

    clicks = numbers_of(point, 2, "--point") + numbers_of(not_point, 2, "--not-point")
    boxes = numbers_of(box, 4, "--box")
    sources = [masks is not None, bool(clicks or boxes), auto is not None]
    if sum(sources) != 1:
        raise InputError(
            "say where the masks come from, in one way: --masks FILE, --point or --box, or "
            "--auto MODEL"
        )
    formats = folder.parse_formats(format)
    tasks = folder.plan(paths, out)
    words, taught = words_of(vocabulary), words_of(trained)
    regions = _regions(masks, clicks, len(point), boxes, auto, prompter, max_segments, device)
    namer = load_namer(model, device)
    check_namer(namer, words, verify=verify, mode=mode, by=by)
    say_scenes_only(model, "--model a WOW-Seg, InternVL or OSM checkpoint, see docs/name.md")

    def name_one(image: Image) -> Segments:
        return name_in(
            image,
            regions(image),
            model=namer,
            vocabulary=words,
            verify=verify,
            longest=longest,
            mode=mode,
            by=by,
            ensemble=ensemble,
            trained=taught,
        )

    settings = {
        "model": identity(model),
        "masks": contents(masks) if masks else str(auto or [clicks, boxes, prompter]),
        "vocabulary": digest_of(words),
        "verify": verify,
        "mode": mode,
        "by": by,
        "ensemble": [ensemble, digest_of(taught)],
        "longest": longest,
        "max_segments": max_segments,
    }
    do_pictures(name_one, tasks, out, formats, settings, overwrite, legend=True)


def _regions(
    masks: Path | None,
    clicks: list[list[float]],
    inside: int,
    boxes: list[list[float]],
    auto: str | None,
    prompter: str,
    max_segments: int,
    device: str,
) -> Callable[[Image], Segments]:
    """picture -> the masks to name."""
    if masks is not None:
        from anymask.data.mask_files import masks_from

        return masks_from(masks)
    if auto is not None:
        from anymask.loading import load_discoverer
        from anymask.verbs import discover

        found = load_discoverer(auto, device)

        def discovered(image: Image) -> Segments:
            return discover(image, model=found, max_segments=max_segments)

        return discovered
    from anymask.loading import load_finder
    from anymask.verbs import find

    sam: Any = load_finder(prompter, device)
    options = pointed(clicks, inside, boxes)

    def asked(image: Image) -> Segments:
        return find(image, model=sam, **options)

    return asked
