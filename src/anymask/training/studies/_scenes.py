"""What studies on the scenes world share: the held-out scenes and their recall by group."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.data.scenes import Scene, make_scene
from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.files import THING_IDS, scene_vocabulary
from anymask.data.scenes.language import Phrase, phrases_of
from anymask.data.scenes.palette import STUFF
from anymask.image import Image
from anymask.methods.named import in_order
from anymask.methods.openworldsam.inference import PhraseFinder
from anymask.methods.ovsnet.inference import OVSNetMatcher
from anymask.methods.segprompt.inference import SegPromptDiscoverer
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.wowseg.inference import WOWSegNamer
from anymask.metrics.concept import ConceptMeter
from anymask.metrics.referring import ReferringMeter
from anymask.metrics.segmentation import Regions, class_wise_recall
from anymask.metrics.semantic import ConfusionMatrix
from anymask.ops.rle import area, encode, intersect, iou, merge
from anymask.segments import Segments
from anymask.training.recipes.scene_masks import SETS, names_of
from anymask.vocabulary import GROUPS, Category, Vocabulary

HELD_OUT_SEED = 987_654


@lru_cache(maxsize=2)
def held_out(count: int, size: int) -> tuple[Scene, ...]:
    """Scenes with things of all groups that no training sees."""
    return tuple(make_scene(HELD_OUT_SEED, index, size, "val") for index in range(count))


def recall_by_group(
    model: SegPromptModel, count: int = 200, size: int = 96, max_dets: int = 100
) -> dict[str, float]:
    """LVIS-OW's class-wise AR on held-out scenes: ``AR`` and ``AR_known``, ``_seen``, ``_unseen``.

    Args:
        model: class-agnostic or class-aware; classes of proposals are not looked at.
        count, size: of the scenes.
        max_dets: proposals a picture may keep.
    """
    discover = SegPromptDiscoverer(model, device=model.device)
    scenes = held_out(count, size)
    pictures = {}
    for first in range(0, count, 16):
        batch = scenes[first : first + 16]
        found = discover.discover_batch([s.as_image() for s in batch], max_segments=max_dets)
        for scene, segments in zip(batch, found, strict=True):
            truth = scene.segments()
            pictures[scene.index] = (
                Regions.of(list(truth.rles), classes=[THING_IDS[str(n)] for n in truth.labels]),
                Regions.of(list(segments.rles), scores=segments.scores),
            )
    vocabulary = scene_vocabulary()
    groups = {group: set(vocabulary.group(group).ids) for group in GROUPS}
    measured = class_wise_recall(pictures, groups, max_dets)
    return {name: float(measured[name]) for name in ("AR", *(f"AR_{g}" for g in GROUPS))}


def dense_truth(scene: Scene) -> NDArray[np.int64]:
    """(S, S) positions in :data:`DENSE_WORDS` of what every pixel of a scene shows."""
    names = {name: k for k, name in enumerate(DENSE_WORDS.names)}
    ground = np.array([names[stuff.name] for stuff in STUFF])
    labels = ground[scene.stuff_map]
    for k, found in enumerate(scene.objects):
        labels[scene.mask(k)] = names[found.thing.name]
    return labels


def miou_by_group(matcher: OVSNetMatcher, count: int = 100, size: int = 256) -> dict[str, float]:
    """mIoU on held-out scenes with all 85 words asked for: ``mIoU`` and by group and stuff.

    Args:
        matcher: answers with positions in :data:`DENSE_WORDS`.
        count, size: of the scenes.
    """
    table = ConfusionMatrix(len(DENSE_WORDS))
    for scene in held_out(count, size):
        table.add(dense_truth(scene), matcher.label_map(scene.as_image(), DENSE_WORDS))
    return table.summary(groups=DENSE_GROUPS)


def phrase_metrics(
    finder: PhraseFinder, count: int, size: int = 256, two_stage: bool = False, each: int = 8
) -> dict[str, dict[str, float]]:
    """Answers to phrases about held-out scenes, cgF1 and referring metrics, of all phrases, by kind
    of phrase, and by the group of what is meant (``means known``, ...); names of what the ground is
    made of are asked for too and stand alone, as ``stuff``.

    Args:
        finder: is asked.
        count, size: of the scenes.
        two_stage: see the finder.
        each: phrases a scene.
    """
    concept: dict[str, ConceptMeter] = {}
    referring: dict[str, ReferringMeter] = {}
    for scene in held_out(count, size):
        asked = [
            (p.text, [encode(scene.mask(k)) for k in p.objects], _rows_of(p, scene))
            for p in phrases_of(scene, each)
        ]
        asked += [(name, [encode(mask)], ["stuff"]) for name, mask in scene.stuff().items()]
        if not asked:
            continue
        found = finder(scene.as_image(), [text for text, *_ in asked], two_stage=two_stage)
        for text, true, names in asked:
            labelled = zip(found.rles, found.labels, strict=True)
            mine = [rle for rle, label in labelled if label == text]
            table = np.zeros((len(mine), len(true)))
            shared = 0
            if table.size:
                table = np.asarray(iou(mine, true))
                shared = int(area([intersect([merge(mine), merge(true)])])[0])
            total = sum(int(area([merge(x)])[0]) for x in (mine, true) if x) - shared
            for name in names:
                concept.setdefault(name, ConceptMeter()).add(table)
                referring.setdefault(name, ReferringMeter()).add_counts(shared, total)
    return {
        name: {**concept[name].summary(), **referring[name].summary()} for name in sorted(concept)
    }


def _rows_of(phrase: Phrase, scene: Scene) -> list[str]:
    """The rows of the table that an answer to a phrase counts for."""
    groups = {scene.objects[k].thing.group for k in phrase.objects}
    means = [f"means {next(iter(groups))}"] if len(groups) == 1 else []
    return ["all", f"kind {phrase.kind}", *means]


def _regions(scene: Scene) -> tuple[list[tuple[str, str]], Segments]:
    """Group (or "stuff") and name of all that a scene shows, and the masks."""
    things = [(o.thing.group, o.thing.name) for o in scene.objects]
    stuff = scene.stuff()
    masks = [*(scene.mask(k) for k in range(len(things))), *stuff.values()]
    return [*things, *(("stuff", name) for name in stuff)], Segments.from_masks(
        masks, size=scene.as_image().size
    )


def naming_by_group(namer: WOWSegNamer, count: int, size: int = 256) -> dict[str, float]:
    """Share of exactly right names of masks of held-out scenes: ``names`` (mean over the groups),
    ``names_known``, ``_seen``, ``_unseen`` and ``_stuff``, each over all its regions.

    Args:
        namer: is asked about every thing and every stuff.
        count, size: of the scenes.
    """
    right: dict[str, list[bool]] = {group: [] for group in (*GROUPS, "stuff")}
    for scene in held_out(count, size):
        shown, masks = _regions(scene)
        said = in_order(namer.names(scene.as_image(), masks, longest=12), len(masks))
        for (group, name), answer in zip(shown, said, strict=True):
            right[group].append(answer == name)
    found = {f"names_{group}": float(np.mean(values)) for group, values in right.items() if values}
    return {"names": float(np.mean(list(found.values()))), **found}


def naming_in_modes(
    name: Callable[[Image, Segments, Any], Sequence[str]],
    modes: Mapping[str, str | None],
    count: int,
    size: int = 256,
    suffix: str = "",
) -> dict[str, float]:
    """Accuracy and the share of names that are in the vocabulary (1 - NIV) in data sets that call
    things by clashing names, means over the data sets: ``accuracy``, ``in_vocabulary``, and the
    accuracy over ``_known``, ``_seen`` and ``_unseen`` things and ``_stuff``.

    Args:
        name: picture, masks and mode -> a name each.
        modes: data set of ``training.recipes.scene_masks.SETS`` -> the mode to ask it with.
        count, size: of held-out scenes.
        suffix: behind every metric's name.
    """
    right: dict[str, dict[str, list[bool]]] = {}
    inside: dict[str, list[bool]] = {}
    for scene in held_out(count, size):
        shown, masks = _regions(scene)
        for data_set, mode in modes.items():
            words = set(names_of(data_set))
            said = name(scene.as_image(), masks, mode)
            for (group, word), answer in zip(shown, said, strict=True):
                correct = answer == SETS[data_set](word)
                right.setdefault(group, {}).setdefault(data_set, []).append(correct)
                inside.setdefault(data_set, []).append(answer in words)
    by_group = {
        group: float(np.mean([np.mean(v) for v in sets.values()])) for group, sets in right.items()
    }
    every = [
        np.mean([flag for group in right.values() for flag in group.get(data_set, [])])
        for data_set in modes
    ]
    return {
        f"accuracy{suffix}": float(np.mean(every)),
        f"in_vocabulary{suffix}": float(np.mean([np.mean(v) for v in inside.values()])),
        **{f"accuracy_{group}{suffix}": share for group, share in by_group.items()},
    }


DENSE_WORDS = Vocabulary(
    tuple(
        Category(name, k, is_thing=k < len(THINGS))
        for k, name in enumerate([*(t.name for t in THINGS), *(s.name for s in STUFF)])
    ),
    title="scenes, things and stuff",
)
DENSE_GROUPS = {
    **{g: [k for k, t in enumerate(THINGS) if t.group == g] for g in GROUPS},
    "stuff": list(range(len(THINGS), len(THINGS) + len(STUFF))),
}
