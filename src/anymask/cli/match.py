"""``anymask match``: pictures segmented with any list of words."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anymask.cli.options import Device, Format, Out, Overwrite
from anymask.cli.pictures import contents, do_pictures
from anymask.cli.progress import Tenths
from anymask.cli.scenes_only import say_scenes_only
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.segments import Segments


def match(
    paths: list[Path] = typer.Argument(help="Pictures or folders of pictures."),
    words: str = typer.Option(
        ..., "--words", "-w",
        help="Words separated by commas, a vocabulary file, or a built-in list such as ade20k-150.",
    ),
    task: str = typer.Option("semantic", help="semantic, panoptic or instance."),
    out: Path = Out,
    model: str = typer.Option(
        "ovsnet-scenes", help="A name (see anymask models), folder, checkpoint file or hub id."
    ),
    segments: Path | None = typer.Option(
        None, help="COCO-style file of masks to label instead of finding any."
    ),
    min_score: float = typer.Option(0.0, min=0.0, max=1.0, help="Drop segments below."),
    max_segments: int = typer.Option(100, min=1, help="Of instances: at most so many a picture."),
    void_threshold: float | None = typer.Option(
        None, min=0.0, help="Semantic: leave pixels alone whose best score is below."
    ),
    tile: str = typer.Option(
        "none", help="Do large pictures in tiles: a side in pixels, auto or none."
    ),
    format: str = Format,
    device: str = Device,
    overwrite: bool = Overwrite,
) -> None:  # fmt: skip
    """Segment pictures with your own words.

    The picture to look at has a legend.
    """
    from anymask import folder
    from anymask.cli.discover import identity, parse_tile
    from anymask.loading import load_matcher
    from anymask.ops.mask_classification import TASKS
    from anymask.verbs import match as match_words

    formats = folder.parse_formats(format)
    side = parse_tile(tile)
    if task not in TASKS:
        raise InputError(f"--task is {task!r}: use one of {', '.join(TASKS)}")
    vocabulary = read_words(words)
    tasks = folder.plan(paths, out)
    loaded = load_matcher(model, device)
    say_scenes_only(model, "--model an FC-CLIP or MAFT+ checkpoint, see docs/match.md")
    with Tenths(1, "sentences read") as advance:  # nothing is shown when the words are kept
        loaded.text.progress = advance
        loaded.words(vocabulary)
        loaded.text.progress = None
    given = None if segments is None else given_masks(segments, tasks)

    def match_one(image: Image) -> Segments:
        masks = None if given is None else given[str(image.path)]
        return match_words(
            image,
            vocabulary,
            task=task,
            segments=masks,
            model=loaded,
            min_score=min_score,
            max_segments=max_segments,
            void_threshold=void_threshold,
            tile=side,
        )

    settings = {
        "model": identity(model),
        "words": vocabulary.digest,
        "task": task,
        "segments": None if segments is None else contents(segments),
        "min_score": min_score,
        "max_segments": max_segments,
        "void_threshold": void_threshold,
        "tile": side,
    }
    legend = task != "instance"
    do_pictures(match_one, tasks, out, formats, settings, overwrite, legend)


def read_words(words: str):  # type: ignore[no-untyped-def]
    """Words, a file or the name of a built-in list -> a vocabulary."""
    from anymask.vocabulary import Vocabulary

    listed = "," in words or not ({"/", "\\", "."} & set(words))
    near = difflib.get_close_matches(words, Vocabulary.builtin_names(), 1, cutoff=0.7)
    if listed and not near and not Path(words).is_file():
        return Vocabulary.from_names([w.strip() for w in words.split(",") if w.strip()])
    return Vocabulary.of(words)


def given_masks(path: Path, tasks: list):  # type: ignore[no-untyped-def,type-arg]
    """Masks by the path of their picture."""
    from anymask.data.coco import CocoDataset

    data = CocoDataset.read(path)
    by_name = {Path(data.image_path(i)).name: i for i in data.image_ids}
    missing = [str(task.path) for task in tasks if task.path.name not in by_name]
    if missing:
        raise InputError(f"{path} has no masks for {', '.join(missing[:5])}")
    return {str(t.path): data.annotations_of(by_name[t.path.name]) for t in tasks}
