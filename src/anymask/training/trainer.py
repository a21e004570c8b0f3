"""One training set-up for all methods, on the transformers ``Trainer``.

Data parallelism, mixed precision, accumulation, checkpoints and TensorBoard are the Trainer's.
Added here: samples in the order of their numbers, an exponential moving average of the weights,
named loss parts in the log, and a line a minute for people.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainerCallback

from anymask.errors import CheckpointError
from anymask.nn.distributed import mean_over_processes

HISTORY = "history.json"


class NumberedTrainer(Trainer):
    """A Trainer that draws sample 0, 1, 2, ... of a data set that is itself the shuffled run.

    A model's output must carry ``loss`` and may carry ``loss_parts`` (name -> scalar), whose means
    are logged beside it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._parts: dict[str, Tensor] = defaultdict(lambda: torch.zeros(()))
        self._counted = 0

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        assert self.train_dataset is not None
        return SequentialSampler(self.train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """As the Trainer does, but by the names that the model itself has.

        ``save_pretrained`` writes the names of older releases where a family has any (InternVL's
        language model), and resuming looks for the model's own and passes over what it misses.
        """
        super()._save(output_dir, state_dict)
        self.model.save_pretrained(
            output_dir or self.args.output_dir,
            state_dict=state_dict,
            is_main_process=self.args.should_save,
            save_original_format=False,
        )

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """A checkpoint that lacks weights is no checkpoint."""
        tied = set(getattr(self.model, "all_tied_weights_keys", None) or ())
        tied |= set(getattr(self.model, "_keys_to_ignore_on_save", None) or ())
        missing = sorted(set(load_result.missing_keys) - tied)
        if missing:
            raise CheckpointError(
                f"the checkpoint in {self.args.output_dir} lacks {len(missing)} weights of the "
                f"model, {missing[0]} first; it was written by another release or for another "
                "model: start again in another folder, from its last saved model"
            )

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | None = None,
    ) -> Any:
        """The model's own loss; it is already normalised over all processes."""
        output = model(**inputs)
        for name, part in (output.loss_parts or {}).items():
            self._parts[name] = self._parts[name] + part.float().cpu()
        self._counted += 1
        return (output.loss, output) if return_outputs else output.loss

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Add the means of the loss parts since the last line."""
        if self._counted and "loss" in logs:
            names = sorted(self._parts)
            means = torch.stack([self._parts[n] for n in names]) / self._counted
            means = mean_over_processes(means)
            logs = {**logs, **{f"loss_{n}": round(float(m), 5) for n, m in zip(names, means)}}
            self._parts.clear()
            self._counted = 0
        super().log(logs, *args, **kwargs)


class MovingAverage(TrainerCallback):
    """Exponential moving average of the weights, saved in checkpoints as ``ema.safetensors``.

    Args:
        decay: weight of the past after one step; it grows from 0 to this value as
            (1 + steps) / (10 + steps), so that the random start is forgotten quickly.
    """

    def __init__(self, decay: float = 0.999) -> None:
        self.decay = decay
        self.average: dict[str, Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        model = kwargs["model"]
        saved = Path(args.output_dir) / f"checkpoint-{state.global_step}" / "ema.safetensors"
        if state.global_step and saved.is_file():
            self.average = load_file(saved)
        else:
            self.average = {n: t.detach().clone() for n, t in _floats(model).items()}

    @torch.no_grad()
    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        decay = min(self.decay, (1 + state.global_step) / (10 + state.global_step))
        current = _floats(kwargs["model"])
        names = list(self.average)
        mine = [self.average[n] for n in names]
        torch._foreach_lerp_(mine, [current[n].to(self.average[n]) for n in names], 1 - decay)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            save_file(
                {n: t.contiguous() for n, t in self.average.items()}, folder / "ema.safetensors"
            )

    def apply(self, model: nn.Module) -> None:
        """Put the average into the model."""
        model.load_state_dict(self.average, strict=False)


class Deadline(TrainerCallback):
    """Saves and stops after the first step that ends at or behind a time.

    Args:
        at: value of ``time.monotonic()``.
    """

    def __init__(self, at: float) -> None:
        self.at = at

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if time.monotonic() >= self.at and state.global_step < state.max_steps:
            control.should_save = control.should_training_stop = True


class PlainProgress(TrainerCallback):
    """A line a minute: step, samples a second, time left, the last loss."""

    def __init__(self, every: float = 60.0) -> None:
        self.every = every
        self.started = self.last = time.monotonic()
        self.first_step = 0
        self.loss: dict[str, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.started = self.last = time.monotonic()
        self.first_step = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.loss = {k: v for k, v in (kwargs.get("logs") or {}).items() if "loss" in k}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        if state.is_world_process_zero and (now - self.last > self.every):
            self.last = now
            done = state.global_step - self.first_step
            rate = done / (now - self.started)
            left = (state.max_steps - state.global_step) / max(rate, 1e-9) / 60
            shown = " ".join(f"{k} {float(v):.3f}" for k, v in self.loss.items())
            print(
                f"step {state.global_step}/{state.max_steps}  {left:.0f} min left  {shown}",
                flush=True,
            )


def _floats(model: nn.Module) -> dict[str, Tensor]:
    inner = model.module if hasattr(model, "module") else model
    return {n: t for n, t in inner.state_dict().items() if t.is_floating_point()}  # type: ignore[union-attr]


def write_history(trainer: Trainer, folder: Path) -> None:
    """Save the log of a run (a list of records) as JSON."""
    (folder / HISTORY).write_text(json.dumps(trainer.state.log_history, indent=1))


def read_losses(folder: Path) -> dict[int, float]:
    """Step -> training loss out of a run's log; empty where nothing was trained."""
    if not (folder / HISTORY).is_file():
        return {}
    records = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    return {int(record["step"]): float(record["loss"]) for record in records if "loss" in record}
