"""Pictures with phrases -> a batch for :class:`OpenWorldSAMModel`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from anymask.image import Image
from anymask.methods.openworldsam.configuration import OpenWorldSAMConfig
from anymask.methods.openworldsam.readers import Reader, make_reader
from anymask.nn.sam2 import square_pixels


@dataclass(frozen=True)
class Collate:
    """Phrases of all pictures in a row; any number of them a picture, also none.

    Attributes:
        config: of the model.
        tokenizer: of its reader.
    """

    config: OpenWorldSAMConfig
    tokenizer: Any

    @cached_property
    def reader(self) -> Reader:
        """What says how the reader wants pictures and words; its weights are not used."""
        with torch.device("meta"):
            return make_reader(self.config)

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """Samples with ``image`` (H, W, 3) uint8, ``texts`` and ``instances``: the masks (G, H, W)
        bool that each text means."""
        sam: Any = self.config.sam2_config
        side = int(sam.prompt_encoder_config.image_size)
        images = [Image(np.ascontiguousarray(s["image"].numpy())) for s in samples]
        texts = [text for s in samples for text in s["texts"]]
        counts = torch.tensor([len(s["texts"]) for s in samples])
        words = self.reader.words(self.tokenizer, texts or ["object"])
        return {
            "pixel_values": torch.stack(
                [square_pixels(image, side, self.config.antialias) for image in images]
            ),
            "reader_pixels": (
                torch.stack([self.reader.pixels(image) for image in images])
                if self.reader.picture_size
                else None
            ),
            "words": words if texts else {name: value[:0] for name, value in words.items()},
            "picture": torch.arange(len(samples)).repeat_interleave(counts),
            "masks": [masks for s in samples for masks in s["instances"]],
        }
