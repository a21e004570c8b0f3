"""Which class a free name belongs to by its words (OSM, specification 5.2 and 5.3)."""

from __future__ import annotations

from collections.abc import Iterable

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


class ClassesOfNames:
    """Finds the classes of names.

    Args:
        vocabulary: classes with synonyms.

    Attributes:
        words: class id -> its words in lower case.
        accepted: class id -> those and their plurals and singulars.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        classes = vocabulary.categories
        self.words = {c.id: frozenset(word.lower() for word in c.words) for c in classes}
        self.accepted = {c.id: accepted(c.words) for c in classes}

    def __call__(self, name: str) -> list[int]:
        """Ids of the classes a name may be (specification 5.3): by their words as they stand, else
        by plurals and singulars; empty = none."""
        said = name.lower().strip()
        exact = [k for k, words in self.words.items() if said in words]
        return exact or [k for k, words in self.accepted.items() if said in words]
