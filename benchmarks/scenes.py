"""How many scenes a second one core draws.

    python benchmarks/scenes.py [--sizes 128 256 512 1024] [--count 100]

Timed is :func:`anymask.data.scenes.make_scene`: picture, instance, part and stuff maps.
"""

from __future__ import annotations

import argparse
import time

from anymask.data.scenes import make_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[128, 256, 512, 1024])
    parser.add_argument("--count", type=int, default=100)
    chosen = parser.parse_args()
    for size in chosen.sizes:
        make_scene(0, 0, size)  # the noise is made once
        started = time.process_time()
        for index in range(chosen.count):
            make_scene(1, index, size, "val")
        seconds = time.process_time() - started
        print(f"{size:5} px  {chosen.count / seconds:7.1f} scenes a second", flush=True)


if __name__ == "__main__":
    main()
