"""What a small BEiT-3 trained by ``anymask train beit3-scenes`` understands, before it is frozen.

    python benchmarks/beit3_scenes.py FOLDER [--scenes 200]

On scenes never trained on: does token 0 know whether a phrase means anything; how much of what is
meant do the patches it points at cover (IoU of patches, of phrases that mean something); and which
of the 85 names does every patch alone get, by group.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from anymask.data.scenes.categories import THINGS
from anymask.methods.openworldsam.grounding_training import Beit3Grounding, GroundingCollate
from anymask.training.scene_phrases import NAMES, ScenePhrases, phrase_tokenizer, word_weights

SEED = 77_001
GROUPS = {thing.name: thing.group for thing in THINGS}


@torch.inference_mode()
def measure(folder: Path, scenes: int) -> dict[str, float]:
    """All numbers, in 0..1."""
    model = Beit3Grounding.from_pretrained(folder).eval()
    grid = model.config.image_size // model.config.patch_size
    data = ScenePhrases(scenes, 256, SEED, phrases=8, grid=grid)
    collate = GroundingCollate(model.config, phrase_tokenizer(), NAMES, word_weights())
    found: dict[str, list[float]] = defaultdict(list)
    for index in range(scenes):
        sample = data[index]
        if not sample["texts"]:
            continue
        batch = collate([sample])
        output = model(**batch)
        cells, there = batch["cells"], batch["cells"].sum(1) > 0
        right = (output.presence > 0) == there
        found["presence, all"] += right.float().tolist()
        for kind, value in zip(sample["kinds"], right.float().tolist(), strict=True):
            found[f"presence, {kind}"].append(value)
        inside, meant = output.heat > 0, cells > 0.5
        shared, union = (inside & meant).sum(1), (inside | meant).sum(1)
        iou = (shared / union.clamp(min=1))[meant.any(1)]
        found["patches pointed at, IoU"] += iou.tolist()
        plain = super(Beit3Grounding, model)
        patches = F.normalize(plain.forward(batch["pixel_values"]).last_hidden_state[0, 1:], dim=-1)
        words = plain.forward(input_ids=batch["word_ids"], attention_mask=batch["word_mask"])
        names = (patches @ F.normalize(words.pooler_output, dim=-1).T).argmax(1)
        truth = batch["word_cells"][0]
        for patch in (truth.max(0).values > 0.5).nonzero()[:, 0].tolist():
            name = NAMES[int(truth[:, patch].argmax())]
            good = float(NAMES[int(names[patch])] == name)
            found[f"name of a patch, {GROUPS.get(name, 'stuff')}"].append(good)
    return {name: float(np.mean(values)) for name, values in sorted(found.items())}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scenes", type=int, default=200)
    chosen = parser.parse_args(arguments)
    for name, value in measure(chosen.folder, chosen.scenes).items():
        print(f"{name:28} {100 * value:5.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
