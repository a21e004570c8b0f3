"""Lists of names: what a picture is asked for, or what a data set calls its classes."""

from __future__ import annotations

import csv
import hashlib
import importlib.resources
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from anymask.errors import VocabularyError

Group = Literal["known", "seen", "unseen"]
GROUPS: Final = ("known", "seen", "unseen")
"""known: masks and names in training; seen: names only; unseen: neither."""


@dataclass(frozen=True)
class Category:
    """One class of a vocabulary.

    Attributes:
        name: the word for it.
        id: its number; in a built-in vocabulary the one that the data set's files use.
        synonyms: other words for it.
        is_thing: True for countable things, False for stuff (sky, grass), None if not said.
        group: "known", "seen" or "unseen" in an open-world split, None if there is none.
        original: the data set's own spelling, None if not recorded.
    """

    name: str
    id: int
    synonyms: tuple[str, ...] = ()
    is_thing: bool | None = None
    group: Group | None = None
    original: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


@dataclass(frozen=True)
class Vocabulary:
    """An ordered list of classes; make one with :meth:`of`.

    Attributes:
        categories: the classes.
        templates: sentences with one `{}` for the name, for models that compare text.
        title: what the vocabulary is called in a report.

    Raises:
        VocabularyError: an id appears twice, a name is empty, or a template lacks its `{}`.
    """

    categories: tuple[Category, ...]
    templates: tuple[str, ...] = ("{}",)
    title: str = "custom"

    def __post_init__(self) -> None:
        seen: set[int] = set()
        for category in self.categories:
            if not category.name.strip() or not all(word.strip() for word in category.synonyms):
                raise VocabularyError(f"the class with the id {category.id} has an empty name.")
            if category.id in seen:
                raise VocabularyError(f"the id {category.id} appears twice.")
            seen.add(category.id)
        for template in self.templates:
            if template.count("{}") != 1:
                raise VocabularyError(f"the template {template!r} needs exactly one {{}}.")

    # ------------------------------------------------------------------------------ making

    @classmethod
    def of(cls, source: Any) -> Vocabulary:
        """Make a vocabulary from whatever describes one.

        Args:
            source: a `Vocabulary` (returned as it is), a list of names, a path to a text or JSON
                file, or the name of a built-in vocabulary.

        Raises:
            VocabularyError: no such file or built-in vocabulary, or a malformed one.
        """
        if isinstance(source, Vocabulary):
            return source
        if isinstance(source, str) and source in cls.builtin_names():
            return cls.builtin(source)
        if isinstance(source, (str, Path)):
            if isinstance(source, str) and not Path(source).exists():
                raise VocabularyError(
                    f"{source!r} is neither a file nor a built-in vocabulary; built in are "
                    f"{', '.join(cls.builtin_names())}. A list of names is given as a list."
                )
            return cls.read(source)
        if isinstance(source, Iterable):
            return cls.from_names(source)
        raise VocabularyError(f"no vocabulary can be made from a {type(source).__name__}.")

    @classmethod
    def from_names(cls, names: Iterable[str | Sequence[str]], title: str = "custom") -> Vocabulary:
        """Make a vocabulary from words; the ids are 1, 2, ...

        Args:
            names: a name each, or a name and its synonyms.
            title: what the vocabulary is called.

        Raises:
            VocabularyError: a name is empty, appears twice, or is not a word.
        """
        categories = []
        for number, entry in enumerate(names, start=1):
            words = [entry] if isinstance(entry, str) else entry
            if not isinstance(words, Sequence) or not all(isinstance(w, str) for w in words):
                raise VocabularyError(f"entry {number} is {entry!r}; a name is expected.")
            cleaned = [" ".join(word.split()) for word in words]
            if not cleaned:
                raise VocabularyError(f"entry {number} has no name.")
            categories.append(Category(cleaned[0], number, tuple(dict.fromkeys(cleaned[1:]))))
        _reject_duplicates(categories, "the list")
        return cls(tuple(categories), title=title)

    @classmethod
    def read(cls, path: str | Path) -> Vocabulary:
        """Read a vocabulary file.

        A text file has one class per line: the name, its synonyms behind commas, and after
        semicolons, if wanted, `thing` or `stuff`, `group=known|seen|unseen` and `id=NUMBER`. Empty
        lines and lines that begin with `#` are passed over; a line `template: ...` adds a template.

            # animals of the farm
            template: a photo of a {}.
            cow, cattle; thing; group=known
            sheep, ewe, ram; thing; group=unseen
            grass, meadow; stuff

        A JSON file (`.json`) is a list of names, or of objects with `name` and optionally `id`,
        `synonyms`, `isthing` (0 or 1) and `group`; or an object with such a list under
        `categories` (so that a COCO file will do) and optionally `templates`.

        Raises:
            VocabularyError: the file is missing, not UTF-8 text, malformed (the message gives the
                line), or has a name or an id twice.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except OSError as error:
            raise VocabularyError(
                f"{path} cannot be opened: {error.strerror or error}. Check the path; built-in "
                f"vocabularies are {', '.join(cls.builtin_names())}."
            ) from error
        except UnicodeDecodeError:
            raise VocabularyError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
        if path.suffix.lower() == ".json":
            return _from_json(text, path)
        return _from_text(text, path)

    @classmethod
    def builtin(cls, name: str) -> Vocabulary:
        """A vocabulary that comes with the package: see `data/vocabularies/README.md`.

        Names may repeat in `ade20k-847`, `v3det` and `pascal-part`; ids never do.

        Raises:
            VocabularyError: there is none of that name; the message lists them.
        """
        if name not in cls.builtin_names():
            raise VocabularyError(
                f"there is no built-in vocabulary {name!r}; there are "
                f"{', '.join(cls.builtin_names())}."
            )
        text = (_builtin_folder() / f"{name}.tsv").read_text(encoding="utf-8")
        rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        return cls(tuple(_from_row(row) for row in rows), title=name)

    @staticmethod
    def builtin_names() -> tuple[str, ...]:
        """The vocabularies that come with the package, in alphabetical order."""
        files = (entry.name for entry in _builtin_folder().iterdir())
        return tuple(sorted(name.removesuffix(".tsv") for name in files if name.endswith(".tsv")))

    # ----------------------------------------------------------------------------- reading

    def __len__(self) -> int:
        return len(self.categories)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.names)

    def __contains__(self, word: object) -> bool:
        """Whether a word is a name or a synonym here, as :meth:`find` compares."""
        return isinstance(word, str) and self.find(word) is not None

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in order."""
        return tuple(category.name for category in self.categories)

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids, in order."""
        return tuple(category.id for category in self.categories)

    @property
    def synonyms(self) -> tuple[tuple[str, ...], ...]:
        """The synonyms of each class, without its name."""
        return tuple(category.synonyms for category in self.categories)

    @property
    def names_by_id(self) -> dict[int, str]:
        """id -> name."""
        return {category.id: category.name for category in self.categories}

    @property
    def things(self) -> Vocabulary:
        """The countable things."""
        return self._only(category.is_thing is True for category in self.categories)

    @property
    def stuff(self) -> Vocabulary:
        """The stuff."""
        return self._only(category.is_thing is False for category in self.categories)

    def group(self, name: str) -> Vocabulary:
        """The classes of one group of the open-world split.

        Raises:
            VocabularyError: the group is none of known, seen and unseen, or this vocabulary has
                no groups.
        """
        if name not in GROUPS:
            raise VocabularyError(f"{name!r} is not a group; groups are {', '.join(GROUPS)}.")
        if all(category.group is None for category in self.categories):
            raise VocabularyError(
                f"the vocabulary {self.title} has no groups; the built-in `lvis` has, and a file "
                "may say `group=known` behind a name."
            )
        return self._only(category.group == name for category in self.categories)

    def find(self, word: str) -> int | None:
        """The position of the first class with this name, or else with this synonym.

        Case, underscores for spaces and repeated spaces do not matter.
        """
        return self._positions.get(normalise(word))

    @cached_property
    def _positions(self) -> dict[str, int]:
        positions: dict[str, int] = {}
        for position, category in enumerate(self.categories):
            positions.setdefault(normalise(category.name), position)
        for position, category in enumerate(self.categories):
            for word in category.synonyms:
                positions.setdefault(normalise(word), position)
        return positions

    def phrases(self, position: int) -> tuple[str, ...]:
        """Every word of a class in every template."""
        words = self.categories[position].words
        return tuple(template.replace("{}", word) for word in words for template in self.templates)

    def with_templates(self, templates: Iterable[str]) -> Vocabulary:
        """The same classes with other templates.

        Raises:
            VocabularyError: a template lacks its `{}`.
        """
        return replace(self, templates=tuple(templates))

    @property
    def digest(self) -> str:
        """SHA-256 in hex of classes and templates (not of the title): what a report calls it."""
        content = {
            "categories": [_to_dict(category) for category in self.categories],
            "templates": list(self.templates),
        }
        text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """The text of a JSON file that :meth:`read` turns into an equal vocabulary."""
        content = {
            "title": self.title,
            "templates": list(self.templates),
            "categories": [_to_dict(category) for category in self.categories],
        }
        return json.dumps(content, ensure_ascii=False, indent=1)

    def _only(self, flags: Iterable[bool]) -> Vocabulary:
        kept = (category for category, flag in zip(self.categories, flags) if flag)
        return replace(self, categories=tuple(kept))

    def __repr__(self) -> str:
        shown = ", ".join(self.names[:5]) + (", ..." if len(self) > 5 else "")
        return f"Vocabulary({self.title!r}, {len(self)} classes: {shown})"


def normalise(word: str) -> str:
    """A word as names are compared: lower case, underscores as spaces, single spaces."""
    return " ".join(word.replace("_", " ").lower().split())


def _builtin_folder() -> Any:
    return importlib.resources.files("anymask") / "data" / "vocabularies"


def _from_row(row: Mapping[str, str]) -> Category:
    return Category(
        name=row["name"],
        id=int(row["id"]),
        synonyms=tuple(row["synonyms"].split(",")) if row["synonyms"] else (),
        is_thing={"1": True, "0": False, "": None}[row["thing"]],
        group=_group(row["group"]) if row["group"] else None,
        original=row["original"] or None,
    )


def _group(name: Any) -> Group:
    for group in GROUPS:
        if name == group:
            return group
    raise VocabularyError(f"{name!r} is not a group; groups are {', '.join(GROUPS)}")


def _reject_duplicates(categories: Iterable[Category], where: str) -> None:
    seen: set[str] = set()
    for category in categories:
        key = normalise(category.name)
        if key in seen:
            raise VocabularyError(f"{where} has the name {category.name!r} twice.")
        seen.add(key)


# ----------------------------------------------------------------------------------- text files


def _from_text(text: str, path: Path) -> Vocabulary:
    categories: list[Category] = []
    templates: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        if line.lower().startswith("template:"):
            templates.append(line.split(":", 1)[1].strip())
            continue
        try:
            categories.append(_from_line(line, len(categories) + 1))
        except VocabularyError as error:
            raise VocabularyError(f"{path}, line {number}: {error}") from None
    if not categories:
        raise VocabularyError(f"{path} has no names in it.")
    _reject_duplicates(categories, str(path))
    return Vocabulary(tuple(categories), tuple(templates) or ("{}",), title=path.stem)


def _from_line(line: str, number: int) -> Category:
    listed, *options = (part.strip() for part in line.split(";"))
    words = [" ".join(word.split()) for word in listed.split(",")]
    if not all(words):
        raise VocabularyError("a name is empty")
    category = Category(words[0], number, tuple(dict.fromkeys(words[1:])))
    for option in options:
        key, _, value = (part.strip() for part in option.partition("="))
        if option in ("thing", "stuff"):
            category = replace(category, is_thing=option == "thing")
        elif key == "group":
            category = replace(category, group=_group(value))
        elif key == "id" and value.isdecimal():
            category = replace(category, id=int(value))
        elif option:
            raise VocabularyError(
                f"{option!r} is not understood; after a semicolon come thing, stuff, group=... or "
                "id=NUMBER"
            )
    return category


# ----------------------------------------------------------------------------------- JSON files


def _from_json(text: str, path: Path) -> Vocabulary:
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise VocabularyError(f"{path} is not JSON: {error}.") from None
    except RecursionError:
        raise VocabularyError(f"{path} is nested too deeply.") from None
    title, templates = path.stem, ["{}"]
    if isinstance(content, dict):
        title = str(content.get("title", title))
        templates = content.get("templates", templates)
        if not isinstance(templates, list) or not all(isinstance(t, str) for t in templates):
            raise VocabularyError(f"{path}: templates is a list of sentences.")
        content = content.get("categories")
    if not isinstance(content, list) or not content:
        raise VocabularyError(f"{path} has no list of names (or of categories) in it.")
    categories = []
    for number, entry in enumerate(content, start=1):
        try:
            categories.append(_from_entry(entry, number))
        except VocabularyError as error:
            raise VocabularyError(f"{path}, entry {number}: {error}.") from None
    if all(isinstance(entry, str) or "id" not in entry for entry in content):
        _reject_duplicates(categories, str(path))
    return Vocabulary(tuple(categories), tuple(templates), title=title)


def _from_entry(entry: Any, number: int) -> Category:
    if isinstance(entry, str):
        entry = {"name": entry}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        raise VocabularyError(f"{str(entry)[:60]!r} is neither a name nor an object with one")
    synonyms = entry.get("synonyms") or []
    if not isinstance(synonyms, list) or not all(isinstance(word, str) for word in synonyms):
        raise VocabularyError("synonyms is a list of words")
    thing = entry.get("isthing")
    if thing not in (None, 0, 1):
        raise VocabularyError("isthing is 0 or 1")
    identifier = entry.get("id", number)
    if not isinstance(identifier, int) or isinstance(identifier, bool):
        raise VocabularyError("id is a whole number")
    group, original = entry.get("group"), entry.get("original")
    return Category(
        name=entry["name"],
        id=identifier,
        # LVIS lists a name among its own synonyms.
        synonyms=tuple(dict.fromkeys(word for word in synonyms if word != entry["name"])),
        is_thing=None if thing is None else bool(thing),
        group=None if group is None else _group(group),
        original=None if original is None else str(original),
    )


def _to_dict(category: Category) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": category.id, "name": category.name}
    if category.synonyms:
        entry["synonyms"] = list(category.synonyms)
    if category.is_thing is not None:
        entry["isthing"] = int(category.is_thing)
    if category.group is not None:
        entry["group"] = category.group
    if category.original is not None:
        entry["original"] = category.original
    return entry
