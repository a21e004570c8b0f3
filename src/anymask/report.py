"""Numbers with everything needed to make them again: protocol, digests, version."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from anymask.data.formats.atomic import atomic_write
from anymask.errors import DataError, InputError
from anymask.version import __version__

_FORMAT: Final = "anymask-report-1"

Metrics = Mapping[str, Any]
"""Names to numbers, or to further such mappings; NaN means that the metric is not defined here."""


@dataclass(frozen=True, eq=False)
class Report:
    """What a measurement found, and of what.

    Attributes:
        title: one line that says what was measured.
        metrics: names to numbers, nested as deep as makes sense.
        slices: the same metrics on parts of the data ("small", "unseen", ...): slice -> metrics.
        protocol: every choice that changes the numbers (thresholds, numbers of proposals, what
            counts as a match, ...), as JSON values.
        data: digests of the data, name -> SHA-256.
        vocabulary: digests of the vocabularies, name -> SHA-256.
        checkpoint: digests of the weights, name -> SHA-256.
        notes: what a reader should know besides (pictures without predictions, ...); they are no
            part of the protocol, so reports with different ones may be compared.
        version: of anymask.

    Raises:
        InputError: a metric is not a number, is infinite, or the protocol is not JSON.
    """

    title: str
    metrics: Metrics
    slices: Mapping[str, Metrics] = field(default_factory=dict)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    vocabulary: Mapping[str, str] = field(default_factory=dict)
    checkpoint: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    version: str = __version__

    def __post_init__(self) -> None:
        # Copies: what happens to the caller's dictionaries later does not change the report.
        object.__setattr__(self, "metrics", _checked_metrics("metrics", self.metrics))
        slices = {name: _checked_metrics(name, part) for name, part in self.slices.items()}
        object.__setattr__(self, "slices", slices)
        for name in ("protocol", "data", "vocabulary", "checkpoint"):
            value = dict(getattr(self, name))
            object.__setattr__(self, name, _as_json(name, value))
        object.__setattr__(self, "notes", tuple(str(note) for note in self.notes))

    # ------------------------------------------------------------------------------ numbers

    @property
    def flat(self) -> dict[str, float]:
        """Every number under its path: "AR/100", and "small: AR/100" in a slice."""
        numbers = _flatten(self.metrics)
        for name, part in self.slices.items():
            numbers.update({f"{name}: {path}": value for path, value in _flatten(part).items()})
        return numbers

    def __getitem__(self, path: str) -> float:
        """One number by its path, as in :attr:`flat`.

        Raises:
            KeyError: there is none; the message lists those there are.
        """
        numbers = self.flat
        if path not in numbers:
            raise KeyError(f"no metric {path!r}; there are {', '.join(numbers)}")
        return numbers[path]

    def __eq__(self, other: object) -> bool:
        """Whether everything is equal; NaN equals NaN."""
        return isinstance(other, Report) and self.to_json() == other.to_json()

    __hash__ = None  # type: ignore[assignment]

    # -------------------------------------------------------------------------------- text

    def table(self, digits: int = 4) -> str:
        """The report as text: numbers, slices as columns, then how they were made.

        Args:
            digits: decimals of the numbers.
        """
        columns = {"all": _flatten(self.metrics)} if self.metrics else {}
        columns.update({name: _flatten(part) for name, part in self.slices.items()})
        paths = list(dict.fromkeys(path for column in columns.values() for path in column))
        rows = [["", *columns]] if len(columns) > 1 else []
        for path in paths:
            cells = [_number(column.get(path), digits) for column in columns.values()]
            rows.append([path, *cells])
        made = [("note", note) for note in self.notes]
        made += [("protocol", f"{key} = {_plain(value)}") for key, value in self.protocol.items()]
        for name in ("data", "vocabulary", "checkpoint"):
            made += [(name, f"{key} {digest[:12]}") for key, digest in getattr(self, name).items()]
        made.append(("anymask", self.version))
        width = max(len(name) for name, _ in made)
        facts = [f"{name:<{width}}  {value}" for name, value in made]
        return "\n".join([self.title, "", *_aligned(rows), "", *facts])

    def __str__(self) -> str:
        return self.table()

    # -------------------------------------------------------------------------------- files

    def to_json(self, path: str | Path | None = None) -> str:
        """The report as JSON text, also written to a file if one is given (whole or not at all).

        Undefined metrics (NaN) become null.

        Raises:
            OSError: the file cannot be written.
        """
        content = {
            "format": _FORMAT,
            "title": self.title,
            "version": self.version,
            "metrics": _nan_to_none(self.metrics),
            "slices": _nan_to_none(self.slices),
            "protocol": dict(self.protocol),
            "data": dict(self.data),
            "vocabulary": dict(self.vocabulary),
            "checkpoint": dict(self.checkpoint),
        }
        if self.notes:
            content["notes"] = list(self.notes)
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            with atomic_write(path) as stream:
                stream.write(text.encode("utf-8"))
        return text

    @classmethod
    def from_json(cls, path: str | Path) -> Report:
        """Read a report that `to_json` wrote.

        Raises:
            DataError: the file is missing, or is not such a report.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"{path} cannot be opened: {error.strerror or error}.") from error
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path} is not a report: {error}.") from None
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise DataError(f"{path} is not a report made by this version of anymask.")
        try:
            metrics, slices = content.pop("metrics"), content.pop("slices")
            return cls(metrics=_none_to_nan(metrics), slices=_none_to_nan(slices), **content)
        except (AttributeError, InputError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path} is a damaged report: {error}.") from None

    # -------------------------------------------------------------------------- comparisons

    def diff(self, other: Report, *, allow_different_protocol: bool = False) -> ReportDiff:
        """Compare with another report: `other` minus this one.

        Args:
            other: the later or changed measurement.
            allow_different_protocol: numbers made under different protocols, or on different data
                or vocabularies, are not comparable, and asking for their differences is an error
                unless this is set; the result then names what differs.

        Raises:
            InputError: the reports are not comparable.
        """
        conditions = {}
        for name in ("protocol", "data", "vocabulary"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for key in dict.fromkeys([*mine, *theirs]):
                pair = (mine.get(key, _MISSING), theirs.get(key, _MISSING))
                if pair[0] != pair[1]:
                    conditions[f"{name}: {key}"] = pair
        if conditions and not allow_different_protocol:
            listed = "".join(f"\n  {line}" for line in _condition_lines(conditions))
            raise InputError(
                f"these reports cannot be compared, because they were made differently:{listed}\n"
                "Measure again under one protocol, or pass allow_different_protocol=True."
            )
        mine, theirs = self.flat, other.flat
        paths = dict.fromkeys([*mine, *theirs])
        values = {p: (mine.get(p, math.nan), theirs.get(p, math.nan)) for p in paths}
        return ReportDiff(self.title, other.title, values, conditions)


@dataclass(frozen=True)
class ReportDiff:
    """Two reports side by side.

    Attributes:
        before, after: the titles.
        values: metric path -> (before, after); NaN where one of them lacks it.
        conditions: what was different in how they were made: name -> (before, after).
    """

    before: str
    after: str
    values: Mapping[str, tuple[float, float]]
    conditions: Mapping[str, tuple[Any, Any]]

    @property
    def deltas(self) -> dict[str, float]:
        """Metric path -> after minus before; NaN where either is undefined."""
        return {path: after - before for path, (before, after) in self.values.items()}

    @property
    def comparable(self) -> bool:
        """Whether both were made the same way, on the same data and vocabularies."""
        return not self.conditions

    def table(self, digits: int = 4) -> str:
        """The comparison as text; differences in how the numbers were made come first."""
        lines = [f"before  {self.before}", f"after   {self.after}", ""]
        if not self.comparable:
            lines.append("NOT COMPARABLE: these were made differently:")
            lines += [f"  {line}" for line in _condition_lines(self.conditions)]
            lines.append("")
        rows = [["", "before", "after", "change"]]
        for path, (before, after) in self.values.items():
            change = after - before
            shown = _number(change, digits) if math.isnan(change) else f"{change:+.{digits}f}"
            rows.append([path, _number(before, digits), _number(after, digits), shown])
        return "\n".join([*lines, *_aligned(rows)])

    def __str__(self) -> str:
        return self.table()


class _Missing:
    def __repr__(self) -> str:
        return "(not given)"


_MISSING: Final = _Missing()


def _checked_metrics(where: str, metrics: Any) -> dict[str, Any]:
    if not isinstance(metrics, Mapping):
        raise InputError(f"{where} maps names to numbers, it is not a {type(metrics).__name__}.")
    checked: dict[str, Any] = {}
    for name, value in metrics.items():
        if not isinstance(name, str):
            raise InputError(f"{where} has the name {name!r}, which is not text.")
        if isinstance(value, Mapping):
            checked[name] = _checked_metrics(f"{where}/{name}", value)
            continue
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise InputError(f"{where}/{name} is {value!r}, not a number.") from None
        if math.isinf(number):
            raise InputError(f"{where}/{name} is infinite; a metric that is undefined is NaN.")
        checked[name] = number
    return checked


def _as_json(name: str, value: dict[str, Any]) -> dict[str, Any]:
    """A copy in JSON's own types, so that a report equals its file (tuples become lists)."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} cannot be written as JSON: {error}.") from None
    return copy


def _flatten(metrics: Metrics, prefix: str = "") -> dict[str, float]:
    numbers: dict[str, float] = {}
    for name, value in metrics.items():
        if isinstance(value, Mapping):
            numbers.update(_flatten(value, f"{prefix}{name}/"))
        else:
            numbers[prefix + name] = value
    return numbers


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _nan_to_none(part) for name, part in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _none_to_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _none_to_nan(part) for name, part in value.items()}
    return math.nan if value is None else value


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _condition_lines(conditions: Mapping[str, tuple[Any, Any]]) -> list[str]:
    return [f"{name}: {before!r} and {after!r}" for name, (before, after) in conditions.items()]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _aligned(rows: list[list[str]]) -> list[str]:
    """Names to the left, numbers to the right, two spaces between columns."""
    if not rows:
        return []
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:]))]
        ).rstrip()
        for row in rows
    ]
