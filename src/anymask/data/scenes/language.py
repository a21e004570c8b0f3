"""What can be said of a scene: a caption, and phrases with the things they mean.

A phrase is only said when it is clear: a place ("left of", "largest") is used when no pair of
things is close to its border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from anymask.data.scenes.categories import THINGS, Thing
from anymask.data.scenes.dice import Dice
from anymask.data.scenes.palette import COLORS, PATTERNS
from anymask.data.scenes.scene import SPLITS, Scene, SceneObject

Kind = Literal["category", "attribute", "relation", "extreme", "kind", "everything", "nothing"]

# Things are left of, above, ... when their middles are this far apart (share of the side); pairs
# between half of it and all of it are unclear and not spoken of.
MARGIN = 1 / 16
# The largest thing is at least so many times as large as the next.
LARGER = 1.3

RELATIONS = ("left of", "right of", "above", "below")
EXTREMES = ("largest", "smallest", "leftmost", "rightmost", "topmost", "bottommost")


@dataclass(frozen=True)
class Phrase:
    """A referring phrase and its truth.

    Attributes:
        text: the words.
        kind: how it describes: by category, attribute, relation to another thing, extreme, wider
            word, attribute alone; or ``"nothing"`` when nothing matches.
        objects: positions in ``scene.objects`` of all that it means, ascending; may be empty.
    """

    text: str
    kind: Kind
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Description:
    """A noun with adjectives; every field that is None fits everything."""

    thing: Thing | None = None
    kind: str | None = None
    color: str | None = None
    pattern: str | None = None

    def fits(self, found: SceneObject) -> bool:
        """Whether it is true of a thing."""
        return (
            self.thing in (None, found.thing)
            and self.kind in (None, found.thing.kind)
            and self.color in (None, found.color)
            and self.pattern in (None, found.pattern)
        )

    def words(self, dice: Dice | None = None, many: bool = False) -> str:
        """The words for it; with dice a synonym now and then, where it has one form only."""
        if self.thing is not None:
            noun = self.thing.plural if many else self.thing.name
            if dice is not None and not many and self.thing.synonyms and dice.chance(25):
                noun = dice.pick(self.thing.synonyms)
        elif self.kind is not None:
            noun = KIND_PLURALS[self.kind] if many else KIND_NAMES[self.kind]
        else:
            noun = "things" if many else "thing"
        return " ".join(word for word in (self.pattern, self.color, noun) if word)


KIND_NAMES = {"clothing": "piece of clothing", "music": "musical instrument", "food": "food"}
KIND_PLURALS = {"clothing": "pieces of clothing", "music": "musical instruments"}
for _kind in sorted({thing.kind for thing in THINGS}):
    KIND_NAMES.setdefault(_kind, _kind)
    KIND_PLURALS.setdefault(_kind, KIND_NAMES[_kind] + ("" if _kind == "food" else "s"))


def phrases_of(scene: Scene, count: int = 8) -> list[Phrase]:
    """Draw phrases for a scene, each a different text; empty without things.

    In training scenes nothing is said of things that have no label there, nor anything that would
    mean one of them.

    Args:
        scene: of :func:`~anymask.data.scenes.scene.make_scene`.
        count: how many to draw; fewer come back when a scene has too little in it.
    """
    dice = Dice(scene.seed, scene.index, list(SPLITS).index(scene.split), 1)
    speak = [k for k, found in enumerate(scene.objects) if scene.split == "val" or _known(found)]
    if not speak:
        return []
    makers = (_category, _attribute, _attribute, _relation, _relation, _extreme, _wide, _nothing)
    said: dict[str, Phrase] = {}
    for attempt in range(4 * count):
        if len(said) == count:
            break
        phrase = makers[attempt % len(makers)](scene, speak, dice)
        if phrase is not None and set(phrase.objects) <= set(speak):
            said.setdefault(phrase.text, phrase)
    return list(said.values())


def caption_of(scene: Scene) -> str:
    """A sentence that names everything with a label, front to back, and the stuff."""
    groups = ("known",) if scene.split == "train" else SPLITS["val"]
    counted: dict[str, list[SceneObject]] = {}
    for found in scene.objects:
        if found.thing.group in groups:
            counted.setdefault(found.thing.name, []).append(found)
    things = []
    for members in counted.values():
        first = members[0]
        if len(members) == 1:
            worn = None if first.pattern == "plain" else first.pattern
            things.append(_a(Description(first.thing, None, first.color, worn).words()))
        else:
            things.append(f"{_NUMBERS[len(members)]} {first.thing.plural}")
    stuff = list(scene.stuff())
    place = f"{_list(stuff)} in the background" if stuff else "nothing in the background"
    return f"{_list(things) if things else 'Nothing'}, with {place}.".capitalize()


_NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen",
)  # fmt: skip


def _known(found: SceneObject) -> bool:
    return found.thing.group == "known"


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


# ------------------------------------------------------------------------- kinds of phrases


def _matching(scene: Scene, wanted: Description) -> tuple[int, ...]:
    return tuple(k for k, found in enumerate(scene.objects) if wanted.fits(found))


def _of(scene: Scene, speak: Sequence[int], dice: Dice) -> SceneObject:
    return scene.objects[dice.pick(speak)]


def _describe(found: SceneObject, dice: Dice) -> Description:
    """A category with its colour or its pattern."""
    if found.pattern != "plain" and dice.chance(50):
        return Description(found.thing, pattern=found.pattern)
    return Description(found.thing, color=found.color)


def _category(scene: Scene, speak: Sequence[int], dice: Dice) -> Phrase | None:
    wanted = Description(_of(scene, speak, dice).thing)
    return Phrase(wanted.words(dice), "category", _matching(scene, wanted))


def _attribute(scene: Scene, speak: Sequence[int], dice: Dice) -> Phrase | None:
    wanted = _describe(_of(scene, speak, dice), dice)
    return Phrase(_the(wanted.words(dice), dice), "attribute", _matching(scene, wanted))


def _relation(scene: Scene, speak: Sequence[int], dice: Dice) -> Phrase | None:
    """ "The red star left of the blue mug": every red star that is left of some blue mug."""
    wanted, anchor = _describe(_of(scene, speak, dice), dice), _of(scene, speak, dice)
    other = Description(anchor.thing)
    if len(_matching(scene, other)) > 1:
        other = _describe(anchor, dice)
    anchors, candidates = _matching(scene, other), _matching(scene, wanted)
    if len(anchors) != 1 or set(anchors) & set(candidates):
        return None
    relation = dice.pick(RELATIONS)
    sides = [beside(scene, k, anchors[0], relation) for k in candidates]
    if None in sides:
        return None
    meant = tuple(k for k, side in zip(candidates, sides, strict=True) if side)
    text = f"the {wanted.words(dice)} {relation} the {other.words()}"
    return Phrase(text, "relation" if meant else "nothing", meant)


def beside(scene: Scene, one: int, other: int, relation: str) -> bool | None:
    """Whether objects[one] is left of (...) objects[other]; None when that is unclear."""
    (x, y), (p, q) = scene.objects[one].center, scene.objects[other].center
    ahead = {"left of": p - x, "right of": x - p, "above": q - y, "below": y - q}[relation]
    if ahead >= MARGIN * scene.size:
        return True
    return False if ahead <= MARGIN * scene.size / 2 else None


def _extreme(scene: Scene, speak: Sequence[int], dice: Dice) -> Phrase | None:
    wanted = Description(_of(scene, speak, dice).thing)
    members = _matching(scene, wanted)
    if len(members) < 2:
        return None
    extreme = dice.pick(EXTREMES)
    ranked = sorted(members, key=lambda k: measure_of(scene.objects[k], extreme))
    best, second = (measure_of(scene.objects[k], extreme) for k in ranked[:2])
    if extreme == "largest":
        clear = best <= LARGER * second  # both are negative areas
    elif extreme == "smallest":
        clear = second >= LARGER * best
    else:
        clear = second - best >= MARGIN * scene.size
    text = f"the {extreme} {wanted.words(dice)}"
    return Phrase(text, "extreme", (ranked[0],)) if clear else None


def measure_of(found: SceneObject, extreme: str) -> float:
    """What is smallest for the thing that an extreme word means."""
    x, y = found.center
    return {
        "largest": -float(found.area),
        "smallest": float(found.area),
        "leftmost": x,
        "rightmost": -x,
        "topmost": y,
        "bottommost": -y,
    }[extreme]


def _wide(scene: Scene, speak: Sequence[int], dice: Dice) -> Phrase | None:
    """ "All animals", "everything red", "all striped things"."""
    found = _of(scene, speak, dice)
    which = dice.below(3)
    if which == 0:
        wanted = Description(kind=found.thing.kind)
        kind: Kind = "kind"
    elif which == 1 or found.pattern == "plain":
        wanted, kind = Description(color=found.color), "everything"
    else:
        wanted, kind = Description(pattern=found.pattern), "everything"
    return Phrase(f"all {wanted.words(many=True)}", kind, _matching(scene, wanted))


def _nothing(scene: Scene, speak: Sequence[int], dice: Dice) -> Phrase | None:
    """A phrase that sounds likely and means nothing here."""
    if dice.chance(50):
        groups = ("known",) if scene.split == "train" else SPLITS["val"]
        absent = {found.thing for found in scene.objects}
        wanted = Description(
            dice.pick([t for t in THINGS if t.group in groups and t not in absent])
        )
    elif dice.chance(50):
        thing = _of(scene, speak, dice).thing
        wanted = Description(thing, color=dice.pick(tuple(COLORS)))
    else:
        wanted = Description(_of(scene, speak, dice).thing, pattern=dice.pick(PATTERNS[1:]))
    if _matching(scene, wanted):
        return None
    return Phrase(_the(wanted.words(dice), dice), "nothing", ())


def _the(words: str, dice: Dice) -> str:
    return f"the {words}" if dice.chance(40) else words
