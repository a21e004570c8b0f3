"""Vocabularies: from lists, files and the package."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
from shared import SHARED, needs_shared

from anymask.errors import VocabularyError
from anymask.vocabulary import Category, Vocabulary

COUNTS = {
    "ade20k-150": 150,
    "ade20k-847": 847,
    "cityscapes": 19,
    "coco-panoptic": 133,
    "coco-stuff": 171,
    "lvis": 1203,
    "partimagenet-objects": 158,
    "partimagenet-parts": 40,
    "pascal-part": 269,
    "pc-459": 459,
    "pc-59": 59,
    "v3det": 13204,
    "voc-20": 20,
}


def test_built_in_vocabularies() -> None:
    assert {name: len(Vocabulary.builtin(name)) for name in Vocabulary.builtin_names()} == COUNTS


@pytest.mark.parametrize(
    ("name", "things"), [("coco-panoptic", 80), ("ade20k-150", 100), ("cityscapes", 8)]
)
def test_things_and_stuff(name: str, things: int) -> None:
    vocabulary = Vocabulary.builtin(name)
    assert len(vocabulary.things) == things
    assert len(vocabulary.stuff) == len(vocabulary) - things


def test_ids_are_those_of_the_data_sets() -> None:
    coco = Vocabulary.builtin("coco-panoptic").names_by_id
    assert coco[1] == "person"
    assert coco[90] == "toothbrush"
    cityscapes = Vocabulary.builtin("cityscapes").names_by_id
    assert (cityscapes[7], cityscapes[26], cityscapes[33]) == ("road", "car", "bicycle")
    assert Vocabulary.builtin("ade20k-150").names_by_id[0] == "wall"
    assert Vocabulary.builtin("voc-20").names_by_id[15] == "person"
    assert Vocabulary.builtin("pc-59").ids == tuple(range(1, 60))


def test_lvis_groups() -> None:
    lvis = Vocabulary.builtin("lvis")
    sizes = {group: len(lvis.group(group)) for group in ("known", "seen", "unseen")}
    assert sizes == {"known": 123, "seen": 743, "unseen": 337}
    assert lvis.group("unseen").title == "lvis"
    assert "applesauce" in lvis.group("unseen")
    with pytest.raises(VocabularyError, match="not a group"):
        lvis.group("novel")
    with pytest.raises(VocabularyError, match="has no groups"):
        Vocabulary.builtin("voc-20").group("known")


@needs_shared
def test_lvis_groups_are_the_published_split() -> None:
    split = json.loads((SHARED / "specs" / "lvis_ow_split.json").read_text())
    lvis = Vocabulary.builtin("lvis")
    for group in ("known", "seen", "unseen"):
        assert list(lvis.group(group).ids) == split[f"{group}_ids"]


@needs_shared
@pytest.mark.parametrize(
    ("name", "file", "shift"),
    [
        ("coco-panoptic", "coco_panoptic", 0),
        ("ade20k-150", "ade20k_150", 1),
        ("ade20k-847", "ade20k_847", 1),
        ("pc-459", "pc_459", 1),
        ("lvis", "lvis_1203", 0),
    ],
)
def test_words_are_those_of_the_source(name: str, file: str, shift: int) -> None:
    lines = (SHARED / "specs" / "vocab" / f"{file}.txt").read_text().splitlines()
    source = {int(key): words.split(",") for key, words in (line.split(":", 1) for line in lines)}
    for category in Vocabulary.builtin(name).categories:
        assert set(category.words) == set(source[category.id + shift])
        assert category.name == source[category.id + shift][0]


def test_digests_are_fixed() -> None:
    # A changed list must be noticed: numbers made with it are no longer the same numbers.
    assert Vocabulary.builtin("voc-20").digest == Vocabulary.builtin("voc-20").digest
    digests = {Vocabulary.builtin(name).digest for name in COUNTS}
    assert len(digests) == len(COUNTS)
    cats = Vocabulary.from_names(["cat", "dog"])
    assert cats.digest == Vocabulary.from_names(["cat", "dog"], title="pets").digest
    assert cats.digest != Vocabulary.from_names(["dog", "cat"]).digest
    assert cats.digest != cats.with_templates(["a {}"]).digest
    text = '{"categories":[{"id":1,"name":"cat"},{"id":2,"name":"dog"}],"templates":["{}"]}'
    assert cats.digest == hashlib.sha256(text.encode()).hexdigest()


def test_from_names() -> None:
    pets = Vocabulary.from_names(["cat", ["dog", "hound", "hound"], "guinea  pig"])
    assert pets.names == tuple(pets) == ("cat", "dog", "guinea pig")
    assert pets.synonyms == ((), ("hound",), ())
    assert pets.ids == (1, 2, 3)
    assert pets.categories[1].words == ("dog", "hound")
    assert repr(pets) == "Vocabulary('custom', 3 classes: cat, dog, guinea pig)"
    assert pickle.loads(pickle.dumps(pets)) == pets


def test_find() -> None:
    names = Vocabulary.from_names([["tv", "monitor"], ["monitor", "screen"], "Guinea pig"])
    assert names.find("Monitor") == 1  # a name comes before a synonym
    assert names.find("SCREEN") == 1
    assert names.find("guinea_pig") == 2
    assert names.find("cat") is None
    assert "tv" in names
    assert 3 not in names


def test_templates() -> None:
    names = Vocabulary.from_names([["tv", "monitor"]]).with_templates(["a {}.", "the {}."])
    assert names.phrases(0) == ("a tv.", "the tv.", "a monitor.", "the monitor.")
    assert Vocabulary.from_names(["{}"]).phrases(0) == ("{}",)
    for template in ("a thing", "{} and {}", ""):
        with pytest.raises(VocabularyError, match="exactly one"):
            names.with_templates([template])


TEXT = """\ufeff# animals of the farm
template: a photo of a {}.

cow, cattle; thing; group=known
sheep, ewe , ram; thing; group=unseen; id=30
grass, meadow; stuff
barn
"""


def test_text_files(tmp_path: Path) -> None:
    path = tmp_path / "farm.txt"
    path.write_text(TEXT, encoding="utf-8")
    farm = Vocabulary.read(path)
    assert farm.title == "farm"
    assert farm.templates == ("a photo of a {}.",)
    assert farm.categories == (
        Category("cow", 1, ("cattle",), True, "known"),
        Category("sheep", 30, ("ewe", "ram"), True, "unseen"),
        Category("grass", 3, ("meadow",), False),
        Category("barn", 4),
    )
    assert farm.things.names == ("cow", "sheep")
    assert farm.stuff.names == ("grass",)
    assert farm.group("unseen").names == ("sheep",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no names"),
        ("# only a remark\n", "no names"),
        ("cat\ndog\nCat\n", "'Cat' twice"),
        ("cat\n,dog\n", "line 2: a name is empty"),
        ("cat; colour=red\n", "line 1: 'colour=red'"),
        ("cat; group=old\n", "line 1: 'old' is not a group"),
        ("cat; id=x\n", "line 1: 'id=x'"),
        ("cat; id=2\ndog\n", "id 2 appears twice"),
        ("template: no place\ncat\n", "exactly one"),
    ],
)
def test_broken_text_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "v.txt"
    path.write_text(text)
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.read(path)


def test_json_files(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    path.write_text(json.dumps(["cat", {"name": "dog", "synonyms": ["dog", "hound"]}]))
    assert Vocabulary.read(path).categories == (Category("cat", 1), Category("dog", 2, ("hound",)))
    coco = {"images": [], "categories": [{"id": 7, "name": "sky", "isthing": 0}]}
    path.write_text(json.dumps(coco))
    assert Vocabulary.read(path).categories == (Category("sky", 7, (), False),)


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_json_round_trip(tmp_path: Path, name: str) -> None:
    vocabulary = Vocabulary.builtin(name).with_templates(["a {}", "{}"])
    path = tmp_path / "v.json"
    path.write_text(vocabulary.to_json(), encoding="utf-8")
    read = Vocabulary.read(path)
    assert read == vocabulary
    assert read.digest == vocabulary.digest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not JSON"),
        ("[" * 100_000, "not JSON|too deeply"),
        ("{}", "no list"),
        ("[]", "no list"),
        ("3", "no list"),
        ("[3]", "entry 1"),
        ('["cat", "cat"]', "twice"),
        ('[{"name": "cat", "id": 1}, {"name": "dog", "id": 1}]', "id 1 appears twice"),
        ('[{"name": ""}]', "empty name"),
        ('[{"name": "a", "id": "b"}]', "whole number"),
        ('[{"name": "a", "synonyms": "b"}]', "list of words"),
        ('[{"name": "a", "isthing": 2}]', "0 or 1"),
        ('[{"name": "a", "group": "x"}]', "not a group"),
        ('{"categories": ["a"], "templates": "{}"}', "list of sentences"),
    ],
)
def test_broken_json_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "v.json"
    path.write_text(content)
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.read(path)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="cannot be opened"):
        Vocabulary.read(tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00cat")
    with pytest.raises(VocabularyError, match="UTF-8"):
        Vocabulary.read(tmp_path / "b.txt")


def test_of(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("cat\n")
    assert Vocabulary.of("voc-20") == Vocabulary.builtin("voc-20")
    assert Vocabulary.of(path).names == Vocabulary.of(str(path)).names == ("cat",)
    assert Vocabulary.of(["cat", "dog"]).names == ("cat", "dog")
    pets = Vocabulary.from_names(["cat"])
    assert Vocabulary.of(pets) is pets
    with pytest.raises(VocabularyError, match="built in are ade20k-150"):
        Vocabulary.of("voc-21")
    with pytest.raises(VocabularyError, match="voc-20"):
        Vocabulary.builtin("voc-21")


@pytest.mark.parametrize("source", [3, None, [3], [[]], [""], ["cat", "CAT"], ["a", ["b", " "]]])
def test_what_is_no_vocabulary(source: Any) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary.of(source)
