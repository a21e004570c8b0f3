"""Figures: an empty one, and writing it so that it appears when it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from anymask.data.formats.atomic import atomic_write
from anymask.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 120


def new_figure(what: str, width: float, height: float) -> Figure:
    """An empty figure.

    Args:
        what: is drawn ("Drawing learning curves"), for the message.
        width, height: in inches.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError(what, "plots") from None
    return Figure(figsize=(width, height), layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure; the suffix decides the format, PNG without one.

    Raises:
        InputError: figures cannot be written in that format.
    """
    kind = path.suffix[1:].lower() or "png"
    if kind not in figure.canvas.get_supported_filetypes():
        raise InputError(f"{path}: figures cannot be written as {kind}: use .png, .svg or .pdf")
    with atomic_write(path) as stream:
        figure.savefig(stream, format=kind, dpi=DPI)
