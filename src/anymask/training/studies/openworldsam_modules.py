"""OpenWorldSAM's Tables 4 and 5 at small scale: what its parts are worth.

All arms go on from the bundled ``openworldsam-scenes``: its frozen SAM 2 and BEiT-3, and of its
adapter what the arm has too. An adapter from nothing learns stuff in so few steps, and no things.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from anymask.checkpoints import bundled_folder
from anymask.methods.openworldsam import OpenWorldSAMConfig, OpenWorldSAMModel, PhraseFinder
from anymask.methods.openworldsam.collate import Collate
from anymask.training.recipes.openworldsam_scenes import LOSSES, openworldsam_scenes
from anymask.training.scene_phrases import phrase_tokenizer
from anymask.training.studies._scenes import phrase_metrics
from anymask.training.study import Arm, Job, Ordering, Study

BATCH = 4
PHRASES = 3  # a scene
K = 5


def run(job: Job) -> None:
    """Train one arm and measure it."""
    size, batch, count = (128, 1, 1) if job.smoke else (256, BATCH, 40)
    bundled = bundled_folder("openworldsam-scenes")
    settings = {**OpenWorldSAMConfig.from_pretrained(bundled).to_dict(), **LOSSES}
    config = OpenWorldSAMConfig(**{**settings, "num_tie_breakers": K, **job.arm.settings})
    plan = replace(
        openworldsam_scenes(bundled, job.steps * batch, batch, job.seed, size, PHRASES),
        model=lambda: going_on(bundled, config),
        collate=Collate(config, phrase_tokenizer()),
    )

    def measure(model: OpenWorldSAMModel) -> dict[str, float]:
        finder = PhraseFinder(model, phrase_tokenizer(), model.device)
        one, two = (phrase_metrics(finder, count, size, two_stage=stage) for stage in (False, True))
        nothing = {"F1@50": float("nan")}
        return {
            "F1": one["all"]["F1@50"],
            "F1_known": one.get("means known", nothing)["F1@50"],
            "F1_unseen": one.get("means unseen", nothing)["F1@50"],
            "F1_stuff": one.get("stuff", nothing)["F1@50"],
            "cIoU": one["all"]["cIoU"],
            "cIoU_two_stage": two["all"]["cIoU"],
        }

    job.train(plan, measure, keep_features=True)


def going_on(trained: Path, config: OpenWorldSAMConfig) -> OpenWorldSAMModel:
    """A model of another shape with every weight that a trained one has for it; of more
    tie-breakers than that one has the rest is drawn."""
    model = OpenWorldSAMModel(config)
    have = model.state_dict()
    for name, value in OpenWorldSAMModel.from_pretrained(trained).state_dict().items():
        if name not in have:
            continue
        rows = tuple(
            slice(0, min(a, b)) for a, b in zip(value.shape, have[name].shape, strict=True)
        )
        have[name][rows] = value[rows]
    model.load_state_dict(have)
    return model


COLUMNS = ("F1", "F1_known", "F1_unseen", "F1_stuff", "cIoU", "cIoU_two_stage")
# The paper's columns nearest to ours: AP on ADE20K for things, RefCOCOg's cIoU for phrases.
E1 = {"num_tie_breakers": 0, "num_layers": 0}
E3 = {"num_layers": 0}

STUDY = Study(
    name="openworldsam-modules",
    question="What are tie-breakers, soft prompting, a frozen reader and early fusion worth?",
    source="OpenWorldSAM (NeurIPS 2025), Tables 4 and 5",
    arms=(
        Arm("E1", "the projector alone, one query a phrase", E1, {"F1": 1.0}),
        Arm("E3", "projector and tie-breakers", E3, {"F1": 17.1}),
        Arm("E4", "the same, and the reader is tuned", {**E3, "train_reader": True}, {"F1": 3.5}),
        Arm("E5", "OpenWorldSAM", {}, {"F1": 16.9, "cIoU": 74.0}),
        Arm("E6", "everything is tuned", {"train_reader": True}, {"F1": 3.8}),
        Arm("text-only", "the reader sees no picture", {"use_picture": False}, {"cIoU": 26.1}),
        Arm("late", "it reads picture and phrase apart", {"fusion": "concat"}, {"cIoU": 25.3}),
        *(Arm(f"K-{k}", f"K = {k} instead of {K}", {"num_tie_breakers": k}) for k in (1, 20, 40)),
    ),
    metrics=COLUMNS,
    orderings=(
        *(
            Ordering(metric, better, worse, floor)
            for metric, floor in (("F1", 0.05), ("F1_stuff", 0.1), ("cIoU", 0.05))
            for better, worse in (
                ("E3", "E1"),
                ("E5", "E3"),
                ("E3", "E4"),
                ("E5", "E6"),
                ("E5", "text-only"),
                ("E5", "late"),
                ("E5", "K-1"),
                ("K-20", "E5"),
                ("K-40", "K-20"),
            )
        ),
    ),
    steps=150,
    run=run,
    points=1,
    bf16=True,
    limits=(
        "A SAM 2 of 2.7 M and a BEiT-3 of 3.4 M parameters, trained on scenes for one to three "
        "hours on a processor core; K = 5. The arms go on from the bundled adapter (K = 10) for "
        "600 scenes with three phrases each: what an arm lacks is taken away, and the rest learns "
        "to do without, so that arms far from OpenWorldSAM have the longer way. Both frozen "
        "parts have seen unseen things, the adapter has not. Ours are fractions (F1 at IoU 0.5), "
        "the paper's figures are AP on ADE20K (column F1) and cIoU on RefCOCOg in percent. Names "
        "of stuff are asked for beside the phrases (F1_stuff). E2, the tie-breakers "
        "of E3 without any words, has one number in the paper and is left out. Two-stage "
        "refinement is measured on every arm instead of being one."
    ),
)
