"""Small-scale studies that can be believed.

Arms, seeds, steps, metrics, the orderings to be judged and the floors below which nothing is
claimed are declared in a file before anything runs (``training/studies/``). The harness carries the
arms out within a time budget, resumably, shares what they have in common, and judges every ordering
by the paired differences over seeds.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.stats import t as student
from transformers import TrainerCallback

from anymask.data.formats.atomic import atomic_write
from anymask.errors import DataError, InputError, OutOfTime
from anymask.training.recipe import Recipe, train
from anymask.training.trainer import read_losses

Verdict = Literal["holds", "does not hold", "within noise"]
Metrics = Mapping[str, float]


@dataclass(frozen=True)
class Arm:
    """One variant.

    Attributes:
        name: short, unique in its study.
        says: what it is, in a sentence.
        settings: what the study's ``run`` needs to know; JSON values.
        paper: the paper's own figures, metric -> value as printed there.
    """

    name: str
    says: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    paper: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ordering:
    """A claim to be judged: one arm is better than another by a metric (larger is better).

    Attributes:
        metric: one of the study's.
        better, worse: names of arms.
        floor: the mean that both arms must reach before the difference means anything.
    """

    metric: str
    better: str
    worse: str
    floor: float


@dataclass(frozen=True)
class Job:
    """What one run of one arm gets.

    Attributes:
        arm: the variant.
        seed: of weights and samples.
        steps: optimiser steps.
        folder: its own; it may hold the checkpoints of an interrupted run.
        shared: the folder that ``Study.prepare`` filled for this seed, or None.
        measure_at: steps after which to measure; the last is ``steps``.
        deadline: ``time.monotonic()`` at which to save and raise :class:`OutOfTime`, or None.
        smoke: only show that it works: measure on a handful.
        features: folder for what frozen parts see, shared by the arms of a seed, or None.
        bf16: train in mixed precision.
    """

    arm: Arm
    seed: int
    steps: int
    folder: Path
    shared: Path | None
    measure_at: tuple[int, ...]
    deadline: float | None
    smoke: bool = False
    features: Path | None = None
    bf16: bool = False

    def train(
        self,
        recipe: Recipe,
        measure: Callable[[Any], Metrics] | None = None,
        *,
        keep_features: bool = False,
    ) -> None:
        """Carry a recipe out in the job's folder.

        Args:
            recipe: what to train.
            measure: see :class:`Measurements`; None = this run is not measured.
            keep_features: let the frozen part look at pictures once for all arms of the seed.
        """
        train(
            recipe,
            self.folder,
            bf16=self.bf16,
            checkpoint_every=max(1, self.steps // 4),
            deadline=self.deadline,
            callbacks=[] if measure is None else [self.measurements(measure)],
            features=self.features if keep_features else None,
        )

    def measurements(self, measure: Callable[[Any], Metrics]) -> Measurements:
        """A Trainer callback that measures the model at ``measure_at`` into the folder."""
        return Measurements(self.folder / "curve.json", self.measure_at, measure)


@dataclass(frozen=True)
class Study:
    """A declared study.

    Attributes:
        name: what ``anymask study`` calls it.
        question: what it asks, in a sentence.
        source: paper, section, table.
        arms: at least two.
        metrics: names, larger is better; ``run`` measures all of them.
        orderings: what is to be judged.
        steps: optimiser steps of every run.
        run: carries a job out: trains, and measures by ``job.measurements``.
        seeds: at least three.
        points: measurements of a learning curve.
        prepare: what the arms of one seed share: fills ``job.folder`` (``job.arm`` has no
            meaning), which all arms then get as ``job.shared``.
        limits: what a reader should know about the scale of it.
        bf16: all runs train in mixed precision, which a processor with matrix units does faster.
    """

    name: str
    question: str
    source: str
    arms: tuple[Arm, ...]
    metrics: tuple[str, ...]
    orderings: tuple[Ordering, ...]
    steps: int
    run: Callable[[Job], None]
    seeds: tuple[int, ...] = (0, 1, 2)
    points: int = 4
    prepare: Callable[[Job], None] | None = None
    limits: str = ""
    bf16: bool = False

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        if len(names) < 2 or len(set(names)) != len(names):
            raise InputError(f"study {self.name}: at least two arms with different names")
        if len(set(self.seeds)) < 3:
            raise InputError(f"study {self.name}: at least three seeds")
        if self.points < 1 or self.steps < self.points:
            raise InputError(f"study {self.name}: at least one step a measurement")
        for claim in self.orderings:
            if claim.metric not in self.metrics or not {claim.better, claim.worse} <= set(names):
                raise InputError(f"study {self.name}: {claim} names an unknown metric or arm")

    def declaration(self) -> dict[str, Any]:
        """Everything that was decided beforehand, as JSON values."""
        return {
            "name": self.name,
            "question": self.question,
            "source": self.source,
            "arms": [asdict(arm) for arm in self.arms],
            "metrics": list(self.metrics),
            "orderings": [asdict(ordering) for ordering in self.orderings],
            "steps": self.steps,
            "seeds": list(self.seeds),
            "points": self.points,
            "limits": self.limits,
            **({"precision": "bf16"} if self.bf16 else {}),
        }


class Measurements(TrainerCallback):
    """Measures the model after given steps and keeps the numbers in a file.

    Args:
        path: JSON file, step -> metrics. Numbers of steps that are repeated after a stop are
            replaced.
        steps: when to measure.
        measure: model in evaluation mode -> metrics.
    """

    def __init__(self, path: Path, steps: Sequence[int], measure: Callable[[Any], Metrics]) -> None:
        self.path, self.steps, self.measure = path, frozenset(steps), measure

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step not in self.steps or not state.is_world_process_zero:
            return
        model = kwargs["model"]
        training = model.training
        model.eval()
        numbers = {name: float(value) for name, value in self.measure(model).items()}
        model.train(training)
        self.write({**read_curve(self.path), state.global_step: numbers})
        shown = "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())
        print(f"step {state.global_step}: {shown}", flush=True)

    def write(self, curve: Mapping[int, Metrics]) -> None:
        """Replace the file."""
        with atomic_write(self.path) as stream:
            stream.write(json.dumps({str(k): dict(v) for k, v in sorted(curve.items())}).encode())


def read_curve(path: Path) -> dict[int, Metrics]:
    """Step -> metrics of a file of :class:`Measurements`; empty when there is none yet."""
    if not path.is_file():
        return {}
    return {int(k): v for k, v in json.loads(path.read_text(encoding="utf-8")).items()}


# ------------------------------------------------------------------------------- carrying out


def carry_out(
    study: Study,
    out: Path,
    *,
    minutes: float | None = None,
    smoke: bool = False,
    say: Callable[[str], None] = print,
) -> Results:
    """Run every arm with every seed; continue where an earlier call stopped.

    Args:
        study: what to do.
        out: folder; ``ARM/seed-K/curve.json`` are the measurements.
        minutes: budget of this call; None = until it is finished.
        smoke: two steps a run, one seed and no claims: only shows that everything works.
        say: gets a line per run.

    Raises:
        OutOfTime: the budget ended; the same call continues.
        DataError: the folder holds the runs of another declaration.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    steps = 2 if smoke else study.steps
    _claim(study, out, smoke)
    points = 1 if smoke else study.points
    measure_at = tuple(steps * (k + 1) // points for k in range(points))
    # Seed by seed: an unfinished study has complete pairs.
    for seed in study.seeds[:1] if smoke else study.seeds:
        shared = None
        if study.prepare is not None:
            shared = out / "shared" / f"seed-{seed}"
            job = Job(
                Arm("shared", ""), seed, steps, shared, None, measure_at, deadline, smoke,
                bf16=study.bf16,
            )  # fmt: skip
            _once(job, study.prepare, say)
        features = out / "features"
        for arm in study.arms:
            folder = out / arm.name / f"seed-{seed}"
            job = Job(
                arm, seed, steps, folder, shared, measure_at, deadline, smoke, features, study.bf16
            )
            _once(job, study.run, say)
            if set(read_curve(folder / "curve.json")) != set(measure_at):
                raise DataError(f"{folder}: the run of {arm.name} left no complete curve.json")
        shutil.rmtree(features, ignore_errors=True)  # another seed sees other pictures
    return Results.read(study, out)


def _once(job: Job, work: Callable[[Job], None], say: Callable[[str], None]) -> None:
    done = job.folder / "done.json"
    if done.is_file():
        return
    if job.deadline is not None and time.monotonic() >= job.deadline:
        raise OutOfTime("the time is up; the same command continues the study")
    say(f"{job.arm.name}, seed {job.seed}: {job.steps} steps")
    started = time.monotonic()
    job.folder.mkdir(parents=True, exist_ok=True)
    work(job)
    for checkpoint in job.folder.glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    with atomic_write(done) as stream:
        stream.write(json.dumps({"last_seconds": round(time.monotonic() - started, 1)}).encode())


def _claim(study: Study, out: Path, smoke: bool) -> None:
    """Refuse a folder whose runs were declared otherwise."""
    declared = {**study.declaration(), "smoke": smoke}
    text = json.dumps(declared, indent=1)
    path = out / "declaration.json"
    if path.is_file() and path.read_text(encoding="utf-8") != text:
        raise DataError(
            f"{out} holds runs that were declared otherwise ({path}): a declaration does not "
            "change after the first run. Give another folder."
        )
    with atomic_write(path) as stream:
        stream.write(text.encode())


# ------------------------------------------------------------------------------------ judging


@dataclass(frozen=True)
class Judgement:
    """What the seeds say about an ordering.

    Attributes:
        ordering: the claim.
        difference: mean of better minus worse over seeds.
        low, high: its paired 95 % interval (Student's t).
        reached: both arms reached the floor.
        verdict: in three words at most.
    """

    ordering: Ordering
    difference: float
    low: float
    high: float
    reached: bool
    verdict: Verdict

    @property
    def sentence(self) -> str:
        """The judgement for people; nothing is claimed below the floor."""
        o = self.ordering
        claim = f"{o.better} > {o.worse} in {o.metric}"
        numbers = f"{self.difference:+.4f}, 95 % interval {self.low:+.4f} to {self.high:+.4f}"
        if not self.reached:
            return f"{claim}: not judged, the floor of {o.floor:g} was not reached ({numbers})."
        return f"{claim}: {self.verdict} ({numbers})."


def judge(ordering: Ordering, better: Sequence[float], worse: Sequence[float]) -> Judgement:
    """Judge an ordering by paired values, one pair a seed.

    "holds" when the whole interval of the mean difference lies above zero, "does not hold" when it
    lies below, "within noise" otherwise, and always when the floor was not reached.

    Raises:
        InputError: fewer than two pairs, or unequal numbers.
    """
    if len(better) != len(worse) or len(better) < 2:
        raise InputError("an ordering is judged by at least two pairs of values")
    differences = np.asarray(better, float) - np.asarray(worse, float)
    mean = float(differences.mean())
    half = interval(differences)
    reached = min(np.mean(better), np.mean(worse)) >= ordering.floor
    verdict: Verdict = "within noise"
    if reached and mean - half > 0:
        verdict = "holds"
    elif reached and mean + half < 0:
        verdict = "does not hold"
    return Judgement(ordering, mean, mean - half, mean + half, bool(reached), verdict)


def interval(values: Any) -> float:
    """Half the width of the 95 % interval of a mean (Student's t); NaN for a single value."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return math.nan
    spread = values.std(ddof=1) / math.sqrt(len(values))
    return float(student.ppf(0.975, len(values) - 1) * spread)


@dataclass(frozen=True)
class Results:
    """The measurements of a study.

    Attributes:
        study: the declaration.
        curves: arm -> seed -> step -> metrics; runs that are not finished are missing.
        losses: arm -> seed -> step -> training loss; empty for runs that train nothing.
    """

    study: Study
    curves: dict[str, dict[int, dict[int, Metrics]]]
    losses: dict[str, dict[int, dict[int, float]]]

    @classmethod
    def read(cls, study: Study, out: Path) -> Results:
        """Gather what the runs left in a folder."""
        curves: dict[str, dict[int, dict[int, Metrics]]] = {}
        losses: dict[str, dict[int, dict[int, float]]] = {}
        for arm in study.arms:
            runs = {seed: out / arm.name / f"seed-{seed}" for seed in study.seeds}
            done = {seed: run for seed, run in runs.items() if (run / "done.json").is_file()}
            curves[arm.name] = {seed: read_curve(run / "curve.json") for seed, run in done.items()}
            losses[arm.name] = {seed: read_losses(run) for seed, run in done.items()}
        return cls(study, curves, losses)

    def final(self, arm: str, metric: str) -> dict[int, float]:
        """Seed -> value at the end."""
        return {s: float(c[max(c)][metric]) for s, c in self.curves[arm].items()}

    def judgements(self) -> list[Judgement]:
        """Every declared ordering that has at least two pairs."""
        found = []
        for ordering in self.study.orderings:
            better = self.final(ordering.better, ordering.metric)
            worse = self.final(ordering.worse, ordering.metric)
            seeds = sorted(better.keys() & worse.keys())
            if len(seeds) >= 2:
                found.append(judge(ordering, [better[s] for s in seeds], [worse[s] for s in seeds]))
        return found

    @property
    def digest(self) -> str:
        """SHA-256 of the declaration, in hex."""
        text = json.dumps(self.study.declaration(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def markdown(self) -> str:
        """The report: question, table, judgements, limits."""
        study = self.study
        finished = min(len(runs) for runs in self.curves.values())
        lines = [
            f"# {study.name}",
            "",
            study.question,
            "",
            f"Source: {study.source}. {study.steps} steps, {finished} of {len(study.seeds)} seeds; "
            f"declaration {self.digest[:12]}. Means over seeds ± half of the 95 % interval; the "
            "paper's own figures in brackets.",
            "",
            "| arm | " + " | ".join(study.metrics) + " |",
            "|---" * (len(study.metrics) + 1) + "|",
        ]
        for arm in study.arms:
            cells = [self._cell(arm, metric) for metric in study.metrics]
            lines.append(f"| {arm.name} | " + " | ".join(cells) + " |")
        lines += ["", *(f"- **{arm.name}**: {arm.says}" for arm in study.arms)]
        lines += ["", "## Orderings", ""]
        lines += [f"- {judgement.sentence}" for judgement in self.judgements()]
        if finished < 2:
            lines.append("- None can be judged yet: at least two seeds are needed.")
        if study.limits:
            lines += ["", "## Limits", "", study.limits]
        return "\n".join(lines) + "\n"

    def _cell(self, arm: Arm, metric: str) -> str:
        values = list(self.final(arm.name, metric).values())
        printed = f" [{arm.paper[metric]:g}]" if metric in arm.paper else ""
        if not values:
            return f"-{printed}"
        half = interval(values)
        spread = "" if math.isnan(half) else f" ± {half:.4f}"
        return f"{np.mean(values):.4f}{spread}{printed}"
