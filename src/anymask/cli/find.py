"""``anymask find``: what phrases describe, clicks and boxes point at, or example masks show."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.checkpoints import DEFAULT_FINDER
from anymask.cli.discover import identity
from anymask.cli.options import Device, Format, Out, Overwrite
from anymask.cli.pictures import do_pictures
from anymask.cli.scenes_only import say_scenes_only
from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.image import Image
    from anymask.segments import Segments


def find(
    asked: list[str] = typer.Argument(
        None, help="Pictures or folders of pictures, and phrases: PHOTO.jpg 'red cup' zebra."
    ),
    point: list[str] = typer.Option(
        [], help="X,Y in pixels inside of the thing; may be given several times for one thing."
    ),
    not_point: list[str] = typer.Option([], help="X,Y in pixels outside of the thing."),
    box: list[str] = typer.Option([], help="X1,Y1,X2,Y2 in pixels; a thing each."),
    like: list[Path] = typer.Option(
        [], help="COCO-style file of example pictures and masks; may be given several times."
    ),
    images: Path | None = typer.Option(
        None, help="Folder of the example pictures; default: the file's."
    ),
    bank: list[Path] = typer.Option([], help="Prompt bank saved earlier; may be given often."),
    save_bank: Path | None = typer.Option(None, help="Save the examples' prompts here for later."),
    names: str | None = typer.Option(None, help="Only these names, separated by commas."),
    phrases_file: Path | None = typer.Option(
        None, "--phrases", help="A text file of further phrases, one a line."
    ),
    task: str = typer.Option("instance", help="instance, referring, semantic or panoptic."),
    model: str = typer.Option(
        DEFAULT_FINDER,
        help="A name (see anymask models), folder, checkpoint file or hub id: an OpenWorldSAM for "
        "phrases, a SAM 2 for clicks, a model with prompt branches for examples.",
    ),
    out: Path = Out,
    min_score: float | None = typer.Option(
        None, min=0.0, max=1.0, help="Drop finds below; default: the model's own."
    ),
    max_segments: int = typer.Option(100, min=1, help="At most so many of every phrase."),
    two_stage: bool = typer.Option(False, help="Refine the masks of phrases by feeding them back."),
    format: str = Format,
    device: str = Device,
    overwrite: bool = Overwrite,
) -> None:
    """Find what a phrase, a click, a box or an example describes.

    The phrases, or the examples' category names, become the labels.
    """
    from anymask import folder
    from anymask.methods.openworldsam.inference import TASKS

    paths, phrases = told_apart(asked or [])
    if phrases_file is not None:
        phrases += read_phrases(phrases_file)
    clicks = numbers_of(point, 2, "--point") + numbers_of(not_point, 2, "--not-point")
    boxes = numbers_of(box, 4, "--box")
    questions = [bool(phrases), bool(clicks or boxes), bool(like or bank)]
    if sum(questions) != 1:
        raise InputError(
            "phrases, clicks and examples are asked one at a time"
            if sum(questions)
            else "nothing to look for: give a phrase ('red cup'), --point X,Y, --box X1,Y1,X2,Y2, "
            "--like FILE or --bank FILE"
        )
    if names is not None and not questions[2]:
        raise InputError("--names chooses among examples: give --like or --bank")
    if names is not None and not any(name.strip() for name in names.split(",")):
        raise InputError("--names is empty: give names of examples, separated by commas")
    if (task != "instance" or two_stage) and not phrases:
        raise InputError("--task and --two-stage belong to phrases")
    if task not in TASKS:
        raise InputError(f"--task is {task!r}: use one of {', '.join(TASKS)}")
    if not paths and (save_bank is None or not questions[2]):
        raise InputError("nothing to do: name a picture or a folder that exists")
    if paths and not questions[2]:
        say_scenes_only(
            model,
            "--model a SAM 2 such as sam2.1-hiera-tiny (clicks and boxes) or an OpenWorldSAM "
            "(phrases), see docs/find.md",
        )
    formats = folder.parse_formats(format)
    options: dict[str, Any] = {"min_score": min_score, "max_segments": max_segments}
    if questions[2]:
        loaded, settings, options = _examples(
            model, like, images, bank, save_bank, names, min_score, max_segments, device
        )
    else:
        from anymask.loading import load_finder

        loaded = load_finder(model, device)
        settings = {"model": identity(model)}
        if phrases:
            options |= {"phrases": phrases, "task": task, "two_stage": two_stage}
        else:
            options |= pointed(clicks, len(point), boxes)
        settings |= options
    if not paths:
        return
    do = _finding(loaded, options)
    do_pictures(do, folder.plan(paths, out), out, formats, settings, overwrite)


def _finding(loaded: Any, options: dict[str, Any]) -> Callable[[Image], Segments]:
    from anymask.verbs import find as find_in

    def find_one(image: Image) -> Segments:
        return find_in(image, model=loaded, **options)

    return find_one


def told_apart(asked: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Pictures and folders that exist, and phrases.

    Raises:
        InputError: something looks like a picture's name and is not there, or a phrase is empty.
    """
    from anymask.folder import SUFFIXES

    paths, phrases = [], []
    for word in asked:
        if not word.strip():
            raise InputError("a phrase is empty: say what to find")
        if Path(word).exists():
            paths.append(Path(word))
        elif Path(word).suffix.lower() in SUFFIXES:
            raise InputError(f"there is no picture {word}")
        else:
            phrases.append(word)
    return paths, phrases


def read_phrases(path: Path) -> list[str]:
    """One phrase a line; empty lines are skipped."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a text file of phrases: {error}") from error
    return [line.strip() for line in lines if line.strip()]


def numbers_of(texts: Sequence[str], count: int, option: str) -> list[list[float]]:
    found = []
    for text in texts:
        try:
            values = [float(part) for part in text.split(",")]
        except ValueError:
            values = []
        if len(values) != count or not all(map(math.isfinite, values)):
            shape = "X,Y" if count == 2 else "X1,Y1,X2,Y2"
            raise InputError(f"{option} is {text!r}: give {shape} in pixels, without spaces")
        if count == 4 and not (values[0] < values[2] and values[1] < values[3]):
            raise InputError(f"{option} is {text!r}: X2 is right of X1, and Y2 below Y1")
        found.append(values)
    return found


def pointed(clicks: list[list[float]], inside: int, boxes: list[list[float]]) -> dict[str, Any]:
    """Clicks belong to one thing, every box is one; both together are one thing."""
    options: dict[str, Any] = {}
    if clicks:
        labels = [1] * inside + [0] * (len(clicks) - inside)
        options |= {"points": [clicks], "point_labels": [labels]}
        if len(boxes) > 1:
            raise InputError("points belong to one thing: give one --box with them, or none")
    if boxes:
        options["boxes"] = boxes
    return options


def _examples(
    model: str,
    like: Sequence[Path],
    images: Path | None,
    bank: Sequence[Path],
    save_bank: Path | None,
    names: str | None,
    min_score: float | None,
    max_segments: int,
    device: str,
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """The model, what the results depend on, and the options of ``anymask.find``."""
    from anymask.checkpoints import DEFAULT, DEFAULT_FINDER
    from anymask.data.coco import CocoDataset
    from anymask.errors import CheckpointError
    from anymask.loading import load_finder
    from anymask.methods.segprompt.few_shot import SegPromptFinder
    from anymask.methods.segprompt.prompt_bank import PromptBank
    from anymask.nn.weights_digest import weights_digest

    model = DEFAULT if model == DEFAULT_FINDER else model  # the bundled one that takes examples
    finder = load_finder(model, device)
    if not isinstance(finder, SegPromptFinder):
        raise CheckpointError(
            f"{model} takes no examples: give --model the folder of a model trained with prompt "
            "branches"
        )
    banks = [PromptBank.load(path) for path in bank]
    for file in like:
        data = CocoDataset.read(file, images)
        banks.append(
            finder.prompts(
                [
                    (data.read_image(i), found)
                    for i in data.image_ids
                    if len(found := data.annotations_of(i, crowd=False))
                ]
            )
        )
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
    lowest = finder.model.config.example_min_score if min_score is None else min_score
    settings = {
        "model": weights_digest(finder.model),
        "prompts": asked.digest,
        "min_score": lowest,
        "max_segments": max_segments,
    }
    return finder, settings, {"bank": asked, "min_score": lowest, "max_segments": max_segments}
