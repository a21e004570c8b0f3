"""Accuracy and not-in-vocabulary of free names (OSM, section 4.1; specification 5.2).

A name is right when it is one of its class's words, or a plural or singular of one; it is not in
the vocabulary when it is no class's word as it stands. So "persons" is both right and not in the
vocabulary. Names are compared in lower case and not otherwise changed: "dog." is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from anymask.errors import InputError
from anymask.ops.word_forms import ClassesOfNames
from anymask.vocabulary import Vocabulary


@dataclass(frozen=True)
class Verdict:
    """What is said of one name."""

    correct: bool
    not_in_vocabulary: bool


class OpenNames:
    """Judges names against a vocabulary.

    Args:
        vocabulary: classes with synonyms; ids are those of the truth.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.classes = ClassesOfNames(vocabulary)
        self._all = frozenset().union(*self.classes.words.values())

    def judge(self, name: str, truth: int) -> Verdict:
        """A name for a region of class ``truth`` (its id).

        Raises:
            InputError: the vocabulary has no such class.
        """
        if truth not in self.classes.accepted:
            raise InputError(f"the vocabulary has no class {truth}")
        said = name.lower()
        return Verdict(said in self.classes.accepted[truth], said not in self._all)

    def summary(self, names: Sequence[str], truths: Sequence[int]) -> dict[str, float]:
        """``accuracy`` and ``not_in_vocabulary`` over regions, and ``instances``.

        Raises:
            InputError: other numbers of names, or an unknown class.
        """
        if len(names) != len(truths):
            raise InputError(f"{len(names)} names for {len(truths)} regions")
        found = [self.judge(name, truth) for name, truth in zip(names, truths, strict=True)]
        count = len(found)
        return {
            "accuracy": sum(v.correct for v in found) / count if count else float("nan"),
            "not_in_vocabulary": (
                sum(v.not_in_vocabulary for v in found) / count if count else float("nan")
            ),
            "instances": float(count),
        }
