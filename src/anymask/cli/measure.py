"""``anymask measure``: the results of any tool against a truth, a subcommand per protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.cli.options import Device
from anymask.cli.text_models import HELP as TEXT_HELP

if TYPE_CHECKING:
    from anymask.report import Report

app = typer.Typer(help="Measure the results of any tool.", no_args_is_help=True)

Truth = typer.Option(..., help="COCO- or LVIS-style instances file; may be gzipped.")
Predictions = typer.Option(
    ..., help="COCO results (image_id, segmentation, score), polygons or RLE; may be gzipped."
)
Out = typer.Option(None, "--out", "-o", help="Write the report as JSON here.")
MaxDets = typer.Option(None, min=1, help="Predictions a picture keeps; default: the protocol's.")


@app.command()
def recall(
    truth: Path = Truth,
    predictions: Path = Predictions,
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
) -> None:
    """Class-agnostic AR and AP: all regions compete, categories are ignored."""
    _measure("recall", truth, predictions, max_dets, out)


@app.command()
def coco(
    truth: Path = Truth,
    predictions: Path = Predictions,
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
) -> None:
    """COCO's AP and AR of masks, by class."""
    _measure("coco", truth, predictions, max_dets, out)


@app.command()
def lvis(
    truth: Path = Truth,
    predictions: Path = Predictions,
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
    plot: Path | None = typer.Option(None, help="Draw AP against class frequency (PNG)."),
) -> None:
    """LVIS's federated AP, with rare, common and frequent classes."""
    _measure("lvis", truth, predictions, max_dets, out, plot=plot)


@app.command("lvis-ow")
def lvis_ow(
    truth: Path = Truth,
    predictions: Path = Predictions,
    groups: str | None = typer.Option(
        None, help="Vocabulary with groups; default: the truth's own, or LVIS-OW's."
    ),
    max_dets: int | None = MaxDets,
    out: Path | None = Out,
    plot: Path | None = typer.Option(None, help="Draw recall against class frequency (PNG)."),
) -> None:
    """Class-wise AR of known, seen and unseen classes; categories of predictions are ignored."""
    _measure("lvis-ow", truth, predictions, max_dets, out, groups=groups, plot=plot)


PhraseFile = typer.Option(
    ..., help="phrases.json of scenes, X-Decoder's refcocog.json, the folder of RefCOCO as "
    "published, or a COCO file, whose class names are then the phrases.",
)  # fmt: skip
PhrasePredictions = typer.Option(
    None, help="JSON list of {phrase_id or image_id and phrase, segmentation}."
)
PhraseModel = typer.Option(None, help="Or: a model that is asked, as for anymask find.")
PhraseImages = typer.Option(None, help="Folder of the pictures; default: the file's.")
SentencesOption = typer.Option("first", help="Of every object: first (X-Decoder) or all (LISA).")
SplitOption = typer.Option("val", help="Of RefCOCO.")


@app.command()
def referring(
    truth: Path = PhraseFile,
    predictions: Path | None = PhrasePredictions,
    model: str | None = PhraseModel,
    images: Path | None = PhraseImages,
    sentences: str = SentencesOption,
    split: str = SplitOption,
    split_by: str = typer.Option("umd", help="Of RefCOCO: unc, umd or google."),
    out: Path | None = Out,
) -> None:
    """cIoU, gIoU and precision: everything a phrase means as one mask."""
    from anymask.benchmarks.phrase_protocols import measure_referring

    data = _phrases(truth, images, sentences, split, split_by, "oracle")
    _phrase_report(measure_referring, data, predictions, model, "referring", out)


@app.command()
def concept(
    truth: Path = PhraseFile,
    predictions: Path | None = PhrasePredictions,
    model: str | None = PhraseModel,
    images: Path | None = PhraseImages,
    vocabulary_use: str = typer.Option(
        "oracle", help="Of a COCO file: oracle (names of the picture) or full (all names)."
    ),
    sentences: str = SentencesOption,
    split: str = SplitOption,
    split_by: str = typer.Option("umd", help="Of RefCOCO: unc, umd or google."),
    out: Path | None = Out,
) -> None:
    """cgF1: every thing a phrase means, and whether there is any (presence MCC)."""
    from anymask.benchmarks.phrase_protocols import measure_concept

    data = _phrases(truth, images, sentences, split, split_by, vocabulary_use)
    _phrase_report(measure_concept, data, predictions, model, "instance", out)


def _phrases(
    truth: Path, images: Path | None, sentences: str, split: str, split_by: str, use: str
) -> Any:
    from anymask.data.coco import CocoDataset
    from anymask.data.phrases import class_names, read_phrases, read_refcoco
    from anymask.errors import DataError

    if truth.is_dir():
        return read_refcoco(truth, split, split_by, images, sentences)  # type: ignore[arg-type]
    try:
        return read_phrases(truth, images, sentences)  # type: ignore[arg-type]
    except DataError as error:
        if "sentences" not in str(error):
            raise
    return class_names(CocoDataset.read(truth, images), use)  # type: ignore[arg-type]


def _phrase_report(
    measure: Any,
    data: Any,
    predictions: Path | None,
    model: str | None,
    task: str,
    out: Path | None,
) -> None:
    from anymask.benchmarks.phrase_protocols import answers_from, answers_of
    from anymask.cli.progress import Progress
    from anymask.errors import InputError

    if (predictions is None) == (model is None):
        raise InputError("give --predictions FILE or --model NAME")
    if predictions is not None:
        answer, name = answers_from(predictions, data), predictions.name
    else:
        from anymask.loading import load_finder
        from anymask.verbs import find

        assert model is not None
        finder = load_finder(model)
        answer = answers_of(
            lambda image, phrases: find(image, phrases, task=task, model=finder), data
        )
        name = model
    pictures = len({phrase.image_id for phrase in data.phrases})
    with Progress(pictures) as advance:
        report = measure(data, answer, name=name, progress=lambda done, total: advance(None))
    _show(report, out)


@app.command()
def semantic(
    predictions: Path | None = typer.Option(
        None, help="Folder of label pictures (values: the vocabulary's ids), or a COCO file with "
        "labelled segments.",
    ),
    model: str | None = typer.Option(
        None, help="Or: a model that answers phrases, as for anymask find, asked for class names."
    ),
    vocabulary_use: str = typer.Option(
        "oracle", help="With --model: oracle (classes of the picture) or full (all of them)."
    ),
    dataset: str | None = typer.Option(
        None, help="A known data set (ade20k-150, pc-459, ...) or openbench; with --root."
    ),
    root: Path | None = typer.Option(None, help="Its folder."),
    truth: Path | None = typer.Option(None, help="Or: a folder of label pictures."),
    images: Path | None = typer.Option(None, help="With --truth: the folder of its pictures."),
    vocabulary: str | None = typer.Option(
        None, help="With --truth: built-in list or file; ids are pixel values."
    ),
    training: str | None = typer.Option(
        None, help="Training vocabulary: report seen and unseen classes apart."
    ),
    text_model: str | None = typer.Option(
        None, help="With --training: also mIoU by similarity to it. " + TEXT_HELP
    ),
    others: str = typer.Option(
        "class", help="class, scored, ignore or void; see docs/openbench.md."
    ),
    out: Path | None = Out,
) -> None:  # fmt: skip
    """Mean IoU of label maps, in both conventions."""
    from anymask.benchmarks.dense_protocols import measure_semantic, predictions_from
    from anymask.cli.progress import Progress
    from anymask.data.dense import label_folder
    from anymask.errors import InputError
    from anymask.vocabulary import Vocabulary

    if dataset is not None and root is not None:
        data = read_any(dataset, root)
    elif truth is not None and images is not None and vocabulary is not None:
        data = label_folder(images, truth, Vocabulary.of(vocabulary))
    else:
        raise InputError(
            "give --dataset NAME --root FOLDER, or --truth FOLDER --images FOLDER --vocabulary LIST"
        )
    if (predictions is None) == (model is None):
        raise InputError("give --predictions PATH or --model NAME")
    if predictions is not None:
        predict, name = predictions_from(predictions, data.vocabulary), predictions.name
    else:
        predict, name = _asked_semantic(str(model), data, vocabulary_use), f"{model}"
    known = None if training is None else Vocabulary.of(training)
    near = None
    if text_model is not None:
        from anymask.benchmarks.similarity import measure_similarity
        from anymask.cli.text_models import text_model as load

        if known is None:
            raise InputError("--text-model compares with a training vocabulary: give --training")
        near = measure_similarity(data.vocabulary, known, load(text_model)).values.tolist()
    with Progress(len(data)) as advance:
        report = measure_semantic(
            data,
            predict,
            name=name,
            vocabulary_use="global" if model is None else vocabulary_use,
            training=known,
            similarity=near,
            others=others,
            progress=lambda done, total: advance(None),
        )
    _show(report, out)


def _asked_semantic(model: str, data: Any, use: str) -> Any:
    from anymask.benchmarks.dense_protocols import asked_of
    from anymask.loading import load_finder
    from anymask.verbs import find

    finder = load_finder(model)
    return asked_of(
        lambda image, phrases: find(image, phrases, task="semantic", model=finder), data, use
    )


@app.command()
def panoptic(
    truth: Path = typer.Option(..., help="COCO panoptic JSON; its PNGs lie in a folder beside it."),
    predictions: Path = typer.Option(
        ..., help="The same of any tool, or a COCO file with labelled segments."
    ),
    out: Path | None = Out,
) -> None:
    """Panoptic quality, segmentation and recognition quality, of things and stuff."""
    from anymask.benchmarks.dense_protocols import measure_panoptic

    _show(measure_panoptic(truth, predictions), out)


@app.command()
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
        _show(report, None if out is None else out / f"{vocabulary.title}.json")
        order = similarity.values.argsort()[:5].tolist()
        far = ", ".join(f"{vocabulary.names[k]} {similarity.values[k]:.2f}" for k in order)
        typer.echo(f"farthest: {far}\n")
    if plot is not None:
        draw_distribution(found, plot)
        typer.echo(f"picture: {plot}")


@app.command("vocabulary-map")
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


@app.command()
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


def read_any(dataset: str, root: Path):  # type: ignore[no-untyped-def]
    """A known data set or a built benchmark."""
    from anymask.benchmarks.openbench import read_built
    from anymask.data.dense import read_dense

    return read_built(root) if dataset == "openbench" else read_dense(dataset, root)


@app.command()
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
        from anymask.cli.naming import name_a_file

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
    _show(report, out)
    if gallery is not None and regions is not None:
        from anymask.benchmarks.naming_gallery import draw_gallery
        from anymask.cli.naming import looker

        draw_gallery(pairs, scores[0], looker(regions, images), gallery)
        typer.echo(f"written: {gallery}")
    for k in scores[0].argsort(kind="stable")[:worst]:
        pair = pairs[k]
        typer.echo(f"{scores[0][k]:6.3f}  {pair.found!r} for {pair.truth!r}  ({pair.where})")


@app.command("open-naming")
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
    from anymask.cli.naming import looker, name_a_file
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
    _show(measure_open_naming(pairs, words, name=name, about={"mode": mode}), out)
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


@app.command()
def bars(
    reports: list[Path] = typer.Argument(help="Reports as --out writes them; the first orders."),
    out: Path = typer.Option(..., "--out", "-o", help="The picture (PNG)."),
    most: int = typer.Option(60, min=2, help="Classes to draw: the best and the worst of more."),
) -> None:
    """A bar for every class of a report, or of several side by side."""
    from anymask.benchmarks.class_bars import draw_class_bars
    from anymask.report import Report

    draw_class_bars([Report.from_json(path) for path in reports], out, most)
    typer.echo(f"{out} drawn")


@app.command()
def diff(
    before: Path = typer.Argument(help="Report of one tool, as --out writes it."),
    after: Path = typer.Argument(help="Report of the other."),
) -> None:
    """Two reports side by side; other data or another protocol are refused."""
    from dataclasses import replace

    from anymask.report import Report

    one, two = (Report.from_json(path) for path in (before, after))
    short = [replace(r, metrics={k: v for k, v in r.metrics.items() if k != "per_class"})
             for r in (one, two)]  # fmt: skip
    typer.echo(short[0].diff(short[1]).table())


def _show(report: Report, out: Path | None) -> None:
    from dataclasses import replace

    short = {name: value for name, value in report.metrics.items() if name != "per_class"}
    typer.echo(replace(report, metrics=short).table())
    if out is not None:
        report.to_json(out)
        typer.echo(f"per class and all: {out}")


def _measure(
    protocol: str,
    truth: Path,
    predictions: Path,
    max_dets: int | None,
    out: Path | None,
    *,
    groups: str | None = None,
    plot: Path | None = None,
) -> None:
    from anymask.benchmarks.protocols import measure
    from anymask.vocabulary import Vocabulary

    vocabulary = None if groups is None else Vocabulary.of(groups)
    report = measure(truth, predictions, protocol, vocabulary=vocabulary, max_dets=max_dets)
    _show(report, out)
    if plot is not None:
        from anymask.benchmarks.frequency_plot import draw_by_frequency
        from anymask.data.coco import CocoDataset

        draw_by_frequency(report, CocoDataset.read(truth), plot, vocabulary)
        typer.echo(f"picture: {plot}")
