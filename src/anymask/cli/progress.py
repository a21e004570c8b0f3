"""Progress of long work: a bar for people, plain lines for files."""

from __future__ import annotations

import sys

import typer


class Progress:
    """A bar on a terminal, plain lines elsewhere; entering gives ``advance(line)``."""

    def __init__(self, total: int) -> None:
        from rich import progress
        from rich.console import Console

        self.bar = None
        if sys.stdout.isatty() and total > 1:
            self.bar = progress.Progress(
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeRemainingColumn(),
                console=Console(),
            )
            self.task = self.bar.add_task("", total=total)

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
        return self

    def __call__(self, line: str | None = None) -> None:
        """One more is done; ``line`` says which, None says nothing."""
        if self.bar is None:
            if line is not None:
                typer.echo(line)
            return
        if line is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        self.bar.advance(self.task)

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()


class Tenths:
    """Progress for many small steps: a bar on a terminal, a line each tenth elsewhere.

    Args:
        total: steps; the call says it again, in case it was not known.
        what: behind the numbers.
    """

    def __init__(self, total: int, what: str = "pictures") -> None:
        self.total, self.bar, self.what = total, Progress(total), what
        self.tenth = 0

    def __enter__(self) -> Tenths:
        self.bar.__enter__()
        return self

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // max(1, total)
        line = f"{done:,} of {total:,} {self.what}" if tenth > self.tenth else None
        self.tenth = max(tenth, self.tenth)
        self.bar(line)

    def __exit__(self, *error: object) -> None:
        self.bar.__exit__(*error)
