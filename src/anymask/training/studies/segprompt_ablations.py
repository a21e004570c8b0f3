"""SegPrompt's Tables 5, 6 and 7 at small scale: what each part of prompt learning is worth.

All arms continue one class-agnostic model for the same extra steps with a frozen backbone, as the
released LVIS-OW configuration does; ``none`` is therefore the control that only trains longer.
"""

from __future__ import annotations

from typing import Any

from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.training.recipe import Recipe
from anymask.training.scene_samples import KNOWN, SceneSamples
from anymask.training.studies._scenes import recall_by_group
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 96
BATCH = 16
STAGE1_FACTOR = 2  # stage 1 is so many times as long as stage 2

SEGMENTER: dict[str, Any] = {
    "num_queries": 64,
    "quality_head": False,
    "federated": False,
    "views": (1.0,),
    "image_long_side": SIZE,
}
PROMPTS: dict[str, Any] = {
    "prompt_classes": len(KNOWN),
    "queries_per_class": 4,
    "max_classes": 8,
    "max_examples": 5,
    "min_mask_area": 16,
    "freeze_backbone": True,
}


def stage1(job: Job) -> None:
    """The class-agnostic model that all arms of a seed continue."""
    config = SegPromptConfig.pocket(**SEGMENTER)
    job.train(_recipe(job, "stage1", SegPromptModel(config), STAGE1_FACTOR * job.steps, 2e-3))


def run(job: Job) -> None:
    """Continue stage 1 under the arm's rules and measure its recall by group."""
    assert job.shared is not None
    config = PromptLearningConfig.pocket(**{**SEGMENTER, **PROMPTS, **job.arm.settings})
    model = PromptLearningModel(config)
    model.segmenter.load_state_dict(SegPromptModel.from_pretrained(job.shared).state_dict())
    count = 8 if job.smoke else 200
    job.train(
        _recipe(job, job.arm.name, model, job.steps, 1e-3),
        lambda model: recall_by_group(model.segmenter, count, SIZE),
    )


def _recipe(job: Job, name: str, model: Any, steps: int, lr: float) -> Recipe:
    # Stage 1 and stage 2 see different scenes; all arms of a seed see the same ones.
    batch = 2 if job.smoke else BATCH
    world = (300 if name == "stage1" else 400) + job.seed
    return Recipe(
        name=f"segprompt-ablations/{name}",
        model=lambda: model,
        data=lambda: SceneSamples(steps * batch, SIZE, world, class_aware=name != "stage1"),
        collate=Collate(model.config),
        batch_size=batch,
        optimizer="muon",
        lr=lr,
        others_lr=lr / 2,
        weight_decay=0.05,
        warmup=50,
        decay_share=0.6,
        clip=0.0,
        seed=job.seed,
    )


NO_EXAMPLES = {"example_supervision": "off"}
COLUMNS = ("AR", "AR_known", "AR_seen", "AR_unseen")


def _arm(name: str, says: str, settings: dict[str, Any], *paper: float) -> Arm:
    return Arm(name, says, settings, dict(zip(COLUMNS, paper, strict=True)))


STUDY = Study(
    name="segprompt-ablations",
    question="What is each part of SegPrompt's auxiliary supervision worth?",
    source="SegPrompt (ICCV 2023), Tables 5, 6 and 7",
    arms=(
        _arm(
            "none", "class-agnostic training continued (the control)",
            {"auxiliary": "none"}, 42.5, 49.9, 39.0, 47.4,
        ),
        _arm(
            "vanilla", "an ordinary multi-class head on the same queries",
            {"auxiliary": "vanilla"}, 43.0, 51.4, 39.3, 47.9,
        ),
        _arm("segprompt", "all of it", {}, 44.9, 52.2, 41.2, 50.3),
        _arm(
            "no-example-supervision", "examples have no loss of their own",
            {**NO_EXAMPLES}, 44.1, 51.9, 40.6, 49.1,
        ),
        _arm(
            "no-class-embedding", "v = p + r, without example supervision",
            {**NO_EXAMPLES, "use_class_embedding": False}, 43.3, 51.9, 39.6, 48.3,
        ),
        _arm(
            "no-prompt", "v = s + r, without example supervision",
            {**NO_EXAMPLES, "use_prompt": False}, 42.8, 50.8, 39.2, 47.7,
        ),
        _arm(
            "self-attention", "q and v all see each other",
            {**NO_EXAMPLES, "query_attention": "self"}, 35.7, 44.1, 31.6, 41.4,
        ),
        _arm(
            "self-independent", "q sees q, v of a class sees that class",
            {**NO_EXAMPLES, "query_attention": "self_independent"}, 41.0, 47.5, 37.3, 46.5,
        ),
        _arm(
            "ref-visible", "v sees q and the v of all classes",
            {**NO_EXAMPLES, "query_attention": "ref_visible"}, 44.0, 51.8, 40.5, 48.9,
        ),
    ),
    metrics=COLUMNS,
    orderings=(
        *(
            Ordering(metric, better, worse, floor=0.15)
            for metric in ("AR", "AR_unseen")
            for better, worse in (
                ("segprompt", "none"),
                ("segprompt", "vanilla"),
                ("vanilla", "none"),
                ("segprompt", "no-example-supervision"),
                ("no-example-supervision", "no-class-embedding"),
                ("no-class-embedding", "no-prompt"),
                ("no-example-supervision", "self-independent"),
                ("self-independent", "self-attention"),
                ("none", "self-attention"),
            )
        ),
    ),
    steps=400,
    run=run,
    prepare=stage1,
    points=2,
    limits=(
        "Pocket models on 96-pixel scenes; 12,800 pictures of stage 1 and 6,400 of stage 2, K = 4, "
        "C_max = 8. Ours are fractions, the paper's figures are percent on LVIS-OW."
    ),
)  # fmt: skip
