"""How a matcher falls as irrelevant words are added (OVSNet, Fig. 5).

The model, the pictures and the truth stay; only the list of words grows, by nested prefixes of a
shuffled pool. Means are over the data set's own classes: a pixel that goes to a distractor is
simply missed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.benchmarks.duplicates import plain
from anymask.data.dense import DenseDataset, DensePicture
from anymask.errors import InputError
from anymask.metrics.semantic import ConfusionMatrix
from anymask.plots import new_figure, save_figure
from anymask.vocabulary import Category, Vocabulary

COUNTS = (0, 50, 100, 200, 400, 700)
Match = Callable[[DensePicture, Vocabulary], NDArray[np.int64]]


@dataclass(frozen=True)
class Curve:
    """The result.

    Attributes:
        counts: distractors.
        miou: (seeds, counts) mean IoU over the data set's classes.
        lost: (seeds, counts) share of judged pixels that went to distractors.
        oracle: mean IoU with only the words that are in each picture.
    """

    counts: tuple[int, ...]
    miou: NDArray[np.float64]
    lost: NDArray[np.float64]
    oracle: float

    def rows(self) -> list[dict[str, float]]:
        """One row a seed and count, as a table."""
        return [
            {"seed": s, "distractors": n, "mIoU": float(self.miou[s, k]),
             "lost": float(self.lost[s, k])}
            for s in range(len(self.miou)) for k, n in enumerate(self.counts)
        ]  # fmt: skip


def distractor_pool(data: Vocabulary, pool: Vocabulary) -> list[Category]:
    """Words of a pool that are neither classes of the data set nor parents or children of one."""
    own = {plain(word) for c in data.categories for word in c.words}

    def related(category: Category) -> bool:
        for word in map(plain, category.words):
            for other in own:
                if word == other or word.endswith(f" {other}") or other.endswith(f" {word}"):
                    return True
        return False

    return [c for c in pool.categories if not related(c)]


def distractor_curve(
    data: DenseDataset,
    match: Match,
    pool: Vocabulary,
    *,
    counts: Sequence[int] = COUNTS,
    seeds: int = 3,
    progress: Callable[[int, int], None] | None = None,
) -> Curve:
    """Measure.

    Args:
        data: pictures and truth.
        match: (picture, vocabulary) -> (H, W) positions in that vocabulary; it should remember
            the pictures it has encoded.
        pool: where distractors come from.
        counts: how many, ascending; those beyond the pool are left out.
        seeds: shuffles of the pool.
        progress: called with (done, total) pictures.

    Raises:
        InputError: the pool has no distractor.
    """
    words = distractor_pool(data.vocabulary, pool)
    used = tuple(n for n in sorted(counts) if n <= len(words))
    if not used:
        raise InputError(f"the pool {pool.title} has only {len(words)} irrelevant words")
    size = len(data.vocabulary)
    orders = [np.random.default_rng(seed).permutation(len(words)) for seed in range(seeds)]
    # Ids are only names here, and the two lists may share some.
    bases = [replace(c, id=k) for k, c in enumerate(data.vocabulary.categories)]
    lists = [
        [
            Vocabulary(
                (*bases, *(replace(words[j], id=size + k) for k, j in enumerate(order[:n]))),
                data.vocabulary.templates,
            )
            for n in used
        ]
        for order in orders
    ]
    tables = [[ConfusionMatrix(size) for _ in used] for _ in orders]
    oracle = ConfusionMatrix(size)
    for done, (picture, truth) in enumerate(data, 1):
        here = [k for k in np.unique(truth).tolist() if k >= 0]
        if here:
            few = Vocabulary(tuple(bases[k] for k in here), data.vocabulary.templates)
            oracle.add(truth, np.array(here)[match(picture, few)])
        plain_answer = match(picture, lists[0][0]) if used[0] == 0 else None
        for row, own in zip(tables, lists, strict=True):
            for table, vocabulary in zip(row, own, strict=True):
                found = (
                    plain_answer
                    if plain_answer is not None and len(vocabulary) == size
                    else match(picture, vocabulary)
                )
                table.add(truth, np.where(found < size, found, -1))
        if progress is not None:
            progress(done, len(data))
    return Curve(
        used,
        np.array([[t.summary()["mIoU"] for t in row] for row in tables]),
        np.array([[_lost(t) for t in row] for row in tables]),
        oracle.summary()["mIoU"],
    )


def _lost(table: ConfusionMatrix) -> float:
    judged = table.counts[:, :-1].sum()
    return float(table.counts[-1, :-1].sum() / max(1, judged))


def draw_curve(curves: dict[str, Curve], path: Path) -> None:
    """Mean IoU against the number of distractors, one line a model; bands over seeds."""
    figure = new_figure("Drawing a distractor curve", 6, 4)
    axes = figure.add_subplot()
    for name, curve in curves.items():
        mean = curve.miou.mean(0)
        line: Any = axes.plot(curve.counts, 100 * mean, marker="o", label=name)[0]
        low, high = 100 * curve.miou.min(0), 100 * curve.miou.max(0)
        axes.fill_between(curve.counts, low, high, alpha=0.2, color=line.get_color())
        axes.axhline(100 * curve.oracle, ls=":", color=line.get_color(), lw=1)
    axes.set_xlabel("irrelevant words added")
    axes.set_ylabel("mIoU in % (dotted: only words that are there)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)
