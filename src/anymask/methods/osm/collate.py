"""Canvases with one named mask each -> keyword arguments of :class:`OSMModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from anymask.methods.osm.canvas import canvas_pixels
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.templates import LENGTH, Texts, question

ANY = "any"


@dataclass(frozen=True)
class Collate:
    """Attributes:
    config: of the model.
    texts: its tokenizers.
    length: tokens of a text at most.
    """

    config: OSMConfig
    texts: Texts
    length: int = LENGTH

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples with ``canvas`` (S, S, 3) uint8, ``mask`` (S, S) bool, ``name``, ``mode`` (a data
        set's), ``agnostic`` (bool: any words instead), ``dataset`` (its number), ``template``
        (a number) and ``box`` (bool). Samples of one picture may hold the same tensor as canvas.

        Returns:
            What the model's ``forward`` takes.
        """
        asked = [question(s["template"], s["box"]) for s in samples]
        taught = self.texts.taught(
            asked, [s["name"] for s in samples], self.config.loss_on, self.length
        )
        modes = list(self.config.modes)
        chosen = (
            [modes.index(ANY if s["agnostic"] else s["mode"]) for s in samples] if modes else []
        )
        # Masks that share a canvas share what the eye sees on it.
        canvases = {id(s["canvas"]): s["canvas"] for s in samples}
        places = {key: place for place, key in enumerate(canvases)}
        shared = len(canvases) < len(samples)
        return {
            "pixel_values": torch.stack([canvas_pixels(c.numpy()) for c in canvases.values()]),
            "pictures": torch.tensor([places[id(s["canvas"])] for s in samples])
            if shared
            else None,
            "masks": torch.stack([s["mask"] for s in samples]),
            "mode": torch.tensor(chosen) if modes else None,
            "groups": torch.tensor([2 * s["dataset"] + int(s["agnostic"]) for s in samples]),
            **taught,
        }
