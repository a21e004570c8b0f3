"""Fixed text embeddings of class names, as prompts (SegPrompt, section 5.4).

The paper names neither the CLIP, the sentence around the name nor whether vectors have unit length;
here they are ViT-B/32, "a photo of a NAME" and yes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoTokenizer, CLIPTextModelWithProjection

from anymask.errors import CheckpointError

ENCODER = "openai/clip-vit-base-patch32"  # MIT; vectors of 512 numbers
SENTENCE = "a photo of a {}"


class ClipTexts:
    """Names -> unit vectors.

    Args:
        model: CLIP's text half with its projection.
        tokenizer: its own.
    """

    def __init__(self, model: CLIPTextModelWithProjection, tokenizer: Any) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer

    @classmethod
    def from_pretrained(cls, source: str | Path = ENCODER) -> ClipTexts:
        """Load a CLIP of Hugging Face's layout: folder or hub id.

        Raises:
            CheckpointError: it cannot be loaded.
        """
        try:
            model = CLIPTextModelWithProjection.from_pretrained(source)
            return cls(model, AutoTokenizer.from_pretrained(source))
        except Exception as error:  # of transformers, its hub client or the network
            raise CheckpointError(
                f"the text encoder {source} cannot be loaded: {error}. Give the folder or hub id "
                "of a CLIP"
            ) from error

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return int(self.model.config.projection_dim)

    @torch.inference_mode()
    def __call__(self, names: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) float32 of unit length."""
        texts = [SENTENCE.format(plain(name)) for name in names]
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        found = self.model(**tokens.to(self.model.device)).text_embeds.float()
        return torch.nn.functional.normalize(found, dim=-1).cpu().numpy()  # type: ignore[no-any-return]


def plain(name: str) -> str:
    """A name of a data set as people write it: ``crab_(animal)`` -> ``crab animal``."""
    return " ".join(re.sub(r"[_()]", " ", name).split())
