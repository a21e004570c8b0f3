"""``anymask study``: carry a declared study out and report it."""

from __future__ import annotations

from pathlib import Path

import typer


def study(
    name: str | None = typer.Argument(None, help="Of a declared study; none lists them."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Folder; default: studies/NAME."),
    minutes: float | None = typer.Option(
        None, min=0.0, help="Stop cleanly after so long; the same command continues."
    ),
    smoke: bool = typer.Option(False, help="Two steps a run, to see that everything works."),
) -> None:
    """Train the arms of a study with several seeds and judge its orderings.

    Writes report.md, results.json and curves.png into OUT. What stands in the report was declared
    in the study's file before the first run.
    """
    from anymask.training.studies import load_study, study_names

    if name is None:
        for each in study_names():
            typer.echo(f"{each}: {load_study(each).question}")
        return
    from anymask.errors import OutOfTime
    from anymask.training.study import Results, carry_out

    declared = load_study(name)
    folder = out or Path("studies") / (f"{name}-smoke" if smoke else name)
    stopped: OutOfTime | None = None
    try:
        results = carry_out(declared, folder, minutes=minutes, smoke=smoke, say=typer.echo)
    except OutOfTime as error:
        stopped, results = error, Results.read(declared, folder)
    _write(results, folder)
    if stopped is not None:
        typer.echo(f"{stopped}; what is finished stands in {folder}/report.md")
        raise typer.Exit(3)
    typer.echo(results.markdown())
    typer.echo(f"report in {folder}/report.md, curves in {folder}/curves.png")


def _write(results: object, folder: Path) -> None:
    import json

    from anymask.data.formats.atomic import atomic_write
    from anymask.training.curves import draw_curves
    from anymask.training.study import Results

    assert isinstance(results, Results)
    with atomic_write(folder / "report.md") as stream:
        stream.write(results.markdown().encode())
    content = {"declaration": results.study.declaration(), "curves": results.curves}
    with atomic_write(folder / "results.json") as stream:
        stream.write(json.dumps(content, indent=1).encode())
    draw_curves(results, folder / "curves.png")
