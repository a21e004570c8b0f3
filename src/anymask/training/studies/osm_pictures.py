"""OSM's Tables 2a, 2b and 2d at small scale: how large the canvas is, how windows overlap, how much
context a mask gets; and boxes shown as masks."""

from __future__ import annotations

from anymask.training.studies.osm_data_sets import METRICS, run
from anymask.training.study import Arm, Ordering, Study


def _arm(name: str, says: str, paper: float | None, **settings: object) -> Arm:
    return Arm(name, says, settings, {} if paper is None else {"accuracy": paper})


STUDY = Study(
    name="osm-pictures",
    question="What do resolution, overlapping windows and context do for naming masks?",
    source="OSM (ECCV 2024), Tables 2a, 2b and 2d",
    arms=(
        _arm("windows-3", "3 x 3 windows, stride 80, context 0.5", 78.7),
        _arm("windows-1", "one window", 57.3, canvas=80),
        _arm("windows-2", "2 x 2 windows", 70.1, canvas=160),
        _arm("windows-4", "4 x 4 windows", 79.9, canvas=320),
        _arm("global", "no windows, stretched positions", 71.5, windows=False),
        _arm("stride-40", "windows that overlap by half", 79.6, stride=40),
        _arm("context-all", "the whole picture as context", 78.7, context_ratio=-1.0),
        _arm("context-0", "the mask's box as context", 79.5, context_ratio=0.0),
        _arm("context-0.2", "a box 0.2 larger on every side", 80.6, context_ratio=0.2),
        _arm("boxes", "a fifth of the masks shown as boxes", None, boxes=0.2),
    ),
    metrics=METRICS,
    orderings=tuple(
        Ordering("accuracy", better, worse, floor=0.1)
        for better, worse in (
            ("windows-2", "windows-1"),
            ("windows-3", "windows-2"),
            ("windows-4", "windows-3"),
            ("windows-3", "global"),
            ("stride-40", "windows-3"),
            ("windows-3", "context-all"),
            ("windows-3", "context-0"),
            ("context-0.2", "context-0"),
            ("windows-3", "boxes"),
        )
    ),
    steps=120,
    run=run,
    points=1,
    limits=(
        "As osm-data-sets. The scenes are 256 pixels wide, so that four windows a side enlarge "
        "them. Of the paper's figures those of context stand on another base (81.3 at 0.5) than "
        "those of resolution and stride (78.7)."
    ),
)
