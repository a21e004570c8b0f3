"""The terminal. One small file a command; heavy imports happen inside them."""

from __future__ import annotations

import sys
from typing import NoReturn

from anymask.errors import AnymaskError


def main() -> NoReturn:
    """Entry point of ``anymask``: our own errors are one line, others keep their traceback."""
    from anymask.cli.app import app

    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        code = app(arguments, prog_name="anymask", standalone_mode=False)
    except SystemExit:
        raise
    except Exception as error:
        sys.exit(report(error, debug))
    except KeyboardInterrupt:
        print("stopped; what was finished is kept, the same command continues", file=sys.stderr)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)


def report(error: Exception, debug: bool = False) -> int:
    """Print an error for people and return the exit code; re-raise what is not ours."""
    import click
    from typer import Exit

    if isinstance(error, Exit | click.exceptions.Exit):
        return int(error.exit_code)
    if isinstance(error, click.exceptions.Abort):
        print("stopped; what was finished is kept, the same command continues", file=sys.stderr)
        return 130
    if isinstance(error, click.ClickException):
        error.show()
        return int(error.exit_code)
    if debug or not isinstance(error, AnymaskError | OSError):
        raise error
    from rich.console import Console

    Console(stderr=True, highlight=False).print("error:", str(error), style="red", markup=False)
    return 1
