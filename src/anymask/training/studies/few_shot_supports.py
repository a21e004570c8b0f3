"""SegPrompt's few-shot search by number of supports (section 5.4), at small scale.

One model a seed: its backbone and pixel decoder first learn a word for every pixel, of everything,
then the whole learns with prompts about known things. The arms only differ in how many examples of
a class are shown. Classes are told apart by their prompts alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import torch

from anymask.data.scenes import make_scene
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.files import THING_IDS
from anymask.image import Image
from anymask.methods.segprompt.collate import Collate
from anymask.methods.segprompt.configuration import SegPromptConfig
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.metrics.segmentation import Regions, class_aware
from anymask.segments import Segments
from anymask.training.recipes.on_scenes import on_scenes
from anymask.training.recipes.word_pixels import SceneWords, WordPixels
from anymask.training.scene_samples import SceneSamples
from anymask.training.scene_windows import WindowCollate
from anymask.training.studies._scenes import held_out
from anymask.training.studies.segprompt_ablations import PROMPTS, SEGMENTER
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 128
BATCH = 16
SUPPORT_WORLD = 222_333
LEAST_PIXELS = 60  # of a support's mask
GROUPS = {g: [t.name for t in THINGS if t.group == g] for g in ("known", "unseen")}


def prepare(job: Job) -> None:
    """A model that knows what pixels show, and then learns with prompts."""
    batch = 2 if job.smoke else BATCH
    samples = job.steps * batch
    segmenter = {**SEGMENTER, "image_long_side": SIZE}
    settings = {
        **segmenter,
        **PROMPTS,
        "freeze_backbone": False,
        # As the paper trains, prompts carry no gradient: nothing would ask an example to say what
        # it is an example of. And a class embedding would spare the model to look at prompts.
        "prompt_source": "batch",
        "use_class_embedding": False,
    }
    plain = SegPromptConfig.pocket(**segmenter)
    config = PromptLearningConfig.pocket(**settings)
    words = replace(job, folder=job.folder / "words")
    mean, std = (torch.tensor(v) / 255 for v in (plain.image_mean, plain.image_std))
    words.train(
        on_scenes(
            "few-shot-supports/words",
            lambda: WordPixels(plain),
            lambda: SceneWords(samples, SIZE, 500 + job.seed),
            WindowCollate(mean, std),
            samples,
            batch,
            job.seed,
            lr=2e-2,
        )
    )
    model = PromptLearningModel(config)
    learned = WordPixels.from_pretrained(words.folder).segmenter
    model.segmenter.load_state_dict(learned.state_dict())
    job.train(
        on_scenes(
            "few-shot-supports",
            lambda: model,
            lambda: SceneSamples(samples, SIZE, 500 + job.seed, class_aware=True),
            Collate(config),
            samples,
            batch,
            job.seed,
            lr=1e-2,
        )
    )


def run(job: Job) -> None:
    """Show so many examples of every class and look for all classes in held-out scenes."""
    assert job.shared is not None
    model = PromptLearningModel.from_pretrained(job.shared)
    finder = SegPromptFinder(model, model.device)
    count, names = (2, 2) if job.smoke else (60, None)
    found = {
        f"AP50_{group}": measure(finder, members[:names], int(job.arm.settings["supports"]), count)
        for group, members in GROUPS.items()
    }
    job.measurements(lambda _: found).write({job.steps: found})


def measure(finder: SegPromptFinder, names: list[str], supports: int, count: int) -> float:
    """AP at IoU 0.5 over the classes of a group."""
    bank = finder.prompts([pair for name in names for pair in examples_of(name)[:supports]])
    pictures = {}
    for scene in held_out(count, SIZE):
        truth = scene.segments()
        wanted = np.array([label in names for label in truth.labels], bool)
        kept = truth[wanted]
        seen = finder.find(scene.as_image(), bank, min_score=0.0, max_segments=10)
        pictures[scene.index] = (
            Regions.of(list(kept.rles), classes=[THING_IDS[str(n)] for n in kept.labels]),
            Regions.of(
                list(seen.rles),
                scores=seen.scores,
                classes=[THING_IDS[str(n)] for n in seen.labels],
            ),
        )
    return float(np.nan_to_num(class_aware(pictures)["AP50"]))


@cache
def examples_of(name: str, most: int = 5) -> list[tuple[Image, Segments]]:
    """Pictures of a class with the mask of one well visible member each."""
    found: list[tuple[Image, Segments]] = []
    index = 0
    while len(found) < most and index < 4000:
        scene = make_scene(SUPPORT_WORLD, index, SIZE, "val")
        index += 1
        for k, thing in enumerate(scene.objects):
            if thing.thing.name == name and thing.area >= LEAST_PIXELS:
                one = Segments.from_masks(scene.mask(k)[None]).with_labels([name])
                found.append((scene.as_image(), one))
                break
    return found


STUDY = Study(
    name="few-shot-supports",
    question="Do more examples of a class help to find it in other pictures?",
    source="SegPrompt (ICCV 2023), section 5.4, which shows pictures and prints no numbers",
    arms=tuple(
        Arm(f"{n} supports" if n > 1 else "1 support", f"{n} examples a class", {"supports": n})
        for n in (1, 2, 5)
    ),
    metrics=("AP50_known", "AP50_unseen"),
    orderings=tuple(
        Ordering(metric, better, worse, floor=0.1)
        for metric in ("AP50_known", "AP50_unseen")
        for better, worse in (("2 supports", "1 support"), ("5 supports", "2 supports"))
    ),
    steps=400,
    run=run,
    prepare=prepare,
    points=1,
    limits=(
        "Pocket models on 128-pixel scenes; 6,400 pictures with words for pixels, 6,400 with "
        "prompts a seed; all 40 known or 16 unseen classes are looked for at once. Words for "
        "pixels were taught of unseen things too, prompts were not. Prompts carry gradients here, "
        "which the paper's do not."
    ),
)
