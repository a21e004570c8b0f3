"""What a training run is: a recipe (a plain value) and the function that carries it out."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Dataset
from transformers import PreTrainedModel, TrainerCallback, TrainingArguments

from anymask.errors import InputError, OutOfTime
from anymask.nn.frozen_features import FrozenFeatures
from anymask.training.muon import Muon, split_parameters
from anymask.training.trainer import (
    Deadline,
    MovingAverage,
    NumberedTrainer,
    PlainProgress,
    write_history,
)

POLY_POWER = 0.9


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run produces.

    Attributes:
        name: what ``anymask train`` calls it.
        model: builds the model to train (with its initial weights).
        data: builds the data set; its length is the length of the run.
        collate: list of samples -> keyword arguments of the model.
        batch_size: pictures of one optimiser step, over all processes and accumulation steps.
        lr: of Muon's matrices, or of AdamW.
        others_lr: of the parameters Muon leaves to AdamW.
        backbone_lr: multiplier for parameters of the backbone (AdamW only).
        optimizer: ``"muon"`` or ``"adamw"`` (the paper's).
        weight_decay: decoupled.
        decay_all: with AdamW, norms and embeddings decay too.
        warmup: steps of linear warm-up.
        drops: for ``"steps"`` decay, the shares of the run after which lr falls tenfold.
        decay: ``"linear"`` to zero over the last ``decay_share`` of the run, ``"steps"``,
            ``"poly"``: (1 - step / steps) ** 0.9, or ``"cosine"``: half a wave behind the warm-up.
        decay_share: see ``decay``.
        clip: largest norm of the gradient; 0 = no clipping.
        average: decay of the moving average whose weights are the result; 0 = none.
        seed: of the initial weights.
    """

    name: str
    model: Callable[[], PreTrainedModel]
    data: Callable[[], Dataset[Any]]
    collate: Callable[[Sequence[Any]], dict[str, Any]]
    batch_size: int = 16
    lr: float = 1e-4
    others_lr: float = 1e-3
    backbone_lr: float = 1.0
    optimizer: Literal["muon", "adamw"] = "adamw"
    weight_decay: float = 0.05
    decay_all: bool = False
    warmup: int = 10
    decay: Literal["linear", "steps", "poly", "cosine"] = "linear"
    decay_share: float = 0.5
    drops: tuple[float, ...] = ()
    clip: float = 0.01
    average: float = 0.0
    seed: int = 0


def train(
    recipe: Recipe,
    out: Path,
    *,
    micro_batch: int | None = None,
    bf16: bool = False,
    device: str = "auto",
    checkpoint_every: int = 200,
    keep: int = 2,
    workers: int = 0,
    tensorboard: bool = False,
    progress_seconds: float = 60.0,
    deadline: float | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    features: Path | None = None,
) -> Path:
    """Carry a recipe out; continue from the newest checkpoint in ``out`` when there is one.

    Run it under ``torchrun --nproc-per-node N`` to share the work between N processes; the
    gradients are those of one process with the same global batch.

    Args:
        recipe: what to train.
        out: folder for checkpoints, the log and, at the end, the model (``save_pretrained``).
        micro_batch: pictures one process handles at a time; None = its whole share of the batch.
        bf16: mixed precision; faster only where the processor has bf16 matrix units.
        device: ``"auto"``, ``"cpu"`` or ``"cuda"``.
        checkpoint_every: steps between checkpoints.
        keep: how many checkpoints stay, the newest ones.
        workers: processes that prepare samples, per training process.
        tensorboard: also log for TensorBoard (extra ``train``).
        progress_seconds: seconds between two lines for people.
        deadline: value of ``time.monotonic()`` at which to save and stop; None = run to the end.
        callbacks: further callbacks of the transformers Trainer.
        features: folder to keep what the frozen part of the model sees in pictures.

    Returns:
        ``out``.

    Raises:
        InputError: the model has no frozen part whose features could be kept.
        OutOfTime: the deadline came first; the same call continues.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    share = recipe.batch_size // world
    if share * world != recipe.batch_size:
        raise ValueError(f"a batch of {recipe.batch_size} cannot be shared by {world} processes")
    micro = min(micro_batch or share, share)
    if share % micro:
        raise ValueError(f"micro_batch {micro} does not divide a process's share of {share}")
    torch.manual_seed(recipe.seed)
    model = recipe.model()
    if features is not None:
        if not hasattr(model, "keep_features"):
            raise InputError(f"{recipe.name} has no frozen part whose features could be kept")
        model.keep_features(FrozenFeatures(features))
    data = recipe.data()
    steps = len(data) // recipe.batch_size  # type: ignore[arg-type]
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        max_grad_norm=recipe.clip,
        bf16=bf16,
        use_cpu=device == "cpu" or not torch.cuda.is_available(),
        dataloader_num_workers=workers,
        dataloader_drop_last=True,
        remove_unused_columns=False,
        save_steps=checkpoint_every,
        save_total_limit=keep,
        logging_steps=10,
        disable_tqdm=True,
        report_to=["tensorboard"] if tensorboard else [],
        ddp_find_unused_parameters=False,
        seed=recipe.seed,
        data_seed=recipe.seed,
    )
    optimizer = _optimizer(recipe, model)
    average = MovingAverage(recipe.average) if recipe.average else None
    trainer = NumberedTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        data_collator=recipe.collate,
        optimizers=(optimizer, LambdaLR(optimizer, lambda step: _factor(recipe, step, steps))),
        callbacks=[
            PlainProgress(progress_seconds),
            *([average] if average else []),
            *([Deadline(deadline)] if deadline is not None else []),
            *callbacks,
        ],
    )
    # The lines of the default printer are raw dictionaries; ours are for people.
    from transformers import PrinterCallback
    from transformers.utils import logging

    trainer.remove_callback(PrinterCallback)
    logging.disable_progress_bar()  # a bar per saved checkpoint
    trainer.train(resume_from_checkpoint=_newest(out))
    if trainer.state.global_step < steps:
        raise OutOfTime(
            f"{out}: stopped after step {trainer.state.global_step} of {steps} because the time is "
            "up; the same command continues there"
        )
    if average is not None:
        average.apply(model)
    if trainer.is_world_process_zero():
        model.save_pretrained(out)
        write_history(trainer, out)
    return out


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "muon":
        return Muon(
            *split_parameters(model),
            lr=recipe.lr,
            others_lr=recipe.others_lr,
            weight_decay=recipe.weight_decay,
        )
    # Mask2Former's groups: no decay for norms and embeddings, a slower backbone.
    free = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm2d, nn.Embedding)
    exempt = {id(p) for m in model.modules() if isinstance(m, free) for p in m.parameters(False)}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            free_of_decay = id(p) in exempt and not recipe.decay_all
            decay = 0.0 if free_of_decay else recipe.weight_decay
            speed = recipe.backbone_lr if "backbone" in name.split(".")[:2] else 1.0
            groups.setdefault((decay, speed), []).append(p)
    return torch.optim.AdamW(
        [
            {"params": params, "weight_decay": decay, "lr": recipe.lr * speed}
            for (decay, speed), params in groups.items()
        ]
    )


def _factor(recipe: Recipe, step: int, steps: int) -> float:
    warm = min(1.0, (step + 1) / max(1, recipe.warmup))
    if recipe.decay == "steps":
        passed = sum(step >= drop * steps for drop in recipe.drops)
        return warm * float(0.1**passed)
    if recipe.decay == "poly":
        return warm * float((1 - min(step, steps) / steps) ** POLY_POWER)
    if recipe.decay == "cosine":
        done = (step - recipe.warmup) / max(1, steps - recipe.warmup)
        return warm * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
    left = (steps - step) / max(1.0, recipe.decay_share * steps)
    return warm * min(1.0, max(left, 0.0))


def _newest(out: Path) -> str | None:
    complete = [p for p in out.glob("checkpoint-*") if (p / "trainer_state.json").is_file()]
    if not complete:
        return None
    return str(max(complete, key=lambda p: int(p.name.rsplit("-", 1)[1])))
