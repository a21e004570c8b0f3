"""Draw docs/images/scenes.jpg: four scenes, each beside its truth.

python examples/scenes_picture.py docs/images/scenes.jpg
"""

from __future__ import annotations

import sys

import numpy as np
import PIL.Image

from anymask.comparison import GROUP_COLORS
from anymask.data.scenes import make_scene

SCENES = ((0, 1), (0, 5), (0, 11), (5, 7))


def main(target: str) -> None:
    columns = []
    for seed, index in SCENES:
        scene = make_scene(seed, index, 360, "val")
        colors = [GROUP_COLORS[found.thing.group] for found in scene.objects]
        texts = [found.thing.name for found in scene.objects]
        truth = scene.segments().plot(scene.as_image(), colors=colors, texts=texts)
        columns.append(np.vstack([scene.image, np.asarray(truth)]))
    gap = np.full((720, 8, 3), 255, np.uint8)
    row = [piece for column in columns for piece in (column, gap)][:-1]
    PIL.Image.fromarray(np.hstack(row)).save(target, quality=86)


if __name__ == "__main__":
    main(sys.argv[1])
