"""Doing many pictures at the terminal: progress, a line each, and what failed at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.cli.progress import Progress

if TYPE_CHECKING:
    from anymask.folder import Task
    from anymask.image import Image
    from anymask.segments import Segments
    from anymask.vocabulary import Vocabulary


def contents(path: Path) -> str:
    """A file or folder as a setting: its name, and a digest of what lies there now."""
    import hashlib

    from anymask.folder import fingerprint

    sha = hashlib.sha256()
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    for file in files:
        sha.update(f"{file} {fingerprint(file)}\n".encode())
    return f"{path} {sha.hexdigest()[:12]}"


def words_of(vocabulary: str | None) -> Vocabulary | None:
    """A list of words, read once for all pictures."""
    from anymask.vocabulary import Vocabulary

    return None if vocabulary is None else Vocabulary.of(vocabulary)


def digest_of(words: Vocabulary | None) -> str | None:
    """A list of words as a setting: a changed file is another setting."""
    return None if words is None else words.digest


def do_pictures(
    do_one: Callable[[Image], Segments],
    tasks: Sequence[Task],
    out: Path,
    formats: Sequence[str],
    settings: dict[str, Any],
    overwrite: bool,
    legend: bool = False,
) -> None:
    """Do every picture of a plan; exit with 1 when some failed.

    Args:
        do_one: picture -> segments.
        tasks: of ``folder.plan``.
        out: folder for the results.
        formats: see ``folder.run``.
        settings: what the results depend on: with others, finished pictures are done again.
        overwrite: do finished pictures again anyway.
        legend: see ``folder.run``.
    """
    from anymask import folder

    results = folder.run(
        do_one,
        tasks,
        out,
        formats=formats,
        settings=settings,
        overwrite=overwrite,
        legend=legend,
    )
    failed: list[folder.Done] = []
    finished = skipped = 0
    with Progress(len(tasks)) as advance:
        for done in results:
            if done.error is not None:
                failed.append(done)
                advance(f"{done.task.path}: failed")
            elif done.skipped:
                skipped += 1
                advance(f"{done.task.path}: already done")
            else:
                finished += 1
                advance(f"{done.task.path}: {done.segments} segments, {done.seconds:.1f} s")
    rest = f", {skipped} already done" if skipped else ""
    typer.echo(f"{finished} pictures done{rest}, {len(failed)} failed; results in {out}/")
    if failed:
        typer.echo("These pictures failed:", err=True)
        for done in failed:
            typer.echo(f"  {done.task.path}: {done.error}", err=True)
        raise typer.Exit(1)
