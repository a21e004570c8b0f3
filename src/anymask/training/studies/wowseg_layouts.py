"""WOW-Seg's Tables 4, 6 and 8 at small scale: how masks share a row in training, what a mask is
turned into, and which base model learns.

All arms but one start from one small InternVL that was shown boxes of everything (of the bundled
``wowseg-scenes``, taught a little more for every seed), that one from half of its language model,
taught as long; then they learn names of masks of known things and of stuff.
"""

from __future__ import annotations

from pathlib import Path

from transformers import InternVLForConditionalGeneration

from anymask.checkpoints import bundled_folder
from anymask.methods.wowseg.inference import WOWSegNamer
from anymask.training.recipe import train
from anymask.training.recipes.wowseg_scenes import ASKED, internvl_scenes, wowseg_scenes
from anymask.training.scene_regions import names_tokenizer
from anymask.training.studies._scenes import naming_by_group
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 256
BATCH = 8
BEFORE = 40  # steps of boxes before the arms part
COLUMNS = ("names", "names_known", "names_unseen", "names_stuff")


def prepare(job: Job) -> None:
    """The base models that the arms of a seed start from."""
    size, batch = (96, 1) if job.smoke else (SIZE, BATCH)
    steps = 1 if job.smoke else BEFORE
    whole, cut = bundled_folder("wowseg-scenes"), job.folder / "cut"
    halved(whole).save_pretrained(cut)
    for name, start in (("base", whole), ("half-base", cut)):
        plan = internvl_scenes(steps * batch, batch, job.seed, size, start)
        train(plan, job.folder / name, deadline=job.deadline)


def halved(folder: Path) -> InternVLForConditionalGeneration:
    """An InternVL without the second half of its language model's layers."""
    model = InternVLForConditionalGeneration.from_pretrained(folder)
    text, language = model.config.text_config, model.model.language_model
    kept = text.num_hidden_layers // 2
    text.num_hidden_layers, text.layer_types = kept, text.layer_types[:kept]
    language.layers = language.layers[:kept]
    return model


def run(job: Job) -> None:
    """Train one arm and measure it."""
    assert job.shared is not None
    size, batch, count = (96, 1, 3) if job.smoke else (SIZE, BATCH, 40)
    settings = dict(job.arm.settings)
    base = job.shared / settings.pop("base", "base")
    plan = wowseg_scenes(base, job.steps * batch, batch, job.seed, size, **settings)
    shown = {name: settings[name] for name in ("scale", "encoding") if name in settings}

    def measure(model: InternVLForConditionalGeneration) -> dict[str, float]:
        # The model in training computes a loss; the namer wants the InternVL that it is.
        plain = InternVLForConditionalGeneration(model.config)
        plain.load_state_dict(model.state_dict())
        namer = WOWSegNamer(plain, names_tokenizer(), "cpu", **ASKED, **shown)
        return naming_by_group(namer, count, size)

    job.train(plan, measure)


NEITHER = {"layout": "released", "region_rule": False, "output_rule": False}

STUDY = Study(
    name="wowseg-layouts",
    question=(
        "How should masks share a training row, what should a mask be turned into, and does a "
        "better base model name better?"
    ),
    source="WOW-Seg (ICLR 2026), Tables 4, 6 and 8",
    arms=(
        Arm("single", "one mask a row", {"masks": 1}),
        Arm("multi", "all masks in a row, plain causal attention", NEITHER),
        Arm("region", "regions do not see each other", {**NEITHER, "region_rule": True}),
        Arm("output", "names see their own region only", {**NEITHER, "output_rule": True}),
        Arm("both", "the Cascade Attention Mask as released", {"layout": "released"}),
        Arm("branch", "every mask a branch of its own (our default)", {}),
        Arm("fore2token", "the mask alone, on white", {"encoding": "fore2token"}),
        Arm("blur2token", "the mask in a blurred picture", {"encoding": "blur2token"}),
        Arm("scale-1.5", "a window 1.5 times as large as the mask", {"scale": 1.5}),
        Arm("scale-3", "a window 3 times as large", {"scale": 3.0}),
        Arm("half-base", "a base with half of the language layers", {"base": "half-base"}),
    ),
    metrics=COLUMNS,
    orderings=tuple(
        Ordering(metric, better, worse, floor=0.1)
        for metric in ("names", "names_unseen")
        for better, worse in (
            ("both", "multi"),
            ("both", "region"),
            ("both", "output"),
            ("both", "single"),
            ("branch", "both"),
            ("branch", "fore2token"),
            ("branch", "blur2token"),
            ("branch", "scale-1.5"),
            ("branch", "scale-3"),
            ("branch", "half-base"),
        )
    ),
    steps=40,
    run=run,
    prepare=prepare,
    points=1,
    limits=(
        "A model of 2.5 M parameters on 256-pixel scenes of drawn things, 320 scenes a run. Shares "
        "of exactly right names; answers are always read branch by branch, whatever the layout in "
        "training. Table 8 compares releases of InternVL; here the weaker base is the same model "
        "without its last language layer, taught again for as long as the other."
    ),
)
