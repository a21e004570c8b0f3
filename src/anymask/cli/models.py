"""``anymask models``: what can be named after ``--model``."""

from __future__ import annotations

import typer


def models() -> None:
    """List the models: what for, how large, from where, under which licence."""
    from anymask.checkpoints import TABLE, bundled_folder

    for row in TABLE:
        size = row.size
        if row.source == "bundled":
            size = (bundled_folder(row.name) / "model.safetensors").stat().st_size
        typer.echo(f"{row.name}")
        typer.echo(f"  verb     {row.verb}")
        typer.echo(f"  method   {row.method}")
        typer.echo(f"  size     {f'{size / 1e6:.1f} MB' if size else 'no weights'}")
        typer.echo(f"  source   {row.source}")
        typer.echo(f"  licence  {row.licence}")
        typer.echo(f"  needs    {row.needs}")
        if row.note:
            typer.echo(f"  note     {row.note}")
    typer.echo(
        "\nAlso: a folder saved by anymask, a folder or hub id of a Hugging Face Mask2Former, or "
        "an official Mask2Former or SegPrompt file (.pth, .pkl), one of Meta's SAM 2 files (.pt); "
        "for match, an FC-CLIP or MAFT+ file with CLIP's tokenizer beside it; for find, a SAM 2, "
        "or an OpenWorldSAM with its tokenizer beside it."
    )
