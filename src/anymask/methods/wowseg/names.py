"""Names: before training, and as answers (specification 4.1, 5.3, 2.6)."""

from __future__ import annotations

import re

_BRACKETS = re.compile(r"_?\([^)]*\)")
_LEAD = re.compile(r"^(category|label|class|answer):", re.IGNORECASE)
IMAGE = "<image>"
SEPARATOR = " , "  # between the names of a packed row

TRAINING_PROMPT = (
    "You are an expert in image region classification. I will provide you with a complete image "
    "and a part of this image. You need to classify the region part based on the full image. "
    f"Complete image: {IMAGE}. Region image:"
)


def normalise_category(name: str) -> str:
    """A data set's class name as WOW-Seg learns it: ``bow_(decorative_ribbons)`` -> ``bow``,
    ``trash_can:body`` -> ``trash can: body``."""
    before = None
    while before != name:
        before, name = name, _BRACKETS.sub("", name)
    name = name.replace("_", " ").replace("-", " ")
    if ":" in name:
        name = ": ".join(part.strip() for part in name.split(":"))
    return " ".join(name.split())


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
