"""Training samples for WOW-Seg: a picture with all its named masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from anymask.data.region_sources import RegionSource
from anymask.ops.rle import decode

GROUP = 50  # batches within which pictures with about as many masks come together


@dataclass
class RegionSamples(Dataset[dict[str, Any]]):
    """A run over data sets, epoch after epoch; sample k is a pure function of k.

    Pictures with about as many masks follow each other, so that rows of a batch are of about the
    same length (the released trainer groups by length as well).

    Attributes:
        sources: of a meta file.
        epochs: how often everything is gone through.
        batch_size: pictures a step.
        seed: of the order, of what is drawn, and of the compression.
        masks: of a picture at most, drawn when there are more; 1 = "single mask" (Table 4).
        length: of the run in pictures; None = that of the epochs.
    """

    sources: Sequence[RegionSource]
    epochs: int = 1
    batch_size: int = 1
    seed: int = 0
    masks: int = 30
    length: int | None = None
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    @cached_property
    def rows(self) -> NDArray[np.int64]:
        """(N, 3) source, line and number of masks of everything in an epoch."""
        found = [
            (k, row, min(source.file.counts[row], self.masks))
            for k, source in enumerate(self.sources)
            for row in source.rows()
        ]
        return np.array(found, np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return self.epochs * len(self.rows) if self.length is None else self.length

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``image`` (H, W, 3) uint8, ``masks`` (M, H, W) bool, ``names`` M strings, ``jpeg`` a seed
        or None, ``most_tiles`` a number or None.

        Raises:
            DataError, ImageError: a line or picture is broken; nothing is replaced silently.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        epoch, place = divmod(index, len(self.rows))
        number, row, _ = self.rows[self._order(epoch)[place]].tolist()
        source = self.sources[number]
        record = source.file[row]
        image = source.file.picture_of(record)
        rng = np.random.default_rng((self.seed, index))
        kept = np.arange(len(record.names))
        if len(kept) > self.masks:
            kept = np.sort(rng.permutation(kept)[: self.masks])
        masks = [decode(record.rles[k]) for k in kept]
        return {
            "image": torch.from_numpy(image.pixels.copy()),
            "masks": torch.from_numpy(
                np.stack(masks) if masks else np.zeros((0, *record.size), bool)
            ),
            "names": [record.names[k] for k in kept],
            "jpeg": int(rng.integers(2**31)) if source.jpeg else None,
            "most_tiles": source.most_tiles,
        }

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Positions in ``rows``: shuffled, sorted by masks within groups, batches shuffled."""
        if epoch not in self._orders:
            rng = np.random.default_rng((self.seed, 1 << 32, epoch))
            drawn = rng.permutation(len(self.rows))
            size = GROUP * self.batch_size
            groups = [drawn[start : start + size] for start in range(0, len(drawn), size)]
            counts = self.rows[:, 2]
            drawn = np.concatenate([g[np.argsort(-counts[g], kind="stable")] for g in groups])
            whole = len(drawn) // self.batch_size * self.batch_size
            batches = drawn[:whole].reshape(-1, self.batch_size)
            shuffled = batches[rng.permutation(len(batches))].reshape(-1)
            self._orders = {epoch: np.concatenate([shuffled, drawn[whole:]])}
        return self._orders[epoch]
