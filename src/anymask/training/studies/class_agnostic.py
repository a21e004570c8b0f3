"""SegPrompt's starting observation: training without classes finds more that was never labelled."""

from __future__ import annotations

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.training.recipe import Recipe, train
from anymask.training.scene_samples import KNOWN, SceneSamples
from anymask.training.studies._scenes import recall_by_group
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 96
BATCH = 16


def run(job: Job) -> None:
    """Train one model and measure its recall by group."""
    class_aware = bool(job.arm.settings["class_aware"])
    batch = 2 if job.smoke else BATCH
    # Mask2Former's own rules: closed-world truth, no quality head, one view.
    config = SegPromptConfig.pocket(
        num_classes=len(KNOWN) if class_aware else 1,
        num_queries=64,
        quality_head=False,
        federated=False,
        views=(1.0,),
        image_long_side=SIZE,
    )
    recipe = Recipe(
        name=f"class-agnostic/{job.arm.name}",
        model=lambda: SegPromptModel(config),
        data=lambda: SceneSamples(job.steps * batch, SIZE, 100 + job.seed, class_aware),
        collate=Collate(config),
        batch_size=batch,
        optimizer="muon",
        lr=2e-3,
        others_lr=1e-3,
        weight_decay=0.05,
        warmup=50,
        decay_share=0.6,
        clip=0.0,
        seed=job.seed,
    )
    train(
        recipe,
        job.folder,
        checkpoint_every=max(1, job.steps // 8),
        deadline=job.deadline,
        callbacks=[
            job.measurements(lambda model: recall_by_group(model, 8 if job.smoke else 200, SIZE))
        ],
    )


STUDY = Study(
    name="class-agnostic",
    question=(
        "Does a model that is trained without regard to classes find more objects of classes that "
        "were never labelled than one that is trained to classify?"
    ),
    source="SegPrompt (ICCV 2023), Table 2, Mask2Former with and without class-agnostic training",
    arms=(
        Arm(
            "class-aware",
            "one output column for each of the 40 known classes; an object is whatever is any "
            "of them",
            {"class_aware": True},
            {"AR": 40.8, "AR_known": 50.2, "AR_seen": 37.4, "AR_unseen": 44.9},
        ),
        Arm(
            "class-agnostic",
            "one column: object or not",
            {"class_aware": False},
            {"AR": 42.5, "AR_known": 49.9, "AR_seen": 39.0, "AR_unseen": 47.4},
        ),
    ),
    metrics=("AR", "AR_known", "AR_seen", "AR_unseen"),
    orderings=(
        Ordering("AR", "class-agnostic", "class-aware", floor=0.15),
        Ordering("AR_seen", "class-agnostic", "class-aware", floor=0.1),
        Ordering("AR_unseen", "class-agnostic", "class-aware", floor=0.1),
    ),
    steps=800,
    run=run,
    limits=(
        "Pocket models of 4 million parameters on 96-pixel scenes of drawn things, 12,800 pictures "
        "a run; ours are fractions, the paper's figures are percent on LVIS-OW with ResNet-50."
    ),
)
