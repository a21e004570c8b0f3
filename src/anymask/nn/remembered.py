"""The last few pictures that a model has looked at."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

import numpy as np

from anymask.image import Image

T = TypeVar("T")
KEPT = 4


class Remembered(Generic[T]):
    """What was made of a picture, so that the next question about it is cheap.

    Args:
        make: picture -> what to remember.
    """

    def __init__(self, make: Callable[[Image], T]) -> None:
        self.make = make
        self._seen: OrderedDict[str, T] = OrderedDict()

    def __call__(self, image: Image) -> T:
        """What :attr:`make` made of these pixels, now or earlier."""
        pixels = np.ascontiguousarray(image.pixels)
        key = hashlib.blake2b(pixels.data, digest_size=16).hexdigest() + f"{image.size}"
        if key not in self._seen:
            self._seen[key] = self.make(image)
            while len(self._seen) > KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(key)
        return self._seen[key]

    def forget(self) -> None:
        """Look again next time."""
        self._seen.clear()
