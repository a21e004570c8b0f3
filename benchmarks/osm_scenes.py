"""What a small OSM of the scenes world knows (``anymask train osm-scenes``).

    python benchmarks/osm_scenes.py osm-scenes [--scenes 100]

On scenes never trained on: the share of masks whose name is exactly right and the share of names
that are words of the data set, in its own mode and in the mode of any words; means over the three
data sets.
"""

from __future__ import annotations

import argparse
import sys

from anymask.image import Image
from anymask.loading import load_namer
from anymask.methods.named import in_order
from anymask.segments import Segments
from anymask.training.recipes.scene_masks import SETS
from anymask.training.studies._scenes import naming_in_modes


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--scenes", type=int, default=100)
    chosen = parser.parse_args(arguments)
    namer = load_namer(chosen.folder, "cpu")

    def name(image: Image, masks: Segments, mode: str) -> list[str]:
        return in_order(namer.names(image, masks, mode=mode), len(masks))

    own = naming_in_modes(name, {data_set: data_set for data_set in SETS}, chosen.scenes)
    every = naming_in_modes(name, dict.fromkeys(SETS, "any"), chosen.scenes)
    print(f"{'':20}{'own words':>10}{'any words':>10}")
    for row in own:
        print(f"{row:20}{100 * own[row]:9.1f} %{100 * every[row]:9.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
