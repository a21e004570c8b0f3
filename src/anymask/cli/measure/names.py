"""``naming`` and ``open-naming``: free names of regions."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.cli.measure.reports import Out, show
from anymask.cli.options import Device


def naming(
    predictions: Path | None = typer.Option(
        None, help="JSON file (or a folder of them): records with prediction and truth, or "
        "WOW-Seg's with pred_labels and gt_labels.",
    ),
    regions: Path | None = typer.Option(
        None, help="Or lines of regions (anymask data regions) that --model names first."
    ),
    images: Path | None = typer.Option(None, help="With --regions: folder of the pictures."),
    model: str | None = typer.Option(None, help="With --regions: a model of anymask name."),
    masks: str = typer.Option(
        "true", help="With --regions: true, box, rotated-box, ellipse, or sam: what --prompter "
        "draws for the true boxes.",
    ),
    prompter: str = typer.Option(
        "sam2.1-hiera-large", help="With --masks sam: a SAM 2, SAM or SAM-HQ."
    ),
    share: float = typer.Option(
        1.0, min=1, help="With --regions: masks may use windows so many times as large; faster."
    ),
    save: Path | None = typer.Option(
        None, help="With --regions: file of the names; the same command goes on there. Default: "
        "beside the regions.",
    ),
    device: str = Device,
    scorer: str = typer.Option("wowseg", help="Whose rules: wowseg or osprey."),
    encoder: str | None = typer.Option(
        None, help="Folder or id of another sentence encoder; default: all-MiniLM-L6-v2."
    ),
    worst: int = typer.Option(0, min=0, help="Also print so many of the worst names."),
    gallery: Path | None = typer.Option(
        None, help="With --regions: draw the worst names of small, large and rare regions (PNG)."
    ),
    out: Path | None = Out,
) -> None:  # fmt: skip
    """Semantic similarity and semantic IoU of free names, of a results file or of a model."""
    from anymask.benchmarks.naming_protocol import measure_naming, read_pairs, scored
    from anymask.errors import InputError
    from anymask.nn.sentence_encoder import load_sentence_encoder

    if scorer not in ("wowseg", "osprey"):
        raise InputError(f"--scorer is {scorer!r}: use wowseg or osprey")
    if (predictions is None) == (regions is None):
        raise InputError("say what to measure, in one way: --predictions FILE or --regions FILE")
    if gallery is not None and regions is None:
        raise InputError("--gallery draws regions: give --regions")
    about: dict[str, float] = {}
    if predictions is not None:
        pairs = read_pairs(predictions)
    else:
        from anymask.cli.measure.name_a_file import name_a_file

        assert regions is not None
        pairs, about = name_a_file(regions, images, model, masks, prompter, share, save, device)
    read = load_sentence_encoder(encoder) if encoder else load_sentence_encoder()
    scores = scored(pairs, read, scorer)  # type: ignore[arg-type]
    report = measure_naming(
        pairs,
        scores,
        name=(predictions or regions or Path()).name,
        scorer=scorer,  # type: ignore[arg-type]
        encoder=read.source,
        masks=masks if regions is not None else None,
        about=about,
    )
    show(report, out)
    if gallery is not None and regions is not None:
        from anymask.benchmarks.naming_gallery import draw_gallery
        from anymask.cli.measure.name_a_file import looker

        draw_gallery(pairs, scores[0], looker(regions, images), gallery)
        typer.echo(f"written: {gallery}")
    for k in scores[0].argsort(kind="stable")[:worst]:
        pair = pairs[k]
        typer.echo(f"{scores[0][k]:6.3f}  {pair.found!r} for {pair.truth!r}  ({pair.where})")


def open_naming(
    vocabulary: str = typer.Option(
        ..., help="The data set's classes with synonyms: a file or a built-in name."
    ),
    predictions: Path | None = typer.Option(None, help="As of naming."),
    regions: Path | None = typer.Option(
        None, help="Or lines of regions (anymask data regions) that --model names first."
    ),
    images: Path | None = typer.Option(None, help="With --regions: folder of the pictures."),
    model: str | None = typer.Option(None, help="With --regions: a model of anymask name."),
    mode: str | None = typer.Option(None, help="Of an OSM: any, or a data set's words."),
    save: Path | None = typer.Option(None, help="With --regions: file of the names."),
    curve: Path | None = typer.Option(
        None, help="Measure every checkpoint-* in the folder of --model, and draw accuracy "
        "against not-in-vocabulary (PNG).",
    ),
    gallery: Path | None = typer.Option(
        None, help="With --regions: draw names that are not in the vocabulary (PNG)."
    ),
    device: str = Device,
    out: Path | None = Out,
) -> None:  # fmt: skip
    """Accuracy and not-in-vocabulary of free names (OSM's metrics)."""
    from anymask.benchmarks.naming_protocol import read_pairs
    from anymask.benchmarks.open_naming_protocol import (
        draw_curve,
        draw_outside,
        measure_open_naming,
    )
    from anymask.cli.measure.name_a_file import looker, name_a_file
    from anymask.errors import InputError
    from anymask.vocabulary import Vocabulary

    words = Vocabulary.of(vocabulary)
    if (predictions is None) == (regions is None):
        raise InputError("say what to measure, in one way: --predictions FILE or --regions FILE")
    if regions is None and (gallery is not None or curve is not None):
        raise InputError("--gallery and --curve need --regions")
    if curve is not None:
        assert regions is not None
        points = []
        for folder in _checkpoints_of(model):
            file = regions.with_suffix(f".{folder.name}.names.jsonl")
            pairs, _ = name_a_file(
                regions, images, str(folder), "true", "", 1.0, file, device, mode
            )
            report = measure_open_naming(pairs, words, name=folder.name, about={"mode": mode})
            points.append((folder.name.removeprefix("checkpoint-"), report))
            typer.echo(
                f"{folder.name}: accuracy {100 * report.metrics['accuracy']:.1f} %, not in "
                f"vocabulary {100 * report.metrics['not_in_vocabulary']:.1f} %"
            )
        draw_curve(points, curve)
        typer.echo(f"written: {curve}")
        return
    if predictions is not None:
        pairs = read_pairs(predictions)
    else:
        assert regions is not None
        pairs, _ = name_a_file(regions, images, model, "true", "", 1.0, save, device, mode)
    name = (predictions or regions or Path()).name
    show(measure_open_naming(pairs, words, name=name, about={"mode": mode}), out)
    if gallery is not None and regions is not None:
        draw_outside(pairs, words, looker(regions, images), gallery)
        typer.echo(f"written: {gallery}")


def _checkpoints_of(model: str | None) -> list[Path]:
    """A run's checkpoints, oldest first."""
    from anymask.errors import InputError

    found = [] if model is None else list(Path(model).glob("checkpoint-*"))
    if len(found) < 2:
        raise InputError(
            f"--curve needs a run's folder with two checkpoints or more as --model, and {model} "
            f"has {len(found)}: train with --keep 100"
        )
    return sorted(found, key=lambda folder: int(folder.name.rsplit("-", 1)[1]))
