"""``anymask train``: carry a recipe out."""

from __future__ import annotations

from pathlib import Path

import typer

from anymask.errors import InputError

FROM_STAGE1 = ("lvis-ow-stage2", "lvis-ow-control", "coco-to-lvis")
PAPER = ("lvis-ow-stage1", *FROM_STAGE1, "lvis-full", "lvis-full-class-aware")
RECIPES = ("segprompt-pocket", "discover", *PAPER)


def train(
    recipe: str = typer.Argument(
        help="segprompt-pocket (the bundled model), discover (fine-tune on your own file), or one "
        "of the paper's: " + ", ".join(PAPER) + "."
    ),
    data: Path = typer.Option(
        ..., help="COCO-style file (discover), or the folder of photographs (segprompt-pocket)."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for checkpoints and the model."),
    images: Path | None = typer.Option(None, help="Folder of the pictures; default: the file's."),
    init: str = typer.Option("segprompt-pocket", help="Where fine-tuning starts: name or folder."),
    samples: int | None = typer.Option(None, min=1, help="Length of the run in pictures."),
    size: int | None = typer.Option(None, help="Side of the training canvas, a multiple of 32."),
    batch_size: int | None = typer.Option(None, min=1, help="Pictures a step."),
    lr: float | None = typer.Option(None, help="Learning rate of the matrices."),
    exhaustive: bool = typer.Option(False, help="Every object is outlined in your file."),
    micro_batch: int | None = typer.Option(None, min=1, help="Pictures a process holds at a time."),
    workers: int = typer.Option(0, min=0, help="Processes that prepare samples."),
    checkpoint_every: int = typer.Option(100, min=1, help="Steps between checkpoints."),
    bf16: bool = typer.Option(False, help="Mixed precision."),
    tensorboard: bool = typer.Option(False, help="Log for TensorBoard (extra train)."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    seed: int | None = typer.Option(None, help="Another seed is another run."),
) -> None:
    """Train a model; the same command continues an interrupted run.

    Under "torchrun --nproc-per-node N -m anymask train ..." N processes share the work and compute
    the gradients of one.
    """
    if recipe not in RECIPES:
        raise InputError(f"no recipe {recipe!r}: there are {', '.join(RECIPES)}")
    if size is not None and (size < 32 or size % 32):
        raise InputError(f"--size is {size}: give a multiple of 32")

    from anymask.checkpoints import model_folder
    from anymask.training.mixture import Phase
    from anymask.training.recipe import train as carry_out

    common = {
        name: value
        for name, value in {"batch_size": batch_size, "seed": seed}.items()
        if value is not None
    }
    if recipe == "segprompt-pocket":
        from anymask.training.recipes.segprompt_pocket import segprompt_pocket

        given = {"phases": [Phase(samples, size or 256)]} if samples else {}
        plan = segprompt_pocket(data, **given, **common)  # type: ignore[arg-type]
    elif recipe in PAPER:
        from anymask.training.recipes import segprompt

        make = getattr(segprompt, recipe.replace("-", "_"))
        start = (model_folder(init),) if recipe in FROM_STAGE1 else ()
        shorter = {"steps": samples // (batch_size or segprompt.BATCH)} if samples else {}
        sized = {"size": size} if size else {}
        plan = make(data, images or data.parent, *start, **shorter, **sized, **common)
    else:
        from anymask.training.recipes.finetune import finetune

        options = {"samples": samples, "lr": lr, "size": size, **common}
        plan = finetune(
            data,
            images or data.parent,
            model_folder(init),
            exhaustive=exhaustive,
            **{name: value for name, value in options.items() if value is not None},  # type: ignore[arg-type]
        )
    carry_out(
        plan,
        out,
        micro_batch=micro_batch,
        bf16=bf16,
        device=device,
        checkpoint_every=checkpoint_every,
        workers=workers,
        tensorboard=tensorboard,
    )
    typer.echo(f"model saved in {out}; use it with --model {out}")
