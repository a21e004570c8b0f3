"""The words around pictures and regions, as token numbers (specification 2.5 and 2.6).

Every border between the pieces is a special token or a newline, so pieces are tokenised one by one
and tags never have to be found again in the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from anymask.errors import CheckpointError
from anymask.methods.wowseg.names import IMAGE, TRAINING_PROMPT

START, END, IMAGE_START, IMAGE_END, CONTEXT = (
    "<|im_start|>",
    "<|im_end|>",
    "<img>",
    "</img>",
    "<IMG_CONTEXT>",
)
# InternVL's own greeting, which training and the released inference both have.
SYSTEM = (
    "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、"  # noqa: RUF001 - it is Chinese
    "清华大学及多家合作单位联合开发的多模态大语言模型。"
)


@dataclass(frozen=True)
class Prompt:
    """Pieces of the question about one picture.

    Attributes:
        prefix: numbers up to the first region, the picture's places among them.
        suffix: numbers behind a region, up to where the name begins.
        image_start, image_end, context, end: single tokens.
        separators: tokens that end a name besides ``end``.
    """

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    image_start: int
    image_end: int
    context: int
    end: int
    separators: tuple[int, ...]

    def region(self, tokens: int) -> list[int]:
        """A region with so many places."""
        return [self.image_start, *[self.context] * tokens, self.image_end]


def make_prompt(
    tokenizer: Any,
    picture_tokens: int,
    question: str = TRAINING_PROMPT,
    system: str = SYSTEM,
) -> Prompt:
    """Tokenise a question.

    Args:
        tokenizer: of the language model, with the special tokens above.
        picture_tokens: places for the picture's visual tokens.
        question: has one ``<image>`` for the picture; the region follows directly behind it.
        system: the system's turn.

    Raises:
        CheckpointError: the tokenizer lacks a special token.
    """
    numbers = {token: tokenizer.convert_tokens_to_ids(token) for token in
               (START, END, IMAGE_START, IMAGE_END, CONTEXT)}  # fmt: skip
    unknown = getattr(tokenizer, "unk_token_id", None)
    missing = [t for t, number in numbers.items() if number is None or number == unknown]
    if missing:
        raise CheckpointError(
            f"the tokenizer has no {', '.join(missing)}: give that of an InternVL model"
        )

    def read(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"]) if text else []

    before, _, behind = question.partition(IMAGE)
    behind = behind.replace(IMAGE, "")
    newline = read("\n")
    picture = [
        numbers[IMAGE_START], *[numbers[CONTEXT]] * picture_tokens, numbers[IMAGE_END]
    ]  # fmt: skip
    prefix = [
        numbers[START], *read("system"), *newline, *read(system), numbers[END], *newline,
        numbers[START], *read("user"), *newline, *read(before), *picture, *read(behind),
    ]  # fmt: skip
    suffix = [numbers[END], *newline, numbers[START], *read("assistant"), *newline]
    ends: list[Sequence[int]] = [read(","), read(" ,"), newline]
    return Prompt(
        tuple(prefix),
        tuple(suffix),
        numbers[IMAGE_START],
        numbers[IMAGE_END],
        numbers[CONTEXT],
        numbers[END],
        tuple(one[0] for one in ends if len(one) == 1),
    )
