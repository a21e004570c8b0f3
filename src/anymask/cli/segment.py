"""``anymask segment``: every object of a picture found and named."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.checkpoints import DEFAULT_NAMER
from anymask.cli.discover import identity, parse_tile, with_settings
from anymask.cli.options import By, Device, Ensemble, Format, Out, Overwrite, Trained
from anymask.cli.pictures import contents, digest_of, do_pictures, words_of
from anymask.cli.scenes_only import say_scenes_only

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.segments import Segments


def segment(
    paths: list[Path] = typer.Argument(help="Pictures or folders of pictures."),
    namer: str = typer.Option(
        DEFAULT_NAMER,
        help="A model of anymask name (WOW-Seg, OSM), of match (OVSNet) with --vocabulary, or "
        "an OpenAI-compatible server (http://HOST:PORT/v1) that is shown numbered masks.",
    ),
    server_model: str | None = typer.Option(
        None, help="With a server: what it calls its model; its key in OPENAI_API_KEY."
    ),
    model: str = typer.Option("segprompt-pocket", help="A model of anymask discover."),
    model_settings: str | None = typer.Option(None, help="As --settings of discover."),
    masks: Path | None = typer.Option(
        None,
        help="Proposals of another tool instead: a COCO-style or panoptic file (such as "
        "kMaX-DeepLab's predictions.json), or a folder of maps.",
    ),
    vocabulary: str | None = typer.Option(
        None, help="Names come from this list: a file or a built-in name."
    ),
    verify: bool = typer.Option(False, help="Ask a WOW-Seg again whether each name is right."),
    mode: str | None = typer.Option(None, help="Of an OSM: any, or a data set's words."),
    by: str = By,
    ensemble: str | None = Ensemble,
    trained: str | None = Trained,
    task: str = typer.Option(
        "objects", help="objects may overlap; panoptic and semantic: a name at most for a pixel."
    ),
    keep_unnamed: bool = typer.Option(False, help="Also keep objects without a name."),
    min_score: float | None = typer.Option(None, min=0.0, max=1.0, help="As of discover."),
    max_segments: int = typer.Option(100, min=1, help="At most so many a picture."),
    tile: str = typer.Option("none", help="As of discover: a side in pixels, auto or none."),
    out: Path = Out,
    format: str = Format,
    device: str = Device,
    overwrite: bool = Overwrite,
) -> None:
    """Find every object in pictures and name it; the JSON says where each word comes from."""
    from anymask import folder
    from anymask.loading import load_discoverer, recommended_min_score
    from anymask.verbs import check_namer
    from anymask.verbs import segment as segment_in

    formats = folder.parse_formats(format)
    side = parse_tile(tile)
    tasks = folder.plan(paths, out)
    words, taught = words_of(vocabulary), words_of(trained)
    if masks is None:
        found: Any = with_settings(load_discoverer(model, device), model_settings)
        lowest = recommended_min_score(found) if min_score is None else min_score
    else:
        found, lowest = _proposals(masks), min_score or 0.0
    labeller = _labeller(namer, server_model, device)
    check_namer(labeller, words, verify=verify, mode=mode, by=by, task=task)
    say_scenes_only(namer, "--namer a WOW-Seg, InternVL or OSM checkpoint, see docs/name.md")

    def segment_one(image: Image) -> Segments:
        return segment_in(
            image,
            namer=labeller,
            discoverer=found,
            vocabulary=words,
            verify=verify,
            by=by,
            ensemble=ensemble,
            trained=taught,
            mode=mode,
            task=task,  # type: ignore[arg-type]
            keep_unnamed=keep_unnamed,
            min_score=lowest,
            max_segments=max_segments,
            tile=side,
        )

    settings = {
        "model": [identity(model), model_settings] if masks is None else contents(masks),
        "namer": f"{identity(namer)} {server_model or ''}".strip(),
        "vocabulary": digest_of(words),
        "verify": verify,
        "by": by,
        "ensemble": [ensemble, digest_of(taught)],
        "task": task,
        "mode": mode,
        "keep_unnamed": keep_unnamed,
        "min_score": lowest,
        "max_segments": max_segments,
        "tile": side,
    }
    do_pictures(segment_one, tasks, out, formats, settings, overwrite)


def _proposals(masks: Path) -> Any:
    """Masks from a file, as a discoverer gives them."""
    from anymask.data.mask_files import masks_from

    given = masks_from(masks)

    def proposed(image: Image, min_score: float = 0.0, max_segments: int = 100) -> Segments:
        found = given(image)
        kept = found[~(found.scores < min_score)]  # a mask without a score stays
        return kept.sorted_by_score()[:max_segments]

    return proposed


def _labeller(namer: str, server_model: str | None, device: str) -> Any:
    """A model, or a server that is shown numbered masks."""
    from anymask.errors import InputError
    from anymask.loading import load_labeller

    if not namer.startswith(("http://", "https://")):
        if server_model is not None:
            raise InputError("--server-model belongs to a server: give its address as --namer")
        return load_labeller(namer, device)
    from anymask.methods.set_of_mark import SetOfMarkNamer
    from anymask.vision_server import VisionServer

    if server_model is None:
        raise InputError("say which model the server shall use: --server-model NAME")
    return SetOfMarkNamer(VisionServer(namer, server_model))
