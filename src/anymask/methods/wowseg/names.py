"""Questions and answers in words (specification 2.6 and 5.3)."""

from __future__ import annotations

import re

_LEAD = re.compile(r"^(category|label|class|answer):", re.IGNORECASE)
IMAGE = "<image>"

TRAINING_PROMPT = (
    "You are an expert in image region classification. I will provide you with a complete image "
    "and a part of this image. You need to classify the region part based on the full image. "
    f"Complete image: {IMAGE}. Region image:"
)


def clean_answer(answer: str) -> str:
    """A model's answer as a name: its first line, without a leading ``category:`` and anything
    behind a full stop."""
    line = answer.replace("\r", "\n").strip().split("\n")[0].strip()
    line = _LEAD.sub("", line, count=1).strip()
    return line.split(". ")[0].strip(" .")


def region_question(question: str | None) -> str:
    """A question with places for the picture and the region, completed as the demonstration does.

    Args:
        question: None or empty = classify; with one ``<image>`` the region's is added behind it,
            with none both are.
    """
    asked = (question or "").strip() or "Please classify the specified target area."
    count = asked.count(IMAGE)
    if count > 1:
        return asked
    whole = asked if count else f"This is the original image: {IMAGE}. {asked}"
    return f"{whole} Specified target area:{IMAGE}"
