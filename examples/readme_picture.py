"""Draw docs/images/discover.jpg: what the bundled model finds in three public-domain photographs.

python examples/readme_picture.py docs/images/discover.jpg
"""

from __future__ import annotations

import sys

import PIL.Image
from skimage import data

import anymask

HEIGHT = 360


def main(target: str) -> None:
    panels = []
    for picture in (data.coffee(), data.chelsea(), data.astronaut()):
        image = anymask.read_image(picture)
        drawn = anymask.discover(image).plot(image)
        panels.append(drawn.resize((round(drawn.width * HEIGHT / drawn.height), HEIGHT)))
    sheet = PIL.Image.new(
        "RGB", (sum(p.width for p in panels) + 8 * (len(panels) - 1), HEIGHT), "white"
    )
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + 8
    sheet.save(target, quality=88)


if __name__ == "__main__":
    main(sys.argv[1])
