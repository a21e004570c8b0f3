"""OVSNet's Tables 3, 4a and 4b at small scale: what aggregation and proxies are worth.

All arms stand on one frozen CLIP, that of the bundled ``ovsnet-scenes``, which has read every word;
the segmenter learns known things and stuff, and is asked for everything.
"""

from __future__ import annotations

from anymask.checkpoints import bundled_folder
from anymask.methods.ovsnet.inference import OVSNetMatcher
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.training.recipe import train
from anymask.training.recipes.clip_scenes import scenes_tokenizer
from anymask.training.recipes.ovsnet_scenes import ovsnet_scenes
from anymask.training.studies._scenes import miou_by_group
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 256
BATCH = 8


def prepare(job: Job) -> None:
    """The frozen CLIP alone, out of the bundled model."""
    model = OVSNetModel.from_pretrained(bundled_folder("ovsnet-scenes"))
    model.clip.save_pretrained(job.folder)


def run(job: Job) -> None:
    """Train one arm and measure it."""
    assert job.shared is not None
    size, batch, count = (128, 2, 2) if job.smoke else (SIZE, BATCH, 60)
    quick = {"templates": ("{}",)} if job.smoke else {}
    settings = {**job.arm.settings, **quick}
    plan = ovsnet_scenes(job.shared, job.steps * batch, batch, job.seed, size, **settings)

    def measure(model: OVSNetModel) -> dict[str, float]:
        matcher = OVSNetMatcher(model, scenes_tokenizer(model.config.clip), model.device)
        return miou_by_group(matcher, count, size)

    train(
        plan,
        job.folder,
        checkpoint_every=max(1, job.steps // 4),
        deadline=job.deadline,
        callbacks=[job.measurements(measure)],
    )


NO_PROXIES = {"proxy_weight": 0.0}
NO_WALK = {"aggregation": "none"}
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
    steps=300,
    run=run,
    prepare=prepare,
    points=2,
    limits=(
        "A CLIP of 2.7 M parameters and a segmenter of 0.8 M on 256-pixel scenes of drawn things, "
        "2,400 pictures a run. Ours are fractions of mIoU over known and unseen things, the "
        "paper's figures are percent on ADE-150 and OpenBench. The paper's row \"gamma = 1\" "
        "repeats its baseline; here gamma = 1 is what it says, uniform weights."
    ),
)  # fmt: skip
