"""Accuracy and not-in-vocabulary of free names (OSM, section 4.1; specification 5.2).

A name is right when it is one of its class's words, or a plural or singular of one; it is not in
the vocabulary when it is no class's word as it stands. So "persons" is both right and not in the
vocabulary. Names are compared in lower case and not otherwise changed: "dog." is wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from anymask.errors import InputError
from anymask.vocabulary import Vocabulary


def plurals(word: str) -> list[str]:
    """What the released evaluator takes for plurals, nonsense among them."""
    found = [word + "s", word + "es"]
    for end, other in (("y", "ies"), ("f", "ves"), ("fe", "ves")):
        if word.endswith(end):
            found.append(word[: -len(end)] + other)
    return found


def singulars(word: str) -> list[str]:
    """What it takes for singulars."""
    found = []
    for end, others in (("s", ("",)), ("es", ("",)), ("ies", ("y",)), ("ves", ("f", "fe"))):
        if word.endswith(end):
            found += [word[: -len(end)] + other for other in others]
    return found


def accepted(words: Iterable[str]) -> frozenset[str]:
    """A class's words with their plurals and singulars, once."""
    given = [word.lower() for word in words]
    more = [form for word in given for form in (*plurals(word), *singulars(word))]
    return frozenset([*given, *more])


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
        classes = vocabulary.categories
        self._words = {c.id: frozenset(word.lower() for word in c.words) for c in classes}
        self._accepted = {c.id: accepted(c.words) for c in classes}
        self._all = frozenset().union(*self._words.values())

    def judge(self, name: str, truth: int) -> Verdict:
        """A name for a region of class ``truth`` (its id).

        Raises:
            InputError: the vocabulary has no such class.
        """
        if truth not in self._accepted:
            raise InputError(f"the vocabulary has no class {truth}")
        said = name.lower()
        return Verdict(said in self._accepted[truth], said not in self._all)

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

    def classes_of(self, name: str) -> list[int]:
        """Ids of the classes a name may be (specification 5.3): by their words as they stand, else
        by plurals and singulars; empty = none."""
        said = name.lower().strip()
        exact = [k for k, words in self._words.items() if said in words]
        return exact or [k for k, words in self._accepted.items() if said in words]
