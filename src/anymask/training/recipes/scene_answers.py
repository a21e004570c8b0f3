"""What a small language model reads before an OSM of the scenes world is built on it: questions
whose answer stands in front of them, among other words.

OSM's language model stays frozen, so it has to know how to answer from what it is shown; there it
will be shown what the mask queries bring, here the words themselves, blurred a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import LlamaForCausalLM

from anymask.data.scenes.categories import THINGS
from anymask.data.scenes.palette import COLORS, PATTERNS
from anymask.methods.osm.model import text_loss
from anymask.methods.osm.templates import TEMPLATES, Texts, question
from anymask.nn.text_tokens import train_tokenizer
from anymask.training.scene_descriptions import WORDS
from anymask.training.word_patches import WordsOutput

PIECES = 640  # tokens of the tokenizer
LENGTH = 48  # of the longest question with its answer
BLUR = 0.5  # of the shown words, as a share of the embeddings' spread

ANSWERS = tuple(
    dict.fromkeys([*(w for words in WORDS.values() for w in words), *(t.kind for t in THINGS)])
)


def answer_texts() -> Texts:
    """The tokenizer that learnt from questions and names, for both readers; the same every time."""
    questions = [question(k, box) for k in range(len(TEMPLATES)) for box in (False, True)]
    learnt = [*(f" {word}" for word in ANSWERS), *questions, *COLORS, *PATTERNS]
    tokenizer = train_tokenizer(learnt * 3, PIECES, LENGTH)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.backend_tokenizer.post_processor = None  # no end behind a question
    return Texts(tokenizer, tokenizer, tokenizer.pad_token_id, tokenizer.eos_token_id)


@dataclass
class SceneAnswers(Dataset[dict[str, Any]]):
    """A question with its answer a sample.

    Attributes:
        count: length of the run.
        shown: tokens in front of the question.
        seed: of the drawing.
    """

    count: int
    shown: int
    seed: int
    texts: Texts = field(default_factory=answer_texts, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``shown`` token numbers, ``question``, ``name``."""
        if not 0 <= index < self.count:
            raise IndexError(index)
        rng = np.random.default_rng((self.seed, index))
        words = [*COLORS, *PATTERNS]
        name = ANSWERS[int(rng.integers(len(ANSWERS)))]
        ids = self._ids(name)[: self.shown]
        others: list[int] = []
        while len(others) < self.shown:
            others += self._ids(words[int(rng.integers(len(words)))])
        place = int(rng.integers(self.shown - len(ids) + 1))
        filled = [*others[:place], *ids, *others[place:]][: self.shown]
        box = bool(rng.random() < 0.2)
        asked = question(int(rng.integers(len(TEMPLATES))), box)
        return {"shown": filled, "question": asked, "name": name}

    def _ids(self, word: str) -> list[int]:
        return list(self.texts.language(f" {word}")["input_ids"])


class AnswerCollate:
    """Samples -> keyword arguments of :class:`AnsweringModel`."""

    def __init__(self, texts: Texts) -> None:
        self.texts = texts

    def __call__(self, samples: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """``shown``, ``input_ids``, ``attention_mask``, ``labels``."""
        taught = self.texts.taught(
            [s["question"] for s in samples], [s["name"] for s in samples], "answer_only", LENGTH
        )
        kept = ("input_ids", "attention_mask", "labels")
        shown = torch.tensor([s["shown"] for s in samples])
        return {"shown": shown, **{name: taught[name] for name in kept}}


class AnsweringModel(LlamaForCausalLM):  # type: ignore[misc]
    """A Llama whose forward is the loss of its answers; saved, it is a Llama."""

    def forward(  # type: ignore[override]
        self, shown: Tensor, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> WordsOutput:
        """One step.

        Args:
            shown: (R, N) int64 in front of the question.
            input_ids, attention_mask, labels: (R, L) of question and answer.
        """
        table = self.get_input_embeddings()
        seen = table(shown)
        seen = seen + BLUR * table.weight.detach().std() * torch.randn_like(seen)
        whole = torch.cat([seen, table(input_ids)], 1)
        allowed = torch.cat([torch.ones_like(shown), attention_mask.long()], 1)
        logits = (
            super().forward(inputs_embeds=whole, attention_mask=allowed, use_cache=False).logits
        )
        loss = text_loss(logits, labels)
        return WordsOutput(loss=loss, loss_parts={"answers": loss.detach()})
