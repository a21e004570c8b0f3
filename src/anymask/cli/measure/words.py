"""``leakage``, ``vocabulary-map`` and ``distractors``: what the choice of words does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from anymask.cli.measure.dense import read_any
from anymask.cli.measure.reports import show
from anymask.cli.options import Device
from anymask.cli.text_models import HELP as TEXT_HELP


def leakage(
    train: str = typer.Option(..., help="Training vocabulary: built-in list or file."),
    test: list[str] = typer.Option(..., help="Test vocabulary; may be given several times."),
    text_model: str = typer.Option("openai/clip-vit-large-patch14", help=TEXT_HELP),
    centred: bool = typer.Option(False, help="Take away what all training words share."),
    plot: Path | None = typer.Option(None, help="Draw the distributions (PNG)."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder for a report each."),
) -> None:
    """How close test words are to the words of training."""
    from anymask.benchmarks.similarity import draw_distribution, measure_similarity
    from anymask.benchmarks.similarity import leakage as audit
    from anymask.cli.text_models import text_model as load
    from anymask.vocabulary import Vocabulary

    embed, training = load(text_model), Vocabulary.of(train)
    found = {}
    for name in test:
        vocabulary = Vocabulary.of(name)
        similarity = measure_similarity(
            vocabulary, training, embed, centred=centred, name=text_model
        )
        found[vocabulary.title] = similarity
        report = audit(vocabulary, training, similarity)
        show(report, None if out is None else out / f"{vocabulary.title}.json")
        order = similarity.values.argsort()[:5].tolist()
        far = ", ".join(f"{vocabulary.names[k]} {similarity.values[k]:.2f}" for k in order)
        typer.echo(f"farthest: {far}\n")
    if plot is not None:
        draw_distribution(found, plot)
        typer.echo(f"picture: {plot}")


def vocabulary_map(
    vocabulary: list[str] = typer.Option(..., help="Built-in list or file; several times."),
    plot: Path = typer.Option(..., help="The picture (PNG)."),
    text_model: str = typer.Option("openai/clip-vit-large-patch14", help=TEXT_HELP),
    proxies: int = typer.Option(
        0, min=0, help="Also draw so many proxies (mixtures) of words of the first vocabulary."
    ),
    gamma: float = typer.Option(2.0, min=0.01, help="Proxies mix with Beta(gamma, gamma)."),
) -> None:
    """Where the words of vocabularies lie, and what proxies fill in between (t-SNE)."""
    import numpy as np

    from anymask.benchmarks.similarity import SENTENCE, draw_map
    from anymask.cli.text_models import text_model as load
    from anymask.vocabulary import Vocabulary

    embed = load(text_model)
    groups: dict[str, tuple[Sequence[str], Any]] = {}
    for name in vocabulary:
        words = Vocabulary.of(name)
        vectors = embed([SENTENCE.replace("{}", word) for word in words.names])
        groups[words.title] = (words.names, vectors)
    if proxies:
        first = next(iter(groups.values()))[1]
        unit = first / np.linalg.norm(first, axis=1, keepdims=True)
        rng = np.random.default_rng(0)
        pairs, share = rng.integers(len(unit), size=(2, proxies)), rng.beta(gamma, gamma, proxies)
        mixed = share[:, None] * unit[pairs[0]] + (1 - share[:, None]) * unit[pairs[1]]
        groups["proxies"] = (tuple("" for _ in range(proxies)), mixed)
    draw_map(groups, plot)
    typer.echo(f"picture: {plot}")


def distractors(
    dataset: str = typer.Option(..., help="A known data set, or openbench for a built one."),
    root: Path = typer.Option(..., help="Its folder."),
    pool: str = typer.Option("lvis", help="Vocabulary that irrelevant words come from."),
    model: str = typer.Option("ovsnet-scenes", help="A model of match."),
    counts: str = typer.Option("0,50,100,200,400,700", help="How many words are added."),
    seeds: int = typer.Option(3, min=1, help="Shuffles of the pool."),
    plot: Path | None = typer.Option(None, help="Draw the curve (PNG)."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the numbers here (CSV)."),
    device: str = Device,
) -> None:
    """How a matcher falls as irrelevant words are added."""
    from anymask.benchmarks.distractors import distractor_curve, draw_curve
    from anymask.cli.progress import Progress
    from anymask.data.formats.atomic import atomic_write
    from anymask.image import read_image
    from anymask.loading import load_matcher
    from anymask.vocabulary import Vocabulary

    data, matcher = read_any(dataset, root), load_matcher(model, device)

    def match(picture: Any, vocabulary: Vocabulary) -> Any:
        return matcher.label_map(read_image(picture.image), vocabulary)

    with Progress(len(data)) as advance:
        curve = distractor_curve(
            data,
            match,
            Vocabulary.of(pool),
            counts=[int(n) for n in counts.split(",")],
            seeds=seeds,
            progress=lambda done, total: advance(None),
        )
    for column, count in enumerate(curve.counts):
        mean, lost = curve.miou[:, column].mean(), curve.lost[:, column].mean()
        typer.echo(
            f"{count:5d} irrelevant words: mIoU {100 * mean:5.2f} %, lost {100 * lost:5.2f} %"
        )
    typer.echo(f"only words that are there: mIoU {100 * curve.oracle:5.2f} %")
    if out is not None:
        rows = ["seed,distractors,mIoU,lost"]
        rows += [f"{r['seed']},{r['distractors']},{r['mIoU']},{r['lost']}" for r in curve.rows()]
        with atomic_write(out) as stream:
            stream.write(("\n".join(rows) + "\n").encode())
    if plot is not None:
        draw_curve({model: curve}, plot)
        typer.echo(f"picture: {plot}")
