"""Every error anymask raises on purpose, in one tree.

    AnymaskError
    ├── InputError (also ValueError)   something handed to a function cannot be used
    │   ├── ImageError                 a picture
    │   ├── SegmentsError              masks, boxes, scores or labels
    │   └── VocabularyError            a list of names
    ├── DataError                      a data-set or result file is broken
    ├── CheckpointError                weights are missing, unknown or do not fit
    ├── MissingExtraError (also ImportError)   an optional package is needed
    ├── ServerError                    a model behind a server gave no usable answer
    ├── OutOfTime                      a time budget ended; the same call continues
    └── PartialFailure                 a folder run finished, but some pictures failed

Messages say what is wrong, where, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


class AnymaskError(Exception):
    """Base of all errors raised on purpose by anymask."""


class InputError(AnymaskError, ValueError):
    """A value handed to a function cannot be used."""


class ImageError(InputError):
    """A picture cannot be read: missing, broken, too large, or an array of the wrong kind."""


class SegmentsError(InputError):
    """Masks, boxes, scores or labels are malformed or do not fit each other."""


class VocabularyError(InputError):
    """A list of names is malformed, or a name or built-in list does not exist."""


class DataError(AnymaskError):
    """A data-set file (or a result file) is broken or does not fit its pictures."""


class CheckpointError(AnymaskError):
    """Weights are missing, unknown or do not fit the model."""


class ServerError(AnymaskError):
    """A model behind a server gave no usable answer.

    Args:
        message: what happened.
        final: asking again will not help.
        wait: seconds the server asks to be left alone for; 0 = it says nothing.
    """

    def __init__(self, message: str, *, final: bool = False, wait: float = 0.0) -> None:
        super().__init__(message)
        self.final = final
        self.wait = wait


class OutOfTime(AnymaskError):  # noqa: N818 - it is a state as much as an error
    """A time budget ended before the work did. What is done is kept; the same call continues."""


class MissingExtraError(AnymaskError, ImportError):
    """An optional package is needed for what was asked.

    Args:
        purpose: what was asked for, as the beginning of a sentence ("Reading HEIC pictures").
        extra: the extra of anymask that installs the package.
    """

    def __init__(self, purpose: str, extra: str) -> None:
        super().__init__(
            f"{purpose} needs an optional package: install it with "
            f"`pip install 'anymask[{extra}]'`."
        )
        self.purpose = purpose
        self.extra = extra

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        # Exceptions pickle by their message; worker processes must be able to send this one home.
        return type(self), (self.purpose, self.extra)


class PartialFailure(AnymaskError):  # noqa: N818 - it is a report as much as an error
    """A run over many pictures finished, but some of them failed.

    Args:
        failures: (path, reason) of each picture that failed, in the order of the run.

    Attributes:
        failures: the same as a list.
    """

    def __init__(self, failures: Iterable[tuple[str | Path, str]]) -> None:
        self.failures = [(Path(path), reason) for path, reason in failures]
        noun = "picture" if len(self.failures) == 1 else "pictures"
        lines = "".join(f"\n  {path}: {reason}" for path, reason in self.failures)
        super().__init__(f"{len(self.failures)} {noun} failed; the others are finished.{lines}")

    def __reduce__(self) -> tuple[type[PartialFailure], tuple[list[tuple[Path, str]]]]:
        return type(self), (self.failures,)
