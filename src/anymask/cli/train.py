"""``anymask train``: carry a recipe out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from anymask.errors import InputError

if TYPE_CHECKING:
    from anymask.training.recipe import Recipe

FROM_STAGE1 = ("lvis-ow-stage2", "lvis-ow-control", "lvis-ow-text", "coco-to-lvis")
PAPER = ("lvis-ow-stage1", *FROM_STAGE1, "lvis-full", "lvis-full-class-aware")
SCENES = (
    "segprompt-words-scenes", "segprompt-scenes", "clip-scenes", "ovsnet-scenes", "sam2-scenes",
    "sam2-names-scenes", "beit3-scenes", "openworldsam-scenes",
    "internvl-vision-scenes", "internvl-scenes", "wowseg-scenes", "osm-language-scenes",
    "osm-scenes",
)  # fmt: skip
PHRASES = ("openworldsam", "openworldsam-refcocog", "openworldsam-cityscapes")
POCKETS = ("segprompt-pocket", "segprompt-pocket-examples")
RECIPES = (*POCKETS, "discover", *PAPER, "ovsnet", *PHRASES, "wowseg", "osm", *SCENES)


def train(
    recipe: str = typer.Argument(
        help="segprompt-pocket (the bundled model), segprompt-pocket-examples (so that it takes "
        "examples), discover (fine-tune on your own file), or one "
        "of the papers': "
        + ", ".join(PAPER)
        + ", ovsnet, "
        + ", ".join(PHRASES)
        + ", wowseg, osm; or on drawn scenes: "
        + ", ".join(SCENES)
        + "."
    ),
    data: Path | None = typer.Option(
        None,
        help="COCO-style file (discover), the folder of photographs (segprompt-pocket), "
        "panoptic_train2017.json (openworldsam, ovsnet), the folder of COCO-Stuff (ovsnet), "
        "RefCOCOg or Cityscapes, a meta file or lines of anymask data regions (wowseg, osm); "
        "scenes need none.",
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for checkpoints and the model."),
    images: Path | None = typer.Option(None, help="Folder of the pictures; default: the file's."),
    init: str = typer.Option(
        "segprompt-pocket",
        help="Where it starts: name or folder; segprompt-pocket: from nothing, or the folder of a "
        "trained one to go on from; ovsnet: open_clip's weights file; ovsnet-scenes: "
        "the folder of a trained clip-scenes, or of an ovsnet-scenes to go on from; openworldsam: "
        "a folder with SAM 2's and BEiT-3's files, or of a trained one; openworldsam-scenes: a "
        "folder with trained sam2/ and beit3/, or of a trained openworldsam-scenes to go on from; "
        "wowseg: folder of an InternVL; osm: of an OSM; internvl-scenes: of a trained "
        "internvl-vision-scenes; wowseg-scenes: of an internvl-scenes; osm-scenes: a folder with a "
        "trained eye/ (internvl-vision-scenes) and language/ (osm-language-scenes).",
    ),
    samples: int | None = typer.Option(None, min=1, help="Length of the run in pictures."),
    size: int | None = typer.Option(None, help="Side of the training canvas, a multiple of 32."),
    batch_size: int | None = typer.Option(None, min=1, help="Pictures a step."),
    lr: float | None = typer.Option(None, help="Learning rate of the matrices."),
    exhaustive: bool = typer.Option(False, help="Every object is outlined in your file."),
    micro_batch: int | None = typer.Option(None, min=1, help="Pictures a process holds at a time."),
    workers: int = typer.Option(0, min=0, help="Processes that prepare samples."),
    checkpoint_every: int = typer.Option(100, min=1, help="Steps between checkpoints."),
    keep: int = typer.Option(2, min=1, help="Checkpoints that stay, the newest ones."),
    features: Path | None = typer.Option(
        None,
        help="Of openworldsam, ovsnet and osm: folder to keep what their frozen parts see in "
        "pictures, so that they look at each only once; for pictures that come again unchanged.",
    ),
    bf16: bool = typer.Option(False, help="Mixed precision."),
    tensorboard: bool = typer.Option(False, help="Log for TensorBoard (extra train)."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    seed: int | None = typer.Option(None, help="Another seed is another run."),
    schedule: str = typer.Option("paper", help="Of openworldsam and wowseg: paper or released."),
    negatives: int = typer.Option(
        0, min=0, help="Of openworldsam: absent names a picture, to learn to say so."
    ),
    layout: str = typer.Option(
        "branch", help="Of wowseg: branch (names never depend on other masks) or released."
    ),
    mix: str = typer.Option("paper", help="Of osm: paper's shares of data sets, or equal."),
    boxes: float = typer.Option(
        0.0, min=0, max=1, help="Of osm: share of masks shown as boxes; 0.2 for parts and boxes."
    ),
    text: str | None = typer.Option(
        None, help="Of lvis-ow-text: folder or hub id of a CLIP; default: ViT-B/32."
    ),
    masks: int = typer.Option(30, min=1, help="Of wowseg: masks of a picture at most."),
    without: Path | None = typer.Option(
        None, help="Of openworldsam: folder of RefCOCOg; the pictures of its UMD val are left out."
    ),
) -> None:
    """Train a model; the same command continues an interrupted run.

    Under "torchrun --nproc-per-node N -m anymask train ..." N processes share the work and compute
    the gradients of one.
    """
    if recipe not in RECIPES:
        raise InputError(f"no recipe {recipe!r}: there are {', '.join(RECIPES)}")
    if size is not None and (size < 32 or size % 32):
        raise InputError(f"--size is {size}: give a multiple of 32")
    if schedule not in ("paper", "released"):
        raise InputError(f"--schedule is {schedule!r}: use paper or released")
    if mix not in ("paper", "equal"):
        raise InputError(f"--mix is {mix!r}: use paper or equal")
    if layout not in ("branch", "released"):
        raise InputError(f"--layout is {layout!r}: use branch or released")

    from anymask.checkpoints import DEFAULT, find, model_folder
    from anymask.training.mixture import Phase
    from anymask.training.recipe import train as carry_out

    known = find(init)
    if init != DEFAULT and known is not None and known.source == "bundled":
        init = str(model_folder(init))  # recipes that want a folder take a name as well
    common = {
        name: value
        for name, value in {"batch_size": batch_size, "seed": seed}.items()
        if value is not None
    }
    if recipe in SCENES:
        plan = _scenes(recipe, init, {"scenes": samples, "size": size, **common})
    elif data is None:
        raise InputError(f"{recipe} needs --data")
    elif not data.exists():
        raise InputError(f"--data {data} does not exist")
    elif recipe == "ovsnet":
        from anymask.training.recipes.ovsnet import BATCH, ovsnet

        length = {"steps": samples // (batch_size or BATCH)} if samples else {}
        sized = {"size": size} if size else {}
        plan = ovsnet(data, images or data.parent, Path(init), **length, **sized, **common)
    elif recipe in PHRASES:
        length = {"steps": samples // (batch_size or 8)} if samples else {}
        plan = _phrases(
            recipe, data, images, Path(init), schedule, negatives, without, {**length, **common}
        )
    elif recipe == "wowseg":
        from anymask.training.recipes.wowseg import wowseg

        if not (Path(init) / "config.json").is_file():
            raise InputError("wowseg needs --init FOLDER of an InternVL with its tokenizer")
        plan = wowseg(
            data,
            Path(init),
            schedule=schedule,  # type: ignore[arg-type]
            samples=samples,
            masks=masks,
            layout=layout,
            **common,
        )
    elif recipe == "osm":
        from anymask.training.recipes.osm import LR, osm

        if not (Path(init) / "config.json").is_file():
            raise InputError("osm needs --init FOLDER of an OSM with its tokenizers")
        plan = osm(
            data,
            Path(init),
            mix=mix,  # type: ignore[arg-type]
            samples=samples,
            batch_size=batch_size,
            seed=seed or 0,
            boxes=boxes,
            lr=lr or LR,
        )
    elif recipe in POCKETS:
        from anymask.training.recipes.segprompt_pocket import (
            segprompt_pocket,
            segprompt_pocket_examples,
        )

        given: dict[str, Any] = {"phases": [Phase(samples, size or 256)]} if samples else {}
        if lr is not None:
            given["lr"] = lr
        if recipe == "segprompt-pocket-examples":
            plan = segprompt_pocket_examples(data, model_folder(init), **given, **common)  # type: ignore[arg-type]
        else:
            if Path(init).is_dir():
                given["init"] = Path(init)
            plan = segprompt_pocket(data, **given, **common)  # type: ignore[arg-type]
    elif recipe in PAPER:
        from anymask.training.recipes import segprompt

        make = getattr(segprompt, recipe.replace("-", "_"))
        start = (model_folder(init),) if recipe in FROM_STAGE1 else ()
        shorter = {"steps": samples // (batch_size or segprompt.BATCH)} if samples else {}
        extra: dict[str, Any] = {"size": size} if size else {}
        if text is not None and recipe == "lvis-ow-text":
            extra["text"] = text
        plan = make(data, images or data.parent, *start, **shorter, **extra, **common)
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
        keep=keep,
        workers=workers,
        tensorboard=tensorboard,
        features=features,
    )
    _save_tokenizer(recipe, Path(init), out)
    typer.echo(f"model saved in {out}; use it with --model {out}")


def _save_tokenizer(recipe: str, init: Path, out: Path) -> None:
    """Put the words beside the model."""
    if recipe in ("clip-scenes", "ovsnet-scenes"):
        from anymask.nn.clip_convnext import ClipConvNextConfig
        from anymask.training.recipes.clip_scenes import scenes_tokenizer

        scenes_tokenizer(ClipConvNextConfig.small()).save_pretrained(out)
    elif recipe in ("beit3-scenes", "openworldsam-scenes"):
        from anymask.training.scene_phrases import phrase_tokenizer

        phrase_tokenizer().save_pretrained(out)
    elif recipe in ("internvl-scenes", "wowseg-scenes"):
        from anymask.training.scene_regions import names_tokenizer

        names_tokenizer().save_pretrained(out)
    elif recipe in ("osm-language-scenes", "osm-scenes"):
        from anymask.methods.osm.files import save_texts
        from anymask.training.recipes.scene_answers import answer_texts

        save_texts(answer_texts(), out)
    elif recipe in PHRASES:
        from anymask.methods.openworldsam.tokens import load_words

        load_words(init).save_pretrained(out)
    elif recipe == "osm":
        from anymask.methods.osm.files import load_texts, save_texts

        save_texts(load_texts(init), out)
    elif recipe in ("ovsnet", "wowseg"):
        from anymask.nn.text_tokens import load_tokenizer

        load_tokenizer(init if init.is_dir() else init.parent).save_pretrained(out)


def _phrases(
    recipe: str,
    data: Path,
    images: Path | None,
    init: Path,
    schedule: str,
    negatives: int,
    without: Path | None,
    options: dict[str, Any],
) -> Recipe:
    """A recipe of OpenWorldSAM on real data."""
    from anymask.data.dense import cityscapes
    from anymask.data.phrases import read_refcoco
    from anymask.methods.openworldsam import OpenWorldSAMConfig, OpenWorldSAMModel
    from anymask.methods.openworldsam.collate import Collate
    from anymask.methods.openworldsam.parts import start_from_parts
    from anymask.methods.openworldsam.tokens import load_words
    from anymask.training.recipes import openworldsam as recipes

    if (init / "config.json").is_file():
        config = OpenWorldSAMConfig.from_pretrained(init)

        def model() -> OpenWorldSAMModel:
            return OpenWorldSAMModel.from_pretrained(init)  # type: ignore[no-any-return]

    elif init.is_dir():
        changes: dict[str, Any] = {"presence_weight": 1.0, "presence_threshold": 0.3}
        made = start_from_parts(init, **(changes if negatives else {}))
        config = made.config

        def model() -> OpenWorldSAMModel:
            return made

    else:
        raise InputError(
            f"{recipe} needs --init FOLDER with SAM 2's and BEiT-3's files, or of a trained model"
        )
    collate = Collate(config, load_words(init))
    if recipe == "openworldsam-refcocog":
        sentences = read_refcoco(data, "train", "umd", images, "all")
        return recipes.openworldsam_refcocog(
            sentences,
            model,
            collate,
            schedule=schedule,  # type: ignore[arg-type]
            **options,
        )
    if recipe == "openworldsam-cityscapes":
        return recipes.openworldsam_dense(cityscapes(data, "train"), model, collate, **options)
    left_out = set() if without is None else set(read_refcoco(without, "val", "umd").files)
    return recipes.openworldsam_coco(
        data,
        images or data.parent,
        model,
        collate,
        schedule=schedule,  # type: ignore[arg-type]
        without=left_out,
        negatives=negatives,
        **options,
    )


def _scenes(recipe: str, init: str, given: dict[str, Any]) -> Recipe:
    """A recipe on drawn scenes."""
    from anymask.checkpoints import model_folder

    chosen = {name: value for name, value in given.items() if value is not None}
    folder = Path(init)
    if recipe == "clip-scenes":
        from anymask.training.recipes.clip_scenes import clip_scenes

        return clip_scenes(**chosen)
    if recipe == "segprompt-words-scenes":
        from anymask.training.recipes.segprompt_scenes import segprompt_words_scenes

        return segprompt_words_scenes(model_folder(init), **chosen)
    if recipe == "segprompt-scenes":
        from anymask.training.recipes.segprompt_scenes import segprompt_scenes

        if not (folder / "config.json").is_file():
            raise InputError("segprompt-scenes needs --init FOLDER of a segprompt-words-scenes")
        return segprompt_scenes(folder, **chosen)
    if recipe == "sam2-scenes":
        from anymask.training.recipes.sam2_scenes import sam2_scenes

        if (folder / "config.json").is_file():  # it knows names: clicks as well
            chosen = {"init": folder, "scenes": 4_000, "batch_size": 16, **chosen}
        return sam2_scenes(**chosen)
    if recipe == "sam2-names-scenes":
        from anymask.training.recipes.sam2_scenes import sam2_names_scenes

        if not (folder / "config.json").is_file():
            raise InputError("sam2-names-scenes needs --init FOLDER of a trained sam2-scenes")
        return sam2_names_scenes(folder, **chosen)
    if recipe == "beit3-scenes":
        from anymask.training.recipes.beit3_scenes import beit3_scenes

        if (folder / "config.json").is_file():  # words are learnt: go on with phrases
            chosen = {"scenes": 16_000, "batch_size": 16, **chosen}
            return beit3_scenes(init=folder, phrases=5, **chosen)
        return beit3_scenes(**chosen)
    if recipe == "openworldsam-scenes":
        from anymask.training.recipes.openworldsam_scenes import openworldsam_scenes

        parts = folder / "sam2", folder / "beit3"
        trained = (folder / "config.json").is_file()
        if not trained and not all((part / "config.json").is_file() for part in parts):
            raise InputError(
                "openworldsam-scenes needs --init FOLDER with sam2/ (a trained sam2-scenes) and "
                "beit3/ (a trained beit3-scenes), or of a trained openworldsam-scenes"
            )
        return openworldsam_scenes(folder, **chosen)
    if recipe == "internvl-vision-scenes":
        from anymask.training.recipes.wowseg_scenes import internvl_vision_scenes

        return internvl_vision_scenes(**chosen)
    if recipe == "internvl-scenes":
        from anymask.training.recipes.wowseg_scenes import internvl_scenes

        if (folder / "config.json").is_file():
            chosen = {"init": folder, **chosen}
        return internvl_scenes(**chosen)
    if recipe == "osm-language-scenes":
        from anymask.training.recipes.osm_scenes import osm_language_scenes

        length = {"samples": chosen.pop("scenes")} if "scenes" in chosen else {}
        chosen.pop("size", None)
        return osm_language_scenes(**length, **chosen)
    if recipe == "osm-scenes":
        from anymask.training.recipes.osm_scenes import osm_scenes

        parts = folder / "eye", folder / "language"
        if not all((part / "config.json").is_file() for part in parts):
            raise InputError(
                "osm-scenes needs --init FOLDER with eye/ (a trained internvl-vision-scenes) and "
                "language/ (a trained osm-language-scenes)"
            )
        return osm_scenes(folder, **chosen)
    if recipe == "wowseg-scenes":
        from anymask.training.recipes.wowseg_scenes import wowseg_scenes

        if not (folder / "config.json").is_file():
            raise InputError("wowseg-scenes needs --init FOLDER of a trained internvl-scenes")
        return wowseg_scenes(folder, **chosen)
    from anymask.training.recipes.ovsnet_scenes import ovsnet_scenes

    if not (folder / "config.json").is_file():
        raise InputError("ovsnet-scenes needs --init FOLDER of a trained clip-scenes")
    return ovsnet_scenes(folder, **chosen)
