"""Run a discoverer over files and folders: resumable, atomic, and no bad picture stops the rest."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anymask.data.formats.atomic import atomic_write
from anymask.data.formats.coco import coco_dict, write_coco_dataset
from anymask.data.formats.overlay import write_overlay
from anymask.data.formats.png import write_label_png
from anymask.errors import AnymaskError, InputError
from anymask.image import Image, read_image
from anymask.segments import Segments

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".png",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".heic",
        ".heif",
        ".avif",
        ".ppm",
        ".pgm",
        ".jp2",
    ]
)
FORMATS = ("coco", "png", "overlay", "coco-dataset")
PICTURES = (("overlay", ".overlay.jpg"), ("png", ".png"))  # format and end of the file
DATASET = "annotations.json"


@dataclass(frozen=True)
class Task:
    """A picture.

    Attributes:
        path: its file.
        name: of its outputs, relative to the output folder, without suffix.
        file_name: what data sets call it: relative to the folder that was given.
    """

    path: Path
    name: Path
    file_name: str


@dataclass(frozen=True)
class Done:
    """What became of one picture.

    Attributes:
        task: the picture.
        segments: how many were found; None when it failed.
        seconds: spent on it; 0 when an earlier run had finished it.
        error: the reason of the failure, else None.
        skipped: an earlier run had finished it with the same settings.
    """

    task: Task
    segments: int | None
    seconds: float
    error: str | None = None
    skipped: bool = False


def plan(paths: Sequence[Path], out: Path) -> list[Task]:
    """The pictures behind files and folders, in order of their names.

    Folders are searched to any depth; what lies in ``out`` is left alone. The outputs of two
    pictures that differ in their suffix only (``a.jpg``, ``a.png``) keep the suffix in their names
    (``a.jpg.json``, ``a.png.json``).

    Raises:
        InputError: there is no picture, or ``out`` is no folder.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out is the file {out}: name a folder")
    found: list[tuple[Path, Path]] = []
    inside = out.resolve()
    for path in paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                mine = inside == file.resolve() or inside in file.resolve().parents
                if file.suffix.lower() in SUFFIXES and file.is_file() and not mine:
                    found.append((file, file.relative_to(path)))
        else:
            found.append((path, Path(path.name)))
    if not found and any(path.is_dir() and inside == path.resolve() for path in paths):
        raise InputError(
            f"{out} is the folder of the pictures itself, whose results would lie among them: name "
            "another one with --out"
        )
    if not found:
        kinds = " ".join(sorted(SUFFIXES))
        raise InputError(
            f"no pictures in {', '.join(map(str, paths))}: looked for files ending in {kinds}"
        )
    stems: dict[Path, set[Path]] = {}
    for file, relative in found:
        stems.setdefault(relative.with_suffix(""), set()).add(file.resolve())
    tasks: list[Task] = []
    taken: dict[Path, Path] = {}
    for file, relative in found:
        name = relative.with_suffix("") if len(stems[relative.with_suffix("")]) == 1 else relative
        base, number = name, 2
        while taken.get(name, file.resolve()) != file.resolve():
            name, number = base.with_name(f"{base.name}-{number}"), number + 1
        if name not in taken:
            taken[name] = file.resolve()
            # Of two pictures of one name in different folders the second one has a number.
            called = relative if name == base else name.with_name(name.name + relative.suffix)
            tasks.append(Task(file, name, called.as_posix()))
    return tasks


def run(
    discover: Callable[[Image], Segments],
    tasks: Iterable[Task],
    out: Path,
    *,
    formats: Sequence[str] = ("coco", "png", "overlay"),
    settings: dict[str, Any] | None = None,
    overwrite: bool = False,
    legend: bool = False,
) -> Iterator[Done]:
    """Work through the pictures; a result is yielded as soon as its files are in place.

    Every file appears complete or not at all, the COCO file last: where it is, the picture is
    done. A later run with the same settings skips it, one with others does it again.

    Args:
        discover: picture -> segments.
        tasks: from :func:`plan`.
        out: folder for the results.
        formats: of ``coco``, ``png``, ``overlay``; or ``coco-dataset`` for one file
            ``annotations.json`` instead, written at the end.
        settings: what the results depend on (model, thresholds); written into the COCO files.
        overwrite: do finished pictures again.
        legend: overlays have one colour a label and a legend.

    Raises:
        InputError: an unknown format.
        OSError: the output folder cannot be written; nothing half-written stays behind.
    """
    check_formats(formats)
    stamp = {"settings": settings or {}, "formats": sorted(set(formats) - {"coco-dataset"})}
    out.mkdir(parents=True, exist_ok=True)
    parts = out / ".parts"
    whole = "coco-dataset" in formats
    finished: list[tuple[Task, Path]] = []
    for task in tasks:
        record = (parts if whole else out) / f"{task.name}.json"
        targets = [out / f"{task.name}{end}" for kind, end in PICTURES if kind in formats]
        known = None if overwrite else _finished(record, targets, task, stamp)
        if known is not None:
            finished.append((task, record))
            yield Done(task, known, 0.0, skipped=True)
            continue
        started = time.monotonic()
        try:
            image = read_image(task.path)
            segments = discover(image)
        except AnymaskError as error:
            yield Done(task, None, time.monotonic() - started, str(error))
            continue
        except MemoryError:
            reason = "not enough memory for this picture; try --tile or a smaller picture"
            yield Done(task, None, time.monotonic() - started, reason)
            continue
        except Exception as error:  # a fault of ours in one picture must not cost the others
            reason = f"{type(error).__name__}: {error}"
            yield Done(task, None, time.monotonic() - started, reason)
            continue
        record.parent.mkdir(parents=True, exist_ok=True)
        for kind, suffix in PICTURES:
            if kind in formats:
                target = out / f"{task.name}{suffix}"
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.resolve() == task.path.resolve():
                    raise InputError(
                        f"{target} is a picture of yours: name another folder with --out"
                    )
                if kind == "png":
                    write_label_png(target, segments)
                else:
                    write_overlay(target, image, segments, legend=legend)
        # Written in any case: it is what tells a later run that the picture is done.
        content = coco_dict(segments, task.file_name)
        content["info"] |= {"anymask": {**stamp, "picture": fingerprint(task.path)}}
        with atomic_write(record) as stream:
            stream.write(json.dumps(content).encode())
        finished.append((task, record))
        yield Done(task, len(segments), time.monotonic() - started)
    if whole:
        write_coco_dataset(out / DATASET, _collected(finished))


def parse_formats(text: str) -> list[str]:
    """What a comma-separated list asks for.

    Raises:
        InputError: an unknown or contradictory choice.
    """
    formats = [part.strip() for part in text.split(",") if part.strip()]
    check_formats(formats)
    return formats


def check_formats(formats: Sequence[str]) -> None:
    """Raise InputError for an unknown or contradictory choice."""
    unknown = [kind for kind in formats if kind not in FORMATS]
    if unknown or not formats:
        raise InputError(
            f"unknown format {', '.join(unknown) or '(none)'}: choose from {', '.join(FORMATS)}"
        )


def _finished(
    record: Path, targets: Sequence[Path], task: Task, stamp: dict[str, Any]
) -> int | None:
    """Number of segments an earlier run found with the same settings, or None; also when one of
    its other files is gone."""
    if not all(target.is_file() for target in targets):
        return None
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        before = content["info"]["anymask"]
        same = {k: before[k] for k in stamp} == json.loads(json.dumps(stamp))
        if same and before["picture"] == fingerprint(task.path):
            return len(content["annotations"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def fingerprint(path: Path) -> list[int]:
    """Size in bytes and time of change in nanoseconds: whether it is still the same file."""
    state = os.stat(path)
    return [state.st_size, state.st_mtime_ns]


def _collected(
    finished: list[tuple[Task, Path]],
) -> Iterator[tuple[dict[str, Any], Segments]]:
    for number, (task, record) in enumerate(finished, 1):
        content = json.loads(record.read_text(encoding="utf-8"))
        picture = content["images"][0]
        size = (picture["height"], picture["width"])
        segments = Segments.from_coco(content["annotations"], size)
        yield {"id": number, "file_name": task.file_name, "name": str(task.name)}, segments
