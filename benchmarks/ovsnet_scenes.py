"""What the bundled matcher knows of scenes, and what omega, lambda and the ensemble do to it.

    python benchmarks/ovsnet_scenes.py [--model ovsnet-scenes] [--scenes 100] [--size 384] [--sweep]
                                       [--curve curve.png]

mIoU on held-out scenes, all 85 words asked for at once, by group: things known in training, things
seen but never labelled, things unseen, and stuff. ``--sweep`` changes only the last step, without
training: every scene is encoded once.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anymask.benchmarks.distractors import distractor_curve, draw_curve
from anymask.data.dense import DenseDataset, DensePicture
from anymask.loading import load_matcher
from anymask.methods.ovsnet.inference import Encoded, OVSNetMatcher
from anymask.metrics.semantic import ConfusionMatrix
from anymask.ops.mask_classification import semantic
from anymask.training.studies._scenes import DENSE_GROUPS, DENSE_WORDS, dense_truth, held_out
from anymask.vocabulary import Vocabulary

SWEEP: dict[str, dict[str, Any]] = {
    "as it ships": {},
    "no aggregation": {"aggregation": "none"},
    **{f"omega {w}": {"aggregation": "gfa", "omega": w} for w in (0.1, 0.2, 0.3, 0.5, 0.7)},
    **{f"lambda {v}": {"aggregation": "gfa", "lam": v} for v in (0.05, 0.1)},
    "empty queries apart": {"aggregation": "gfa", "exclude_empty": True},
    "query branch alone": {"classify_with": "query"},
    "CLIP branch alone": {"classify_with": "clip"},
}


def under(matcher: OVSNetMatcher, encoded: Encoded, settings: dict[str, Any]) -> Encoded:
    """The same picture after another walk."""
    for name, value in settings.items():
        setattr(matcher.model.config, name, value)
    out = encoded.output
    walked = matcher.model.aggregate(out.clip_start, out.query_start, out.empty)
    changed = type(out)(**{**out, "clip_embeds": walked.clip, "query_embeds": walked.query})
    return replace(encoded, output=changed)


@torch.inference_mode()
def sweep(matcher: OVSNetMatcher, scenes: int, size: int, variants: dict[str, Any]) -> None:
    """Print mIoU by group of every variant."""
    words = matcher.words(DENSE_WORDS)
    tables = {name: ConfusionMatrix(len(DENSE_WORDS)) for name in variants}
    before = {k: getattr(matcher.model.config, k) for v in variants.values() for k in v}
    for scene in held_out(scenes, size):
        encoded, truth = matcher.encode(scene.as_image()), dense_truth(scene)
        for name, settings in variants.items():
            changed = under(matcher, encoded, settings)
            found = semantic(changed.canvas, matcher.classify(changed, words))[0]
            tables[name].add(truth, found)
            for key, value in before.items():
                setattr(matcher.model.config, key, value)
    names = ("mIoU", "mIoU_known", "mIoU_seen", "mIoU_unseen", "mIoU_stuff", "pACC")
    print(f"{'':22}" + "".join(f"{name.removeprefix('mIoU_'):>9}" for name in names))
    for name, table in tables.items():
        found = table.summary(groups=DENSE_GROUPS)
        print(f"{name:22}" + "".join(f"{100 * found[key]:9.1f}" for key in names))


def curve(matcher: OVSNetMatcher, scenes: int, size: int, path: Path) -> None:
    """The distractor curve on scenes, with LVIS's words as distractors."""
    drawn = held_out(scenes, size)
    pictures = [DensePicture(str(k), Path(str(k)), Path(str(k))) for k in range(len(drawn))]
    data = DenseDataset("scenes", DENSE_WORDS, pictures, lambda p: dense_truth(drawn[int(str(p))]))

    def match(picture: DensePicture, vocabulary: Vocabulary) -> np.ndarray:
        return matcher.label_map(drawn[int(picture.name)].as_image(), vocabulary)

    found = distractor_curve(data, match, Vocabulary.builtin("lvis"), counts=(0, 50, 200, 700))
    for k, count in enumerate(found.counts):
        mean, lost = 100 * found.miou[:, k].mean(), 100 * found.lost[:, k].mean()
        print(f"{count:5d} irrelevant words: mIoU {mean:5.1f} %, lost {lost:5.1f} %")
    print(f"only words that are there: mIoU {100 * found.oracle:5.1f} %")
    draw_curve({"ovsnet-scenes": found}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="ovsnet-scenes")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--curve", type=Path)
    chosen = parser.parse_args()
    matcher = load_matcher(chosen.model, "cpu")
    variants = SWEEP if chosen.sweep else {"as it ships": {}}
    sweep(matcher, chosen.scenes, chosen.size, variants)
    if chosen.curve is not None:
        curve(matcher, min(chosen.scenes, 30), chosen.size, chosen.curve)


if __name__ == "__main__":
    main()
