"""Accuracy and not-in-vocabulary of free names, and the pictures that go with them (OSM, section
4, Figs. 5, 10 and 11)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from anymask.benchmarks.naming_gallery import Look, draw_sheet
from anymask.benchmarks.naming_protocol import NamedPair
from anymask.errors import DataError, InputError
from anymask.metrics.open_naming import OpenNames
from anymask.plots import new_figure, save_figure
from anymask.report import Report
from anymask.vocabulary import GROUPS, Vocabulary

MOST_LISTED = 20  # names outside of the vocabulary in a report


def measure_open_naming(
    pairs: Sequence[NamedPair],
    vocabulary: Vocabulary,
    *,
    name: str = "predictions",
    about: Mapping[str, Any] | None = None,
) -> Report:
    """Share of names that are a word of their true class (or its plural or singular), and share of
    those that are no word of the vocabulary; a region without a name is wrong and outside.

    Args:
        pairs: names and truths; a truth is any word of its class.
        vocabulary: the data set's classes with synonyms; their groups become slices.
        name: of what is measured.
        about: further protocol, such as the mode.

    Raises:
        DataError: a truth is no word of the vocabulary.
    """
    judge = OpenNames(vocabulary)
    truths = [_class_of(pair, vocabulary) for pair in pairs]
    found = [pair.found.strip() for pair in pairs]

    def summary(rows: Sequence[int]) -> dict[str, float]:
        return judge.summary([found[k] for k in rows], [truths[k] for k in rows])

    metrics: dict[str, Any] = dict(summary(range(len(pairs))))
    rows: dict[int, list[int]] = {}
    for k, truth in enumerate(truths):
        rows.setdefault(truth, []).append(k)
    names = vocabulary.names_by_id
    metrics["per_class"] = {
        names[truth]: summary(mine)["accuracy"] for truth, mine in sorted(rows.items())
    }
    outside = Counter(f.lower() for k, f in enumerate(found) if _outside(judge, f, truths[k]))
    metrics["most_often_outside"] = dict(outside.most_common(MOST_LISTED))
    slices = {}
    for group in GROUPS:
        kept = {c.id for c in vocabulary.categories if c.group == group}
        mine = [k for k, truth in enumerate(truths) if truth in kept]
        if mine:
            slices[group] = summary(mine)
    return Report(
        title=f"Accuracy and not-in-vocabulary: {name}",
        metrics=metrics,
        slices=slices,
        protocol={
            "protocol": "open naming",
            "vocabulary": vocabulary.title,
            "match": "lower case; accuracy with plurals and singulars, not-in-vocabulary without",
            **(about or {}),
        },
    )


def draw_outside(
    pairs: Sequence[NamedPair], vocabulary: Vocabulary, look: Look, path: Path, columns: int = 6
) -> None:
    """Names that are no word of the vocabulary, over what they should have been: those of the
    commonest first, each name once; then names that are wrong and inside.

    Raises:
        InputError: there is no such name.
        DataError: a truth is no word of the vocabulary.
    """
    judge = OpenNames(vocabulary)
    outside: list[int] = []
    inside: list[int] = []
    counts = Counter(pair.found.strip().lower() for pair in pairs)
    order = sorted(range(len(pairs)), key=lambda k: -counts[pairs[k].found.strip().lower()])
    shown: set[tuple[bool, str]] = set()
    for k in order:
        said = pairs[k].found.strip().lower()
        verdict = judge.judge(said, _class_of(pairs[k], vocabulary))
        if verdict.correct or (verdict.not_in_vocabulary, said) in shown:
            continue
        shown.add((verdict.not_in_vocabulary, said))
        (outside if verdict.not_in_vocabulary else inside).append(k)
    most = 2 * columns
    rows = [
        (title, mine[start : start + columns])
        for title, mine in (
            ("not in the vocabulary", outside[:most]),
            ("wrong, in the vocabulary", inside[:most]),
        )
        for start in range(0, len(mine), columns)
    ]
    if not rows:
        raise InputError("there is nothing to draw: every name is right")
    draw_sheet(rows, pairs, look, path, columns)


def draw_curve(points: Sequence[tuple[str, Report]], path: Path) -> None:
    """Accuracy against not-in-vocabulary over a run's checkpoints (Fig. 5).

    Args:
        points: what each is called, in order, and its report.
        path: of the picture; the suffix decides the format.

    Raises:
        InputError: there are fewer than two.
        MissingExtraError: matplotlib is not installed.
    """
    if len(points) < 2:
        raise InputError(f"a curve needs two checkpoints or more, not {len(points)}")
    figure = new_figure("Drawing checkpoints", 6, 4.5)
    axis = figure.subplots()
    outside, right = (
        [100 * float(report.metrics[key]) for _, report in points]
        for key in ("not_in_vocabulary", "accuracy")
    )
    axis.plot(outside, right, "o-", color="#4285f4", markersize=5)
    for (called, _), x, y in zip(points, outside, right, strict=True):
        axis.annotate(called, (x, y), xytext=(5, 4), textcoords="offset points", fontsize="small")
    axis.set_xlabel("not in vocabulary, %")
    axis.set_ylabel("accuracy, %")
    for limits, values in ((axis.set_xlim, outside), (axis.set_ylim, right)):
        room = max(1.0, 0.12 * (max(values) - min(values)))
        limits(max(-room, min(values) - room), min(100 + room, max(values) + room))
    axis.grid(alpha=0.3)
    axis.set_title("Accuracy and not-in-vocabulary by checkpoint", fontsize="medium")
    save_figure(figure, path)


def _outside(judge: OpenNames, name: str, truth: int) -> bool:
    return judge.judge(name, truth).not_in_vocabulary


def _class_of(pair: NamedPair, vocabulary: Vocabulary) -> int:
    place = vocabulary.find(pair.truth)
    if place is None:
        raise DataError(
            f"the true name {pair.truth!r} ({pair.where}) is no word of {vocabulary.title}: give "
            "the data set's own vocabulary"
        )
    return vocabulary.ids[place]
