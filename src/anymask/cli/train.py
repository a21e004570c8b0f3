"""``anymask train``: carry a recipe out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.training.recipe import Recipe

FROM_STAGE1 = ("lvis-ow-stage2", "lvis-ow-control", "coco-to-lvis")
PAPER = ("lvis-ow-stage1", *FROM_STAGE1, "lvis-full", "lvis-full-class-aware")
SCENES = ("clip-scenes", "ovsnet-scenes")
RECIPES = ("segprompt-pocket", "discover", *PAPER, "ovsnet", *SCENES)


def train(
    recipe: str = typer.Argument(
        help="segprompt-pocket (the bundled model), discover (fine-tune on your own file), or one "
        "of the papers': "
        + ", ".join(PAPER)
        + ", ovsnet; or on drawn scenes: "
        + ", ".join(SCENES)
        + "."
    ),
    data: Path | None = typer.Option(
        None,
        help="COCO-style file (discover), the folder of photographs (segprompt-pocket), "
        "panoptic_train2017.json or the folder of COCO-Stuff (ovsnet); scenes need none.",
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for checkpoints and the model."),
    images: Path | None = typer.Option(None, help="Folder of the pictures; default: the file's."),
    init: str = typer.Option(
        "segprompt-pocket",
        help="Where it starts: name or folder; ovsnet: open_clip's weights file; ovsnet-scenes: "
        "the folder of a trained clip-scenes.",
    ),
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
    if recipe in SCENES:
        plan = _scenes(recipe, init, {"scenes": samples, "size": size, **common})
    elif data is None:
        raise InputError(f"{recipe} needs --data")
    elif recipe == "ovsnet":
        from anymask.training.recipes.ovsnet import BATCH, ovsnet

        length = {"steps": samples // (batch_size or BATCH)} if samples else {}
        sized = {"size": size} if size else {}
        plan = ovsnet(data, images or data.parent, Path(init), **length, **sized, **common)
    elif recipe == "segprompt-pocket":
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
    if recipe in SCENES:
        from anymask.nn.clip_convnext import ClipConvNextConfig
        from anymask.training.recipes.clip_scenes import scenes_tokenizer

        scenes_tokenizer(ClipConvNextConfig.small()).save_pretrained(out)
    elif recipe == "ovsnet":
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(Path(init).parent).save_pretrained(out)
    typer.echo(f"model saved in {out}; use it with --model {out}")


def _scenes(recipe: str, init: str, given: dict[str, Any]) -> Recipe:
    """A recipe on drawn scenes."""
    chosen = {name: value for name, value in given.items() if value is not None}
    if recipe == "clip-scenes":
        from anymask.training.recipes.clip_scenes import clip_scenes

        return clip_scenes(**chosen)
    from anymask.training.recipes.ovsnet_scenes import ovsnet_scenes

    if not (Path(init) / "config.json").is_file():
        raise InputError("ovsnet-scenes needs --init FOLDER of a trained clip-scenes")
    return ovsnet_scenes(Path(init), **chosen)
