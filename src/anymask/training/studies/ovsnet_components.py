"""OVSNet's Tables 3, 4a and 4b at small scale: what aggregation and proxies are worth.

All arms of a seed go on from one model: the bundled ``ovsnet-scenes``, trained further with
neither, so that none of the parts has a head start. Its frozen CLIP has read every word; the
segmenter learns known things and stuff, and is asked for everything.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anymask.checkpoints import bundled_folder
from anymask.methods.ovsnet.inference import OVSNetMatcher
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.training.recipe import Recipe
from anymask.training.recipes.clip_scenes import scenes_tokenizer
from anymask.training.recipes.ovsnet_scenes import ovsnet_scenes
from anymask.training.studies._scenes import miou_by_group
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 256
BATCH = 8
BEFORE = 150  # steps with neither before the arms part
LR = 1e-3
NO_PROXIES = {"proxy_weight": 0.0}
NO_WALK = {"aggregation": "none"}


def prepare(job: Job) -> None:
    """The model that all arms of a seed start from."""
    steps = 1 if job.smoke else BEFORE
    start = bundled_folder("ovsnet-scenes")
    job.train(_plan(job, start, steps, 10 + job.seed, NO_WALK | NO_PROXIES))


def _plan(job: Job, init: Path, steps: int, seed: int, settings: Mapping[str, Any]) -> Recipe:
    size, batch = (128, 2) if job.smoke else (SIZE, BATCH)
    quick = {"templates": ("{}",)} if job.smoke else {}
    return ovsnet_scenes(init, steps * batch, batch, seed, size, LR, **settings, **quick)


def run(job: Job) -> None:
    """Train one arm and measure it."""
    assert job.shared is not None
    size, count = (128, 2) if job.smoke else (SIZE, 60)
    settings = job.arm.settings
    plan = _plan(job, job.shared, job.steps, job.seed, settings)

    def measure(model: OVSNetModel) -> dict[str, float]:
        matcher = OVSNetMatcher(model, scenes_tokenizer(model.config.clip), model.device)
        return miou_by_group(matcher, count, size)

    job.train(plan, measure)


COLUMNS = ("mIoU", "mIoU_known", "mIoU_unseen")


def _arm(name: str, says: str, settings: dict[str, object], *paper: float) -> Arm:
    # The paper's columns nearest to ours: ADE-150 (near words) and OpenBench (far words).
    return Arm(name, says, settings, dict(zip(("mIoU_known", "mIoU_unseen"), paper, strict=True)))


STUDY = Study(
    name="ovsnet-components",
    question="What are Gradient-Free Aggregation and Proxy Calibration worth?",
    source="OVSNet (ICCV 2025), Tables 3, 4a and 4b",
    arms=(
        _arm("baseline", "neither", {**NO_WALK, **NO_PROXIES}, 33.1, 42.3),
        _arm("gfa", "aggregation only", {**NO_PROXIES}, 34.7, 43.7),
        _arm("pc", "proxies only, gamma 2", {**NO_WALK}, 33.9, 44.3),
        _arm("both", "OVSNet", {}, 35.8, 44.9),
        _arm(
            "self-attention", "a learnt fusion instead of aggregation",
            {"aggregation": "self", **NO_PROXIES}, 34.0, 40.6,
        ),
        _arm(
            "cross-attention", "another learnt fusion",
            {"aggregation": "cross", **NO_PROXIES}, 34.2, 41.2,
        ),
        _arm("pc-gamma-0.5", "proxies near the words", {**NO_WALK, "proxy_gamma": 0.5}, 33.6, 43.7),
        _arm("pc-gamma-1", "proxies anywhere", {**NO_WALK, "proxy_gamma": 1.0}, 33.1, 42.3),
    ),
    metrics=COLUMNS,
    orderings=tuple(
        Ordering(metric, better, worse, floor=0.1)
        for metric in COLUMNS
        for better, worse in (
            ("gfa", "baseline"),
            ("pc", "baseline"),
            ("both", "gfa"),
            ("both", "pc"),
            ("gfa", "cross-attention"),
            ("cross-attention", "self-attention"),
            ("pc", "pc-gamma-0.5"),
        )
    ),
    steps=100,
    run=run,
    prepare=prepare,
    points=1,
    limits=(
        "A CLIP of 2.7 M parameters and a segmenter of 0.8 M on 256-pixel scenes of drawn things, "
        "800 pictures a run behind 1,200 that the arms of a seed share. The start once learnt with "
        "both parts. Ours are fractions of mIoU over known and unseen things, the "
        "paper's figures are percent on ADE-150 and OpenBench. The paper's row \"gamma = 1\" "
        "repeats its baseline; here gamma = 1 is what it says, uniform weights."
    ),
)  # fmt: skip
