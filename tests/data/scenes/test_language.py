"""What is said of a scene is true: every phrase is understood again from its words alone.

The reading below shares no code with the speaking: it knows English words, the annotations of
everything.json and the rules in the documentation.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anymask.data.scenes import make_scene
from anymask.data.scenes.files import World, write_scenes
from anymask.data.scenes.language import caption_of, phrases_of
from anymask.ops.rle import decode, from_coco_any

COLORS = "red orange yellow green blue purple pink brown black white grey".split()  # noqa: SIM905
PATTERNS = ["striped", "spotted", "checked"]
RELATION = re.compile(r"(?P<what>.+) (?P<how>left of|right of|above|below) (?P<where>the .+)")
EXTREME = re.compile(
    r"the (?P<how>largest|smallest|leftmost|rightmost|topmost|bottommost) (?P<what>.+)"
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worlds") / "val"
    for _ in write_scenes(folder, World(120, seed=4, size=96, split="val")):
        pass
    return folder


class Reader:
    """Understands phrases about one picture."""

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / "everything.json").read_text())
        self.words: dict[str, set[int]] = {}
        irregular = {
            "clothing": ("piece of clothing", "pieces of clothing"),
            "music": ("musical instrument", "musical instruments"),
            "food": ("food", "food"),
        }
        for category in content["categories"]:
            kind = category["supercategory"]
            nouns = [category["name"], *category["synonyms"]]
            nouns += irregular.get(kind, (kind, kind + "s"))
            for noun in [*nouns, "thing", "things"]:
                self.words.setdefault(noun, set()).add(category["id"])
        self.rows: dict[int, list[dict[str, Any]]] = {}
        for row in content["annotations"]:
            ys, xs = np.nonzero(decode(from_coco_any(row["segmentation"], (96, 96))))
            row["left"], row["right"] = xs.min(), xs.max() + 1
            row["top"], row["bottom"] = ys.min(), ys.max() + 1
            row["x"], row["y"] = row["left"] + row["right"], row["top"] + row["bottom"]
            self.rows.setdefault(row["image_id"], []).append(row)

    def noun_phrase(self, text: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        text = re.sub(r"^(the|all) ", "", text)
        found = rows
        while True:
            first, _, rest = text.partition(" ")
            if first in PATTERNS:
                found = [row for row in found if row["pattern"] == first]
            elif first in COLORS:
                found = [row for row in found if row["color"] == first]
            else:
                break
            text = rest
        return [row for row in found if row["category_id"] in self.words[text]]

    def understand(self, text: str, image_id: int) -> list[dict[str, Any]]:
        rows = self.rows.get(image_id, [])
        if match := RELATION.fullmatch(text):
            (anchor,) = self.noun_phrase(match["where"], rows)
            axis, sign = {
                "left of": ("x", -1),
                "right of": ("x", 1),
                "above": ("y", -1),
                "below": ("y", 1),
            }[match["how"]]
            candidates = self.noun_phrase(match["what"], rows)
            ahead = [sign * (row[axis] - anchor[axis]) / 2 for row in candidates]
            # No candidate is near the border between yes and no.
            assert all(a >= 6 or a <= 3 for a in ahead), text
            return [row for row, a in zip(candidates, ahead) if a >= 6]
        if match := EXTREME.fullmatch(text):
            rows = self.noun_phrase(match["what"], rows)
            key, sign = {
                "largest": ("area", -1),
                "smallest": ("area", 1),
                "leftmost": ("x", 1),
                "rightmost": ("x", -1),
                "topmost": ("y", 1),
                "bottommost": ("y", -1),
            }[match["how"]]
            assert len(rows) > 1, text
            ranked = sorted(rows, key=lambda row: sign * row[key])
            one, two = (ranked[k][key] for k in (0, 1))
            if key == "area":
                assert max(one, two) >= 1.3 * min(one, two), text
            else:
                assert abs(one - two) / 2 >= 6, text
            return ranked[:1]
        return self.noun_phrase(text, rows)


def test_every_phrase_means_what_it_says(world: Path) -> None:
    reader = Reader(world)
    phrases = json.loads((world / "phrases.json").read_text())["phrases"]
    kinds, counts = Counter(), Counter()
    for phrase in phrases:
        meant = {row["id"] for row in reader.understand(phrase["phrase"], phrase["image_id"])}
        assert meant == set(phrase["annotation_ids"]), phrase
        assert (phrase["kind"] == "nothing") == (not meant), phrase
        kinds[phrase["kind"]] += 1
        counts[min(len(meant), 2)] += 1
    assert set(kinds) == {
        "category", "attribute", "relation", "extreme", "kind", "everything", "nothing"
    }  # fmt: skip
    assert min(kinds.values()) >= 15
    # No, one and many matches all occur often.
    assert min(counts[n] for n in (0, 1, 2)) > len(phrases) / 10
    assert len({(p["image_id"], p["phrase"]) for p in phrases}) == len(phrases)


def test_training_phrases_never_mean_an_unlabelled_thing() -> None:
    for index in range(120):
        scene = make_scene(9, index, 64, "train")
        for phrase in phrases_of(scene):
            groups = {scene.objects[k].thing.group for k in phrase.objects}
            assert groups <= {"known"}, phrase


def test_the_caption_names_what_is_there() -> None:
    scene = make_scene(0, 0, 128, "val")
    caption = caption_of(scene)
    for found in scene.objects:
        assert found.thing.name in caption or found.thing.plural in caption
    for name in scene.stuff():
        assert name in caption
    assert caption[0].isupper()
    assert caption.endswith(".")


def test_a_scene_without_words_has_no_phrases() -> None:
    scene = make_scene(0, 0, 64, "train")
    bare = replace(scene, objects=(), instance_map=np.zeros_like(scene.instance_map))
    assert phrases_of(bare) == []
    assert caption_of(bare).startswith("Nothing, with ")
