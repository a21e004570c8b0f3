"""Asking the model again whether a name is right (RR-7K's hallucination filter, specification 7.2).

The mask is drawn on the picture in red, filled and outlined, and the model is asked whether what is
outlined is a ...; the probability of "yes" against "no" is the name's probability of being right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from anymask.errors import InputError
from anymask.image import Image
from anymask.methods.wowseg.inference import WOWSegNamer
from anymask.methods.wowseg.names import IMAGE
from anymask.methods.wowseg.packed import embeddings
from anymask.methods.wowseg.picture import prepare
from anymask.methods.wowseg.prompt import make_prompt
from anymask.ops.marking import marked
from anymask.ops.rle import decode
from anymask.segments import Segments

QUESTION = (
    f"{IMAGE}\nIs the area outlined by the red contour and covered by the red mask in the image "
    "{}? Please answer yes or no."
)


def answer_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """First tokens of "yes" and of "no", however they are written.

    Raises:
        InputError: the tokenizer writes both with the same first token.
    """

    def firsts(word: str) -> set[int]:
        forms = (word, word.capitalize(), f" {word}", f" {word.capitalize()}")
        return {tokenizer(form, add_special_tokens=False)["input_ids"][0] for form in forms}

    yes, no = firsts("yes"), firsts("no")
    shared = yes & no  # a lone space, for example
    if not yes - shared or not no - shared:
        raise InputError("this tokenizer does not tell yes from no by their first tokens")
    return sorted(yes - shared), sorted(no - shared)


@torch.inference_mode()
def verify(
    namer: WOWSegNamer, image: Image, segments: Segments, question: str = QUESTION
) -> NDArray[np.float32]:
    """The probability that every name is right: (N,) in 0..1, NaN where there is no name.

    Every mask is drawn on a picture of its own, so this costs one reading of the picture a mask.

    Args:
        namer: whose model is asked.
        image: the picture.
        segments: named masks of it.
        question: has one ``<image>`` and one ``{}`` for the name.
    """
    yes, no = answer_tokens(namer.tokenizer)
    found = np.full(len(segments), np.nan, np.float32)
    for row, name in _named(segments.labels):
        logits = _first_word(namer, marked(image, decode(segments.rles[row])), question, name)
        both = torch.stack([logits[yes].logsumexp(0), logits[no].logsumexp(0)])
        found[row] = float(both.softmax(0)[0])
    return found


def _named(labels: Sequence[str | None]) -> Iterator[tuple[int, str]]:
    for row, label in enumerate(labels):
        if label:
            yield row, label


def _first_word(namer: WOWSegNamer, image: Image, question: str, name: str) -> Any:
    """Logits of the answer's first token: (V,)."""
    side = int(namer.model.config.vision_config.image_size[0])
    cells = int(namer.model.config.image_seq_length)
    seen = prepare(image, [], most_tiles=namer.most_tiles, side=side)
    asked = question.replace("{}", name)
    prompt = make_prompt(namer.tokenizer, seen.picture_tokens(cells), asked, namer.system)
    ids = torch.tensor([[*prompt.prefix, *prompt.suffix]], device=namer.device)
    embeds = embeddings(namer.model, ids, namer._look(seen.tiles).flatten(0, 1))
    return namer.model(inputs_embeds=embeds, logits_to_keep=1).logits[0, -1].float().cpu()
