"""Whether words are things or stuff."""

from __future__ import annotations

from functools import lru_cache

from anymask.vocabulary import Vocabulary

KNOWN_KINDS = ("coco-panoptic", "ade20k-150")  # who says so where the user does not


@lru_cache(maxsize=1)
def _known_kinds() -> tuple[Vocabulary, ...]:
    return tuple(Vocabulary.builtin(name) for name in KNOWN_KINDS)


def kinds_of(vocabulary: Vocabulary) -> list[bool]:
    """Whether each class is a thing: as the vocabulary says, else as COCO or ADE20K, else yes."""

    def kind(position: int) -> bool:
        category = vocabulary.categories[position]
        if category.is_thing is not None:
            return category.is_thing
        for known in _known_kinds():
            found = known.find(category.name)
            if found is not None and known.categories[found].is_thing is not None:
                return bool(known.categories[found].is_thing)
        return True

    return [kind(k) for k in range(len(vocabulary))]
