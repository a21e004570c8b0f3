"""What comes out: lines of regions, statistics, pictures and a data card."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from anymask.benchmarks.ledger import Ledger
from anymask.benchmarks.rr7k.candidates import Candidate
from anymask.benchmarks.rr7k.hierarchy import COARSE, Encode, coarse_of
from anymask.benchmarks.rr7k.review import Review
from anymask.benchmarks.rr7k.stages import NAME, VERIFY, heads, names
from anymask.data.formats.atomic import atomic_write
from anymask.data.regions import RegionRecord, write_regions
from anymask.errors import DataError, InputError
from anymask.plots import new_figure, save_figure
from anymask.version import __version__

REGIONS, STATISTICS, COARSE_FILE, CARD = (
    "regions.jsonl", "statistics.json", "coarse.json", "README.md",
)  # fmt: skip
SIZES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)  # shares of the picture
PUBLISHED = {
    "categories": 7662,
    "pictures": 80_000,
    "regions": 200_000,
}  # the latter two: more than


def kept(candidates: Sequence[Candidate], ledger: Ledger, reviewed_only: bool) -> dict[str, str]:
    """region -> name, of all that nobody refused: a person's verdict counts more than a model's."""
    review = Review(candidates, ledger)
    found = {}
    for key, name in names(candidates, ledger).items():
        verdict = review.verdict(key)
        if verdict == "delete" or (not verdict and review.verifier(key) == "no"):
            continue
        if verdict or not reviewed_only:
            found[key] = name
    return found


def export(
    candidates: Sequence[Candidate],
    ledger: Ledger,
    out: Path,
    *,
    encode: Encode,
    root: Path,
    head_min: int,
    reviewed_only: bool = False,
    source: str = "",
) -> dict[str, Any]:
    """Write everything; the same ledger gives the same files.

    Args:
        candidates: all regions.
        ledger: what is known of them.
        out: folder.
        encode: texts -> unit vectors, for coarse classes. ``coarse.json`` in the folder, once
            written, is read instead, so that people can correct it.
        root: what the pictures' names will be relative to.
        head_min: regions from which on a name is frequent.
        reviewed_only: leave out what nobody looked at.
        source: where the regions came from, for the card.

    Returns:
        The statistics.

    Raises:
        InputError: nothing is left to export.
    """
    found = kept(candidates, ledger, reviewed_only)
    if not found:
        raise InputError("no region has a name that nobody refused: name and review some first")
    chosen = [one for one in candidates if one.key in found]
    records = []
    for file, group in groupby(chosen, key=lambda one: one.file):
        mine = list(group)
        records.append(
            RegionRecord(
                mine[0].key.rsplit("/", 1)[0],
                str(_relative(file, root)),
                mine[0].size,
                tuple(one.rle for one in mine),
                tuple(found[one.key] for one in mine),
            )
        )
    write_regions(records, out / REGIONS)
    coarse = _coarse(out / COARSE_FILE, sorted(set(found.values())), encode)
    statistics = _statistics(candidates, chosen, found, coarse, ledger, head_min)
    statistics["sha256"] = hashlib.sha256((out / REGIONS).read_bytes()).hexdigest()
    statistics["pictures"] = len(records)
    _write(out / STATISTICS, json.dumps(statistics, indent=1, ensure_ascii=False))
    _write(out / CARD, _card(statistics, source, reviewed_only))
    return statistics


def _statistics(
    candidates: Sequence[Candidate],
    chosen: Sequence[Candidate],
    found: Mapping[str, str],
    coarse: Mapping[str, tuple[str, str]],
    ledger: Ledger,
    head_min: int,
) -> dict[str, Any]:
    review = Review(candidates, ledger)
    counts = Counter(found.values())
    frequent = heads(found, head_min)
    shares = np.histogram([one.share for one in chosen], SIZES)[0]
    answers, checked = ledger.stage(NAME), ledger.stage(VERIFY)
    verdicts = Counter(review.verdict(one.key) for one in candidates)
    two_levels: dict[str, dict[str, int]] = {p: dict.fromkeys(s, 0) for p, s in COARSE.items()}
    for name, count in counts.items():
        primary, second = coarse[name]
        two_levels.setdefault(primary, {}).setdefault(second, 0)
        two_levels[primary][second] += count
    return {
        "regions": len(found),
        "categories": len(counts),
        "head": {"from": head_min, "categories": len(frequent),
                 "regions": sum(counts[name] for name in frequent)},
        "candidates": len(candidates),
        "named": sum(bool(row.get("name")) for row in answers.values()),
        "without a name": sum(not row.get("name") for row in answers.values()),
        "verifier": dict(Counter(str(row["verdict"]) for row in checked.values())),
        "review": {verdict: count for verdict, count in verdicts.items() if verdict},
        "not reviewed": sum(not review.verdict(key) for key in found),
        "per_category": dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))),
        "share_of_picture": {
            f"{low:g}..{high:g}": int(n)
            for low, high, n in zip(SIZES[:-1], SIZES[1:], shares, strict=True)
        },
        "coarse": two_levels,
        "models": sorted(
            {str(row.get("model")) for row in (*answers.values(), *checked.values())}
        ),
    }  # fmt: skip


def _coarse(path: Path, wanted: Sequence[str], encode: Encode) -> dict[str, tuple[str, str]]:
    """What the file says, and a proposal for what it does not; the file then says both."""
    known: dict[str, tuple[str, str]] = {}
    if path.is_file():
        try:
            rows = json.loads(path.read_text(encoding="utf-8"))
            known = {str(name): (str(pair[0]), str(pair[1])) for name, pair in rows.items()}
        except (OSError, ValueError, AttributeError, IndexError, TypeError) as error:
            raise DataError(
                f"{path} is no list of name: [primary, secondary] ({error!r}): mend or delete it"
            ) from error
    known |= coarse_of([name for name in wanted if name not in known], encode)
    _write(path, json.dumps(dict(sorted(known.items())), indent=1, ensure_ascii=False))
    return known


def _card(statistics: Mapping[str, Any], source: str, reviewed_only: bool) -> str:
    head = statistics["head"]
    lines = [
        "# Named regions, built as RR-7K was",
        "",
        f"Built by anymask {__version__} from {source or 'regions'}; the pictures keep their own "
        "licence and are not part of this (SA-1B's: research only).",
        "",
        f"- {statistics['regions']:,} regions of {statistics['categories']:,} categories in "
        f"{statistics['pictures']:,} pictures (RR-7K: more than {PUBLISHED['regions']:,}, "
        f"{PUBLISHED['categories']:,}, more than {PUBLISHED['pictures']:,})",
        f"- {head['categories']:,} categories with at least {head['from']} regions hold "
        f"{head['regions']:,} of them",
        f"- {statistics['candidates']:,} regions were asked about: {statistics['named']:,} were "
        f"named, {statistics['without a name']:,} answers were no name",
        f"- asked again whether it is right: {_counted(statistics['verifier'])}",
        f"- looked at by people: {_counted(statistics['review'])}; exported without anybody having "
        f"looked: {statistics['not reviewed']:,}"
        + (" (left out on purpose)" if reviewed_only else ""),
        f"- models: {', '.join(statistics['models'])}",
        f"- sha256 of {REGIONS}: {statistics['sha256']}",
        "",
        "RR-7K's people deleted every mismatch. Categories nobody looked at are what a model said.",
        "",
    ]
    return "\n".join(lines)


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items())) or "nothing"


def draw(statistics: Mapping[str, Any], out: Path) -> list[Path]:
    """The long tail, the sizes and the two levels of coarse classes, as pictures.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    tail = new_figure("Drawing statistics", 10, 3.6)
    left, right = tail.subplots(1, 2, width_ratios=[2, 1])
    counts = list(statistics["per_category"].values())
    left.plot(
        range(1, len(counts) + 1), counts, color="#4285f4", lw=2, marker="." * (len(counts) < 60)
    )
    left.fill_between(range(1, len(counts) + 1), counts, 0.8, color="#4285f4", alpha=0.15)
    left.axhline(statistics["head"]["from"], color="#999", lw=1, ls="--")
    left.set(yscale="log", xscale="log", xlabel="category, most frequent first", ylabel="regions",
             ylim=(0.8, None))  # fmt: skip
    shares = statistics["share_of_picture"]
    right.bar(list(shares), list(shares.values()), color="#fba61c")
    right.set(xlabel="share of the picture", ylabel="regions")
    right.tick_params(axis="x", rotation=45)
    rows = [
        (number, primary, second, count)
        for number, (primary, seconds) in enumerate(statistics["coarse"].items())
        for second, count in sorted(seconds.items(), key=lambda item: -item[1])
        if count
    ]
    levels = new_figure("Drawing statistics", 8, 1.8 + 0.2 * len(rows))
    axis = levels.subplots()
    for primary in dict.fromkeys(row[1] for row in rows):
        mine = [(place, row) for place, row in enumerate(rows) if row[1] == primary]
        total = sum(row[3] for _, row in mine)
        axis.barh(
            [place for place, _ in mine], [row[3] for _, row in mine],
            color=f"C{mine[0][1][0]}", label=f"{primary} ({total:,})",
        )  # fmt: skip
    axis.set_yticks(range(len(rows)), [row[2] for row in rows], fontsize=8)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set(xlabel="regions")
    levels.legend(loc="outside upper center", ncols=3)
    files = []
    for figure, name in ((tail, "long_tail.png"), (levels, "coarse.png")):
        save_figure(figure, out / name)
        files.append(out / name)
    return files


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as stream:
        stream.write(text.encode())


def _relative(file: Path, root: Path) -> Path:
    try:
        return file.resolve().relative_to(root.resolve())
    except ValueError:
        return file.resolve()
