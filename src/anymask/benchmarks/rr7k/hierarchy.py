"""RR-7K's coarse classes in two levels (WOW-Seg, supplement; specification 7.1).

Two headings are lost in the available text and written from what stands around them: *vehicles* and
*physical phenomena*.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[Any]]

COARSE: Mapping[str, tuple[str, ...]] = {
    "animals": ("mammals", "birds", "reptiles", "fish", "insects", "invertebrates"),
    "humans": ("humans",),
    "plants": (
        "flowers", "ornamental plants", "climbing plants", "medicinal plants", "spice plants",
        "edible plants", "nut plants", "herbal plants", "trees", "shrubs", "herbs",
        "aquatic plants", "bamboo", "fruit plants", "vegetable plants", "agricultural plants",
    ),
    "man-made objects": (
        "furniture and home decor", "graphics and design", "tools and equipment", "vehicles",
        "electronics", "buildings", "advertising and marketing", "health and hygiene",
        "signs and symbols", "personal items",
    ),
    "food and beverages": (
        "fruits", "nuts and seeds", "condiments", "baked goods", "ready-to-eat food", "vegetables",
        "drinks", "snacks", "staple foods", "desserts", "meat", "seafood", "dairy",
    ),
    "arts and entertainment": (
        "paintings", "venues", "handicrafts", "festivals", "sculptures", "movies", "music", "books",
        "performing arts", "video games", "visual arts", "culture and history",
    ),
    "environment": (
        "geography and landmarks", "materials", "weather and climate", "physical phenomena",
        "natural landscapes",
    ),
}  # fmt: skip


def coarse_of(names: Sequence[str], encode: Encode) -> dict[str, tuple[str, str]]:
    """name -> (primary, secondary), the nearest in meaning. A proposal: people correct it."""
    if not names:
        return {}
    pairs = [(primary, second) for primary, seconds in COARSE.items() for second in seconds]
    known = np.asarray(encode([second for _, second in pairs]), np.float32)
    given = np.asarray(encode(list(names)), np.float32)
    nearest = (given @ known.T).argmax(1)
    return {name: pairs[k] for name, k in zip(names, nearest.tolist(), strict=True)}
