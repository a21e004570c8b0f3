"""SegPrompt's few-shot search by number of supports (section 5.4), at small scale.

One model a seed: backbone and pixel decoder of the bundled pocket first learn a word for every
pixel, of everything, then the whole learns with prompts about known things. The arms only differ in
how many examples of a class are shown. Classes are told apart by their prompts alone.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from anymask.checkpoints import bundled_folder
from anymask.data.scenes import make_scene
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.files import THING_IDS
from anymask.image import Image
from anymask.methods.segprompt.few_shot import SegPromptFinder
from anymask.methods.segprompt.prompt_learning import PromptLearningModel
from anymask.metrics.segmentation import Regions, class_aware
from anymask.ops.rle import iou
from anymask.segments import Segments
from anymask.training.recipes.segprompt_scenes import (
    segprompt_scenes,
    segprompt_words_scenes,
)
from anymask.training.studies._scenes import held_out
from anymask.training.study import Arm, Job, Ordering, Study

SIZE = 128
BATCH = 16
WORDS_FACTOR = 3  # words are taught so many times as long
SUPPORT_WORLD = 222_333
LEAST_PIXELS = 60  # of a support's mask
METRICS = ("AP50_known", "AP50_unseen", "hit_known", "hit_unseen")
GROUPS = {g: [t.name for t in THINGS if t.group == g] for g in ("known", "unseen")}


def prepare(job: Job) -> None:
    """A model that knows what pixels show, and then learns with prompts."""
    batch = 2 if job.smoke else BATCH
    samples = job.steps * batch
    words = replace(job, folder=job.folder / "words")
    start = bundled_folder("segprompt-pocket")
    words.train(segprompt_words_scenes(start, WORDS_FACTOR * samples, batch, job.seed, SIZE))
    job.train(segprompt_scenes(words.folder, samples, batch, job.seed, SIZE))


def run(job: Job) -> None:
    """Show so many examples of every class and look for all classes in held-out scenes."""
    assert job.shared is not None
    model = PromptLearningModel.from_pretrained(job.shared)
    finder = SegPromptFinder(model, model.device)
    count, names = (2, 2) if job.smoke else (60, None)
    found: dict[str, float] = {}
    for group, members in GROUPS.items():
        precision, hit = measure(finder, members[:names], int(job.arm.settings["supports"]), count)
        found |= {f"AP50_{group}": precision, f"hit_{group}": hit}
    job.measurements(lambda _: found).write({job.steps: found})


def measure(
    finder: SegPromptFinder, names: list[str], supports: int, count: int
) -> tuple[float, float]:
    """AP at IoU 0.5 over the classes of a group, all of which are looked for everywhere; and how
    often the surest find of a class that a picture does show is one (IoU of 0.5)."""
    bank = finder.prompts([pair for name in names for pair in examples_of(name)[:supports]])
    pictures = {}
    hits = []
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
        for name in sorted({str(n) for n in kept.labels}):
            there, best = kept[_rows(kept, name)], seen[_rows(seen, name)][:1]
            hits.append(bool((iou(best.rles, there.rles) >= 0.5).any()))
    precision = float(np.nan_to_num(class_aware(pictures)["AP50"]))
    return precision, float(np.mean(hits)) if hits else 0.0


def _rows(segments: Segments, name: str) -> NDArray[np.bool_]:
    return np.array([label == name for label in segments.labels], bool)


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
    metrics=METRICS,
    orderings=tuple(
        Ordering(metric, better, worse, floor=0.05 if metric.startswith("AP50") else 0.1)
        for metric in METRICS
        for better, worse in (("2 supports", "1 support"), ("5 supports", "2 supports"))
    ),
    steps=500,
    run=run,
    prepare=prepare,
    points=1,
    bf16=True,
    limits=(
        "The bundled segprompt-pocket goes on, on 128-pixel scenes: 24,000 pictures with words for "
        "pixels, 8,000 with prompts a seed. AP50: all 40 known or 16 unseen classes are looked for "
        "in every picture at once; hit: only those that it shows, the surest find of each. Words "
        "for pixels were taught of unseen things too, prompts were not. Examples also learn to be "
        "compared (likeness), which the paper's do not."
    ),
)
