"""Free names -> the words of a list that mean the same most nearly (paper, section 4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.nn.sentence_encoder import load_sentence_encoder
from anymask.ops.word_forms import ClassesOfNames
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

Encode = Callable[[Sequence[str]], NDArray[Any]]


def nearest_words(
    names: Sequence[str],
    vocabulary: Vocabulary,
    encode: Encode | None = None,
    template: str = "{}",
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The class of every name.

    A name that is a word of the list is that word; else the highest cosine counts, over all words
    of a class.

    Args:
        names: N names.
        vocabulary: C classes with synonyms.
        encode: texts -> unit vectors; None = Sentence-BERT.
        template: a sentence with one ``{}`` that the words are put in.

    Returns:
        (N,) positions in the vocabulary, (N,) cosines, and (N,) how much the best class is ahead of
        the next.
    """
    if not names:
        return np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.float32)
    read = encode or load_sentence_encoder()
    words, owner = _words(vocabulary)
    rows = np.asarray(read([template.replace("{}", word) for word in words]), np.float32)
    given = np.asarray(read(list(names)), np.float32).reshape(len(names), rows.shape[1])
    cosines = given @ rows.T
    best = np.full((len(names), len(vocabulary)), -np.inf, np.float32)
    for column, position in enumerate(owner):
        best[:, position] = np.maximum(best[:, position], cosines[:, column])
    for row, name in enumerate(names):
        exact = vocabulary.find(name)
        if exact is not None:
            best[row, exact] = 1.0
    top = np.sort(best, axis=1)[:, ::-1]
    second = top[:, 1] if best.shape[1] > 1 else np.full(len(names), -1, np.float32)
    return best.argmax(1).astype(np.int64), top[:, 0], top[:, 0] - second


@lru_cache(maxsize=8)
def _words(vocabulary: Vocabulary) -> tuple[tuple[str, ...], tuple[int, ...]]:
    pairs = [(w, k) for k, category in enumerate(vocabulary.categories) for w in category.words]
    return tuple(word for word, _ in pairs), tuple(k for _, k in pairs)


def to_vocabulary(
    segments: Segments, vocabulary: Vocabulary, encode: Encode | None = None
) -> Segments:
    """Named segments with the words of a list; the label scores become cosines.

    Segments without a name stay without one.
    """
    named = [k for k, label in enumerate(segments.labels) if label]
    positions, cosines, _ = nearest_words(
        [str(segments.labels[k]) for k in named], vocabulary, encode
    )
    labels, scores = list(segments.labels), np.array(segments.label_scores, np.float32)
    for row, position, cosine in zip(named, positions, cosines, strict=True):
        labels[row], scores[row] = vocabulary.names[position], cosine
    return segments.with_labels(labels, scores, list(segments.label_sources))


def to_own_words(segments: Segments, vocabulary: Vocabulary) -> Segments:
    """Named segments with the classes whose words their names are, or plurals or singulars of them
    (OSM, specification 5.3); other names are dropped, and the label scores stay."""
    classes_of = ClassesOfNames(vocabulary)
    by_id = {c.id: c.name for c in vocabulary.categories}
    labels = [
        by_id[found[0]] if label and (found := classes_of(label)) else None
        for label in segments.labels
    ]
    return segments.with_labels(labels, segments.label_scores, list(segments.label_sources))
