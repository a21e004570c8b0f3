"""The questions (paper, Table 4; specification 3.1), and texts as token numbers.

The same question goes to the Q-Former and to the language model; only the latter gets the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anymask.errors import CheckpointError
from anymask.methods.osm.model import IGNORED
from anymask.nn.text_tokens import padded_rows

TEMPLATES = (
    "What is in the segmentation mask?",
    "Describe what is in the segmentation mask.",
    "What does this segmentation mask show?",
    "What is this segmentation mask?",
    "What is the segmentation mask region of the image?",
    "Briefly describe what you perceive in the segmentation mask region.",
    "Please tell the category of what is indicated by the segmentation mask.",
    "What does this segmentation mask segments?",
    "What does this segmentation mask capture?",
    "Answer the name of what is in the segmentation mask region.",
    "What is the semantic class of the area given the segmentation mask?",
    "Can you describe what is in the segmentation mask region?",
    "From the image and segmentation mask provided, tell the category of the indicated region.",
    "Could you use a few words to describe what is in the segmentation mask region?",
    "Given the image and segmentation mask, answer what is in the region.",
    "Tell me what you see in the segmentation mask region.",
    "What can you see in the segmentation mask region?",
    "Let me know what you can perceive in the mask region.",
    "Give me the name of the object in the segmentation mask.",
)
LENGTH = 32  # tokens of a text in training


def box_template(template: str) -> str:
    """The same question about a box."""
    return template.replace("segmentation mask", "bounding box").replace(
        "mask region", "box region"
    )


def question(number: int = 0, box: bool = False) -> str:
    """Template ``number`` (0 = the one of every evaluation), as both tokenizers get it."""
    template = TEMPLATES[number]
    return f"{box_template(template) if box else template} Assistant:"


@dataclass(frozen=True)
class Texts:
    """The two tokenizers of an OSM.

    Attributes:
        language: of the language model. Its first token of a text must be that of the base model
            (``</s>`` for InstructBLIP's Vicuna), and padding must differ from the end.
        qformer: of the Q-Former.
        first: number of the first token; None = do not check.
        pad, end: numbers of the language model's padding and end.
    """

    language: Any
    qformer: Any
    pad: int
    end: int
    first: int | None = None

    def __post_init__(self) -> None:
        if self.pad == self.end:
            raise CheckpointError(
                "the language model's tokenizer pads with its end token: names would never be "
                "taught to end. Give it a padding token of its own"
            )
        ids = self.language("What")["input_ids"]
        if self.first is not None and ids[0] != self.first:
            raise CheckpointError(
                f"the language model's tokenizer begins texts with token {ids[0]}, not "
                f"{self.first}: with another beginning the published models are clearly worse"
            )

    def asked(self, text: str) -> tuple[Tensor, Tensor]:
        """A question for the language model and for the Q-Former: (1, L) and (1, L') int64."""
        return tuple(  # type: ignore[return-value]
            torch.tensor([tokenizer(text)["input_ids"]])
            for tokenizer in (self.language, self.qformer)
        )

    def taught(
        self, questions: Sequence[str], names: Sequence[str], loss_on: str, length: int = LENGTH
    ) -> dict[str, Tensor]:
        """Questions with answers, padded: ``input_ids``, ``attention_mask``, ``labels`` (R, L) and
        ``qformer_ids``, ``qformer_mask`` (R, L').

        Args:
            questions: of :func:`question`, one a name.
            names: R answers.
            loss_on: ``"full_text"`` teaches everything behind the first token, as the released code
                does; ``"answer_only"`` the name and its end.
            length: texts are cut to it on the left.
        """
        rows, labels = [], []
        for asked, name in zip(questions, names, strict=True):
            # One space before the name, the end's own token behind it.
            whole = [*self.language(f"{asked} {name}")["input_ids"], self.end]
            start = (
                1 if loss_on == "full_text" else _shared(self.language(asked)["input_ids"], whole)
            )
            kept = [IGNORED] * start + whole[start:]
            rows.append(whole[-length:])
            labels.append(kept[-length:])
        ids = padded_rows(rows, self.pad)
        asked_ids = [self.qformer(text)["input_ids"][-length:] for text in questions]
        lengths = torch.tensor([[len(row)] for row in asked_ids])
        qformer_ids = padded_rows(asked_ids, 0)
        return {
            "input_ids": ids,
            "attention_mask": torch.arange(ids.shape[1])[None]
            < torch.tensor([[len(row)] for row in rows]),
            "labels": padded_rows(labels, IGNORED),
            "qformer_ids": qformer_ids,
            "qformer_mask": torch.arange(qformer_ids.shape[1])[None] < lengths,
        }


def labels_of(ids: Tensor, pad: int) -> Tensor:
    """The released code's labels (specification 3.3): all but the first token and padding."""
    labels = ids.masked_fill(ids == pad, IGNORED)
    labels[:, 0] = IGNORED
    return labels


def _shared(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with in common."""
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
