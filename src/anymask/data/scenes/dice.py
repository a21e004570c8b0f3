"""Random draws that are the same on every machine and with every version of numpy.

numpy promises a stable stream for its bit generators but not for what ``Generator`` makes of them;
so the raw 64-bit words are drawn once and every choice is made from them in integer arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")


class Dice:
    """A stream of choices that depends on its key alone.

    Args:
        key: whole numbers, for example (seed, index).
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(np.random.SeedSequence(key))
        self._words: list[int] = []

    def word(self) -> int:
        """A whole number in 0..2**32 - 1."""
        if not self._words:
            self._words = (self._bits.random_raw(256) >> np.uint64(32)).tolist()
        return self._words.pop()

    def below(self, limit: int) -> int:
        """A whole number in 0..limit - 1."""
        return self.word() * limit >> 32

    def between(self, low: int, high: int) -> int:
        """A whole number in low..high, both included."""
        return low + self.below(high - low + 1)

    def chance(self, percent: int) -> bool:
        """True so many times in a hundred."""
        return self.below(100) < percent

    def pick(self, items: Sequence[Item]) -> Item:
        """One of the items, all alike."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[Item], weights: Sequence[int]) -> Item:
        """One of the items, in proportion to whole weights."""
        left = self.below(sum(weights))
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        raise AssertionError("the weights changed while they were added up")

    def some(self, items: Sequence[Item], count: int) -> list[Item]:
        """So many different items (all, when there are fewer), in random order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(min(count, len(left)))]
