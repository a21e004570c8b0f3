"""``anymask benchmark rr7k``: build a region-recognition data set as RR-7K was."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.cli.options import Device
from anymask.cli.progress import Progress
from anymask.errors import DataError, InputError, MissingExtraError, PartialFailure

if TYPE_CHECKING:
    from anymask.benchmarks.ledger import Ledger
    from anymask.benchmarks.rr7k.candidates import Candidate
    from anymask.benchmarks.rr7k.stages import Question
    from anymask.image import Image
    from anymask.segments import Segments
    from anymask.vision_server import VisionServer

app = typer.Typer(
    help="A data set of named regions, built as RR-7K was: build, review, export.",
    no_args_is_help=True,
)
LEDGER, SETTINGS = "pairs.jsonl", "settings.json"
Folder = typer.Argument(help="The folder that build wrote.")


@app.command()
def build(
    source: Path = typer.Argument(
        help="Masks: a folder with SA-1B's sa_*.json, a COCO-style file, or lines of regions."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder; the same command goes on there."),
    images: Path | None = typer.Option(None, help="Folder of the pictures; default: the source's."),
    namer: str | None = typer.Option(None, help="A model of anymask name that names the regions."),
    server: str | None = typer.Option(
        None, help="Or an OpenAI-compatible server: http://HOST:PORT/v1; its key in OPENAI_API_KEY."
    ),
    model: str | None = typer.Option(None, help="With --server: what it calls the model."),
    verifier: str | None = typer.Option(
        None, help="A model that is asked whether frequent names are right; better another one."
    ),
    verify_server: str | None = typer.Option(None, help="Or a server for that."),
    verify_model: str | None = typer.Option(None, help="With --verify-server: its model."),
    head_min: int = typer.Option(
        10, min=1, help="Names with so many regions are verified; rarer ones are left to people."
    ),
    min_share: float = typer.Option(0.001, min=0, max=1, help="Of the picture, of a region."),
    max_share: float = typer.Option(1.0, min=0, max=1, help="The same, at most."),
    duplicates: float = typer.Option(
        1.0, min=0, max=1, help="IoU above which the later of two regions is dropped."
    ),
    limit: int | None = typer.Option(None, min=1, help="Only so many regions, to try it out."),
    threads: int = typer.Option(4, min=1, help="Questions on their way to a server at once."),
    timeout: float = typer.Option(60.0, min=0.1, help="Seconds a server has for an answer."),
    tries: int = typer.Option(4, min=1, help="Before a question counts as unanswered."),
    dry_run: bool = typer.Option(False, help="Only say how many questions there would be."),
    device: str = Device,
) -> None:
    """Name regions and ask again whether frequent names are right; kill and repeat as you like."""
    from anymask.benchmarks.ledger import Ledger
    from anymask.benchmarks.rr7k import stages
    from anymask.benchmarks.rr7k.candidates import read_candidates
    from anymask.methods.wowseg.names import clean_answer

    if (namer is None) == (server is None):
        raise InputError("say who names the regions, in one way: --namer MODEL or --server URL")
    if verifier is not None and verify_server is not None:
        raise InputError("say who verifies in one way: --verifier MODEL or --verify-server URL")
    settings = {
        "source": str(source.resolve()),
        "images": None if images is None else str(images.resolve()),
        "min_share": min_share,
        "max_share": max_share,
        "duplicates": duplicates,
        "head_min": head_min,
    }
    candidates = read_candidates(
        source, images, min_share=min_share, max_share=max_share, duplicates=duplicates
    )
    candidates = candidates[:limit]
    _bind(out, settings, dry_run)
    ledger = Ledger(out / LEDGER)
    asked = stages.unnamed(candidates, ledger)
    typer.echo(f"{len(candidates):,} regions, {len(asked):,} of them to be named")
    if dry_run:
        typer.echo(
            f"{len(asked):,} questions; then at most {len(candidates):,} more to verify frequent "
            "names"
        )
        return
    failed = []
    with Progress(len(asked)) as advance:
        if server is not None:
            vision = _server(server, model, "--model", timeout, tries)
            questions = stages.name_questions(asked, clean_answer)
            failed += _ask(questions, stages.NAME, ledger, vision, threads, advance)
        else:
            answers = _local_namer(str(namer), device)
            failed += stages.name_locally(asked, ledger, answers, str(namer), clean_answer, advance)
    pairs = stages.unverified(candidates, ledger, head_min)
    if verifier is None and verify_server is None:
        typer.echo(f"{len(pairs):,} regions of frequent names stay unverified (--verifier)")
    else:
        typer.echo(f"{len(pairs):,} regions of frequent names to be verified")
        with Progress(len(pairs)) as advance:
            if verify_server is not None:
                vision = _server(verify_server, verify_model, "--verify-model", timeout, tries)
                questions = stages.verify_questions(pairs)
                failed += _ask(questions, stages.VERIFY, ledger, vision, threads, advance)
            else:
                check = _local_verifier(str(verifier), device)
                failed += stages.verify_locally(pairs, ledger, check, str(verifier), advance)
    named = stages.names(candidates, ledger)
    typer.echo(
        f"{len(named):,} of {len(candidates):,} regions have a name, {len(set(named.values())):,} "
        f"different ones; go on with: anymask benchmark rr7k review {out}"
    )
    if failed:
        raise PartialFailure(failed)


@app.command()
def review(
    folder: Path = Folder,
    port: int = typer.Option(8765, min=0, max=65535, help="Of the page, on this machine only."),
    write: Path | None = typer.Option(None, help="Write a CSV table to edit instead of a page."),
    read: Path | None = typer.Option(None, help="Take the verdicts of an edited table."),
    reviewer: str = typer.Option("", help="With --read: who edited it."),
) -> None:
    """Look at regions name by name and keep, delete or rename them: a page in the browser."""
    from anymask.benchmarks.rr7k.review import Review, serve

    if write is not None and read is not None:
        raise InputError("give --write or --read, not both")
    candidates, ledger, _ = _open(folder)
    found = Review(candidates, ledger)
    if write is not None:
        rows = found.write_table(write)
        typer.echo(f"written: {write} ({rows} rows); fill in verdict: keep, delete, rename or undo")
    elif read is not None:
        typer.echo(f"{found.read_table(read, reviewer)} new verdicts")
    else:
        try:
            server = serve(found, port)
        except OSError as error:
            raise InputError(
                f"port {port} cannot be used ({error}): give another --port"
            ) from error
        with server:
            typer.echo(f"http://127.0.0.1:{server.server_port}/ (stop with Ctrl-C)")
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                typer.echo("stopped; every verdict is kept")


@app.command()
def export(
    folder: Path = Folder,
    reviewed_only: bool = typer.Option(False, help="Leave out what nobody looked at."),
    root: Path | None = typer.Option(
        None, help="What the pictures' names will be relative to; default: their folder."
    ),
    encoder: str | None = typer.Option(
        None, help="Folder or id of another sentence encoder, for the coarse classes."
    ),
) -> None:
    """Write regions.jsonl, statistics, pictures and a data card."""
    from anymask.benchmarks.rr7k.export import REGIONS, draw
    from anymask.benchmarks.rr7k.export import export as write
    from anymask.nn.sentence_encoder import load_sentence_encoder

    candidates, ledger, settings = _open(folder)
    encode = load_sentence_encoder(encoder) if encoder else load_sentence_encoder()
    source = Path(settings["source"])
    pictures = Path(settings["images"] or (source if source.is_dir() else source.parent))
    statistics = write(
        candidates,
        ledger,
        folder,
        encode=encode,
        root=root or pictures,
        head_min=settings["head_min"],
        reviewed_only=reviewed_only,
        source=source.name,
    )
    typer.echo(
        f"written: {folder / REGIONS} ({statistics['regions']:,} regions, "
        f"{statistics['categories']:,} categories, {statistics['pictures']:,} pictures)"
    )
    try:
        for file in draw(statistics, folder):
            typer.echo(f"written: {file}")
    except MissingExtraError as error:
        typer.echo(f"no pictures: {error}")


def _bind(out: Path, settings: dict[str, Any], dry_run: bool) -> None:
    """Remember what decides which regions there are; another choice in the same folder is refused.

    Names refer to regions by their place, so a changed choice would mix data sets.
    """
    from anymask.data.formats.atomic import atomic_write

    path = out / SETTINGS
    if path.is_file():
        before = _settings(path)
        differs = [name for name in settings if before.get(name) != settings[name]]
        if differs:
            raise InputError(
                f"{out} was begun with another {', '.join(differs)} "
                f"({', '.join(str(before.get(name)) for name in differs)}): use the same, or "
                "another --out"
            )
    elif not dry_run:
        with atomic_write(path) as stream:
            stream.write(json.dumps(settings, indent=1).encode())


def _settings(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"{path} cannot be read ({error}): is this a folder that rr7k build wrote?"
        ) from error


def _open(folder: Path) -> tuple[list[Candidate], Ledger, dict[str, Any]]:
    from anymask.benchmarks.ledger import Ledger
    from anymask.benchmarks.rr7k.candidates import read_candidates

    settings = _settings(folder / SETTINGS)
    candidates = read_candidates(
        Path(settings["source"]),
        None if settings["images"] is None else Path(settings["images"]),
        min_share=settings["min_share"],
        max_share=settings["max_share"],
        duplicates=settings["duplicates"],
    )
    return candidates, Ledger(folder / LEDGER), settings


def _server(url: str, model: str | None, option: str, timeout: float, tries: int) -> VisionServer:
    from anymask.vision_server import VisionServer

    if model is None:
        raise InputError(f"say which model the server shall use: {option} NAME")
    return VisionServer(url, model, timeout, tries)


def _ask(
    questions: list[Question],
    stage: str,
    ledger: Ledger,
    server: VisionServer,
    threads: int,
    advance: Callable[[str | None], None],
) -> list[tuple[Path, str]]:
    from anymask.benchmarks.rr7k.stages import ask_server

    return ask_server(questions, stage, ledger, server, threads, advance)


def _local_namer(model: str, device: str) -> Callable[[Image, Segments], Iterator[tuple[int, str]]]:
    from anymask.loading import load_namer

    namer = load_namer(model, device)

    def answers(image: Image, segments: Segments) -> Iterator[tuple[int, str]]:
        for one in namer.names(image, segments):
            yield one.row, one.answer

    return answers


def _local_verifier(model: str, device: str) -> Callable[[Image, Segments], Any]:
    from anymask.loading import load_namer
    from anymask.methods.wowseg.inference import WOWSegNamer
    from anymask.methods.wowseg.verification import verify

    namer = load_namer(model, device)
    if not isinstance(namer, WOWSegNamer):
        raise InputError(f"{model} cannot be asked whether a name is right: give a WOW-Seg")

    def chances(image: Image, segments: Segments) -> Any:
        return verify(namer, image, segments)

    return chances
