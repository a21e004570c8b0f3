"""What a small namer trained by ``anymask train internvl-scenes`` or ``wowseg-scenes`` knows.

    python benchmarks/wowseg_scenes.py FOLDER [--scenes 100]

On scenes never trained on: the share of masks whose name is exactly right, by group.
"""

from __future__ import annotations

import argparse
import sys

from anymask.loading import load_namer
from anymask.training.studies._scenes import naming_by_group


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--scenes", type=int, default=100)
    chosen = parser.parse_args(arguments)
    for name, share in naming_by_group(load_namer(chosen.folder, "cpu"), chosen.scenes).items():
        print(f"{name:14} {100 * share:5.1f} %")
    return 0


if __name__ == "__main__":
    sys.exit(main())
