"""The study harness: declarations bind, runs resume, and nothing is claimed beyond the numbers."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.errors import DataError, InputError, OutOfTime
from anymask.training.curves import draw_curves
from anymask.training.studies import load_study, study_names
from anymask.training.study import (
    Arm,
    Job,
    Ordering,
    Results,
    Study,
    carry_out,
    interval,
    judge,
    read_curve,
)

CLAIM = Ordering("score", "good", "bad", floor=0.1)


def pretend(job: Job) -> None:
    """A run without training: values that differ by arm and seed."""
    base = {"good": 0.5, "bad": 0.4, "shared": 0.0}[job.arm.name] + 0.01 * job.seed
    if job.arm.name == "shared":
        (job.folder / "features.txt").write_text(f"of seed {job.seed}")
        return
    if job.shared is not None:
        assert (job.shared / "features.txt").read_text() == f"of seed {job.seed}"
    measured = job.measurements(lambda model: {})
    measured.write({step: {"score": base * step / job.steps} for step in job.measure_at})
    with (job.folder / "runs.txt").open("a") as log:
        log.write("run\n")


STUDY = Study(
    name="pretended",
    question="Is good better than bad?",
    source="nowhere",
    arms=(Arm("good", "the better one", paper={"score": 44.9}), Arm("bad", "the worse one")),
    metrics=("score",),
    orderings=(CLAIM,),
    steps=100,
    run=pretend,
    limits="Nothing is trained.",
)


# ------------------------------------------------------------------------------------ judging


def test_the_interval_is_students() -> None:
    # t(0.975, 2) = 4.302653; the standard error of 1, 2, 3 is 1 / sqrt(3).
    assert interval([1, 2, 3]) == pytest.approx(4.302653 / math.sqrt(3), abs=1e-6)
    assert math.isnan(interval([1.0]))


@pytest.mark.parametrize(
    ("better", "worse", "verdict"),
    [
        ([0.50, 0.51, 0.52], [0.40, 0.41, 0.415], "holds"),
        ([0.40, 0.41, 0.415], [0.50, 0.51, 0.52], "does not hold"),
        ([0.50, 0.40, 0.45], [0.42, 0.46, 0.40], "within noise"),
        # Seeds shift both alike: only the pairs show the difference.
        ([0.30, 0.50, 0.70], [0.28, 0.479, 0.681], "holds"),
        ([0.05, 0.051, 0.052], [0.01, 0.011, 0.0115], "within noise"),
    ],
)
def test_verdicts(better: list[float], worse: list[float], verdict: str) -> None:
    found = judge(CLAIM, better, worse)
    assert found.verdict == verdict
    assert found.difference == pytest.approx(np.mean(better) - np.mean(worse))
    if found.reached:
        assert f"good > bad in score: {verdict} (" in found.sentence
    else:
        assert "not judged, the floor of 0.1 was not reached" in found.sentence
        assert "holds" not in found.sentence


@given(
    st.lists(st.tuples(st.floats(0.2, 1), st.floats(0.2, 1)), min_size=2, max_size=6),
)
def test_both_directions_are_never_claimed(pairs: list[tuple[float, float]]) -> None:
    one, two = zip(*pairs)
    forth, back = judge(CLAIM, one, two), judge(CLAIM, two, one)
    assert (forth.verdict == "holds") == (back.verdict == "does not hold")
    assert forth.low <= forth.difference <= forth.high


def test_judging_needs_pairs() -> None:
    for better, worse in [([0.5], [0.4]), ([0.5, 0.6], [0.4])]:
        with pytest.raises(InputError, match="at least two pairs"):
            judge(CLAIM, better, worse)


# ------------------------------------------------------------------------------- declarations


def test_a_study_declares_enough() -> None:
    with pytest.raises(InputError, match="three seeds"):
        replace(STUDY, seeds=(0, 1))
    with pytest.raises(InputError, match="two arms"):
        replace(STUDY, arms=STUDY.arms[:1])
    with pytest.raises(InputError, match="unknown metric or arm"):
        replace(STUDY, orderings=(Ordering("speed", "good", "bad", 0),))
    with pytest.raises(InputError, match="one step a measurement"):
        replace(STUDY, steps=3)


def test_a_declaration_binds(tmp_path: Path) -> None:
    carry_out(STUDY, tmp_path, say=lambda line: None)
    moved = replace(STUDY, orderings=(Ordering("score", "bad", "good", floor=0.1),))
    with pytest.raises(DataError, match="declared otherwise"):
        carry_out(moved, tmp_path)
    with pytest.raises(DataError, match="declared otherwise"):
        carry_out(STUDY, tmp_path, smoke=True)


# ------------------------------------------------------------------------------- carrying out


def test_runs_are_done_once_and_shared_work_is_shared(tmp_path: Path) -> None:
    study = replace(STUDY, prepare=pretend)
    said: list[str] = []
    results = carry_out(study, tmp_path, say=said.append)
    assert said == [
        f"{arm}, seed {seed}: 100 steps" for seed in (0, 1, 2) for arm in ("shared", "good", "bad")
    ]
    said.clear()
    assert carry_out(study, tmp_path, say=said.append).curves == results.curves
    assert said == []
    assert results.final("good", "score") == pytest.approx({0: 0.5, 1: 0.51, 2: 0.52})
    assert sorted(results.curves["bad"][0]) == [25, 50, 75, 100]


def test_a_budget_stops_between_runs_and_the_next_call_continues(tmp_path: Path) -> None:
    with pytest.raises(OutOfTime, match="continues"):
        carry_out(STUDY, tmp_path, minutes=0)
    assert not list(tmp_path.glob("*/seed-*"))
    assert "None can be judged yet" in Results.read(STUDY, tmp_path).markdown()
    calls = []

    def slow(job: Job) -> None:
        calls.append(job)
        if len(calls) == 4:
            assert job.deadline is not None
            raise OutOfTime("up")
        pretend(job)

    with pytest.raises(OutOfTime):
        carry_out(replace(STUDY, run=slow), tmp_path, minutes=5)
    half = Results.read(STUDY, tmp_path)
    assert {arm: sorted(runs) for arm, runs in half.curves.items()} == {"good": [0, 1], "bad": [0]}
    finished = carry_out(STUDY, tmp_path)
    assert all(len(runs) == 3 for runs in finished.curves.values())
    assert all(p.read_text() == "run\n" for p in tmp_path.glob("*/seed-*/runs.txt"))


def test_a_run_without_measurements_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no complete curve"):
        carry_out(replace(STUDY, run=lambda job: None), tmp_path, say=lambda line: None)


def test_the_report_shows_ours_beside_the_papers(tmp_path: Path) -> None:
    results = carry_out(STUDY, tmp_path, say=lambda line: None)
    text = results.markdown()
    assert "| good | 0.5100 ± 0.0248 [44.9] |" in text
    assert "good > bad in score: holds (+0.1000" in text
    assert "3 of 3 seeds" in text
    assert "Nothing is trained." in text
    draw_curves(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert results.losses == {"good": {0: {}, 1: {}, 2: {}}, "bad": {0: {}, 1: {}, 2: {}}}


def test_the_report_has_the_training_losses(tmp_path: Path) -> None:
    carry_out(STUDY, tmp_path, say=lambda line: None)
    log = [{"step": 10, "loss": 2.5}, {"step": 20, "loss": 1.5}, {"step": 20, "train_runtime": 3.0}]
    (tmp_path / "good" / "seed-1" / "history.json").write_text(json.dumps(log))
    results = Results.read(STUDY, tmp_path)
    assert results.losses["good"][1] == {10: 2.5, 20: 1.5}
    assert results.losses["bad"][1] == {}
    for name, study in (("lines", STUDY), ("points", replace(STUDY, points=1))):
        draw_curves(replace(results, study=study), tmp_path / f"{name}.svg")
        drawn = (tmp_path / f"{name}.svg").read_text()
        assert "<!-- training loss -->" in drawn
        assert "<!-- good -->" in drawn


# --------------------------------------------------------------------------- the real studies


def few(study: Study) -> Study:
    """The same study with three of its arms, or fewer."""
    arms = study.arms
    if len(arms) > 3:
        arms = (arms[0], arms[len(arms) // 2], arms[-1])
    return replace(study, arms=arms, orderings=())


@pytest.mark.parametrize("name", study_names())
def test_every_declared_study_runs_two_steps(tmp_path: Path, name: str) -> None:
    study = load_study(name)
    assert study.name == name
    small = few(study)
    results = carry_out(small, tmp_path, smoke=True, say=lambda _: None)
    assert set(results.curves) == {arm.name for arm in small.arms}
    for arm in results.curves.values():
        for curve in arm.values():
            assert set(curve[2]) >= set(study.metrics)
        assert len(arm) == 1


def test_a_study_in_the_terminal(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study", "class-agnostic", "--smoke", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "None can be judged yet" in (tmp_path / "report.md").read_text()
    curves = json.loads((tmp_path / "results.json").read_text())["curves"]
    assert set(curves) == {arm.name for arm in load_study("class-agnostic").arms}
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_an_interrupted_arm_continues_from_its_checkpoint(tmp_path: Path) -> None:
    """The whole way: a deadline inside of a run, and the same numbers as without it."""
    from anymask.training.studies.class_agnostic import STUDY as REAL

    def job(folder: Path, deadline: float | None) -> Job:
        folder.mkdir(exist_ok=True)
        return Job(REAL.arms[0], 0, 2, folder, None, (1, 2), deadline, smoke=True)

    with pytest.raises(OutOfTime, match="step 1 of 2"):
        REAL.run(job(tmp_path / "a", time.monotonic()))
    assert sorted(read_curve(tmp_path / "a" / "curve.json")) == [1]
    REAL.run(job(tmp_path / "a", None))
    REAL.run(job(tmp_path / "b", None))
    one, two = (read_curve(tmp_path / side / "curve.json") for side in "ab")
    assert one == two
    assert sorted(one) == [1, 2]


def test_unknown_studies_are_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["study"])
    assert "class-agnostic: Does a model" in result.output
    result = CliRunner().invoke(app, ["study", "nothing", "--out", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "class-agnostic" in str(result.exception)
