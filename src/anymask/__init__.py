"""Open-world image segmentation: discover, name, match, find and measure.

    import anymask

    segments = anymask.discover("photo.jpg")
    segments.plot("photo.jpg").save("photo.overlay.jpg")

Importing this package loads nothing: each public name brings its module along when it is first
used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from anymask.version import __version__

if TYPE_CHECKING:
    from anymask.benchmarks.protocols import measure
    from anymask.draw import annotate
    from anymask.errors import (
        AnymaskError,
        CheckpointError,
        DataError,
        ImageError,
        InputError,
        MissingExtraError,
        OutOfTime,
        PartialFailure,
        SegmentsError,
        VocabularyError,
    )
    from anymask.image import Image, read_image
    from anymask.report import Report
    from anymask.segments import Segments
    from anymask.verbs import discover, find, match, name, segment
    from anymask.vocabulary import Vocabulary

__all__ = [
    "AnymaskError",
    "CheckpointError",
    "DataError",
    "Image",
    "ImageError",
    "InputError",
    "MissingExtraError",
    "OutOfTime",
    "PartialFailure",
    "Report",
    "Segments",
    "SegmentsError",
    "Vocabulary",
    "VocabularyError",
    "__version__",
    "annotate",
    "discover",
    "find",
    "match",
    "measure",
    "name",
    "read_image",
    "segment",
]

_MODULES = {
    "Image": "image",
    "Report": "report",
    "Segments": "segments",
    "Vocabulary": "vocabulary",
    "annotate": "draw",
    "discover": "verbs",
    "find": "verbs",
    "match": "verbs",
    "measure": "benchmarks.protocols",
    "name": "verbs",
    "read_image": "image",
    "segment": "verbs",
}


def __getattr__(key: str) -> Any:
    # A plain name from here on: the second use does not come by again.
    if key not in __all__:
        raise AttributeError(f"module 'anymask' has no attribute {key!r}")
    module = importlib.import_module(f"anymask.{_MODULES.get(key, 'errors')}")
    value = globals()[key] = getattr(module, key)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
