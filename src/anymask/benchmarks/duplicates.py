"""Words of a vocabulary that mean the same, or of which one contains the other (OVSNet, Fig. 2).

A vocabulary with both "door" and "double door" punishes right answers. The detector proposes; a
person decides (OVSNet specification, 6.6).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from anymask.vocabulary import Vocabulary

Kind = Literal["identical", "lexical parent", "near duplicate"]

# Two words of which the second is not what the whole is.
IDIOMS = frozenset(
    {
        "hot dog", "teddy bear", "sea horse", "prairie dog", "sea lion", "guinea pig", "sea urchin",
        "fire engine", "computer mouse", "kitchen island", "traffic island", "pool table",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Duplicate:
    """A pair of classes that may be one too many.

    Attributes:
        child, parent: positions in the vocabulary; of equals the later one is the child.
        kind: why.
        cosine: of the two, NaN without a text model.
        confirmed: identical words, and parents that the cosine supports; the rest are candidates.
    """

    child: int
    parent: int
    kind: Kind
    cosine: float
    confirmed: bool


def find_duplicates(
    vocabulary: Vocabulary,
    cosines: NDArray[Any] | None = None,
    *,
    lexical_cosine: float = 0.7,
    near_cosine: float = 0.95,
    idioms: Iterable[str] = IDIOMS,
) -> list[Duplicate]:
    """All suspicious pairs, in the order of the vocabulary.

    Args:
        vocabulary: names and synonyms.
        cosines: (C, C) similarity of classes; None = go by letters alone.
        lexical_cosine: below it a lexical parent is only a candidate.
        near_cosine: from it on two classes are near duplicates.
        idioms: names whose last word is no parent.
    """
    spoken = [{plain(word) for word in c.words} for c in vocabulary.categories]
    names = [plain(c.name) for c in vocabulary.categories]
    exceptions = {plain(idiom) for idiom in idioms}
    found: list[Duplicate] = []
    owners: dict[str, list[int]] = {}
    for k, words in enumerate(spoken):
        for word in sorted(words):
            owners.setdefault(word, []).append(k)

    def cosine(a: int, b: int) -> float:
        return float("nan") if cosines is None else float(cosines[a, b])

    seen: set[tuple[int, int]] = set()
    for members in owners.values():
        for later in members[1:]:
            pair = (later, members[0])
            if pair not in seen:
                seen.add(pair)
                found.append(Duplicate(*pair, "identical", cosine(*pair), True))
    for k, name in enumerate(names):
        tokens = name.split()
        for cut in range(1, len(tokens)):
            for parent in owners.get(" ".join(tokens[cut:]), ()):
                pair = (k, parent)
                if parent == k or pair in seen or (parent, k) in seen:
                    continue
                seen.add(pair)
                near = cosine(*pair)
                supported = np.isnan(near) or near >= lexical_cosine
                sure = bool(supported) and name not in exceptions
                found.append(Duplicate(*pair, "lexical parent", near, sure))
    if cosines is not None:
        for a, b in zip(*np.nonzero(np.triu(cosines >= near_cosine, 1)), strict=True):
            pair = (int(b), int(a))
            if pair not in seen and pair[::-1] not in seen:
                seen.add(pair)
                found.append(Duplicate(*pair, "near duplicate", cosine(*pair), False))
    return sorted(found, key=lambda d: (d.child, d.parent))


def fine_share(vocabulary: Vocabulary, reference: Vocabulary) -> float:
    """Share of classes whose name ends with a reference name it is longer than: its granularity."""
    parents = {plain(word) for c in reference.categories for word in c.words}

    def has_parent(name: str) -> bool:
        tokens = plain(name).split()
        return any(" ".join(tokens[cut:]) in parents for cut in range(1, len(tokens)))

    return sum(map(has_parent, vocabulary.names)) / max(1, len(vocabulary))


def plain(word: str) -> str:
    """Lower case, no accents, no punctuation, singular: "Brick-Walls" -> "brick wall"."""
    letters = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode().lower()
    tokens = re.sub(r"[^a-z0-9]+", " ", letters).split()
    return " ".join(_singular(token) for token in tokens)


def _singular(token: str) -> str:
    if len(token) > 4 and token.endswith("ies"):
        return token[:-3] + "y"
    if len(token) > 4 and token.endswith(("ches", "shes", "sses", "xes")):
        return token[:-2]
    if len(token) > 3 and token.endswith("s") and not token.endswith(("ss", "us", "is")):
        return token[:-1]
    return token
