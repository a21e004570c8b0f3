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
