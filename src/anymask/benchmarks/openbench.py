"""Building a benchmark far from the training words, as OpenBench was (OVSNet, section 3).

    1. gather data sets with a class for every pixel
    2. s_c: similarity of every class to the training vocabulary
    3. a picture whose most distant class is still near (min s_c > sigma1) is dropped
    4. in a kept picture every class with s_c > sigma2 becomes "others"
    5. a person removes what conflicts or repeats (rules.json, proposed here, edited by hand)

The thresholds, the picture list and the classes of the published benchmark are not known, so this
builds one of its kind and writes down everything that decided it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.benchmarks.duplicates import find_duplicates, fine_share
from anymask.benchmarks.similarity import SENTENCE, Embed, measure_similarity
from anymask.data.dense import DenseDataset
from anymask.data.formats.atomic import atomic_write
from anymask.data.json_stream import read_json
from anymask.errors import DataError, InputError
from anymask.version import __version__
from anymask.vocabulary import Category, Vocabulary, normalise

IGNORE = 65535
RULES = "rules.json"
# Table 1 of the paper.
PUBLISHED = {
    "classes": 286, "images": 6056, "mean": 0.6142, "median": 0.6452, "min": 0.2608, "max": 0.7947,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """What decides.

    Attributes:
        sigma1, sigma2: thresholds; a number, or a quantile of the s_c of all classes as "q0.8".
        min_pixels: a class is present in a picture from so many pixels on.
        sentence, centred, text_model: of the similarity.
    """

    sigma1: float | str = 0.70
    sigma2: float | str = 0.80
    min_pixels: int = 1
    sentence: str = SENTENCE
    centred: bool = False
    text_model: str = "given"


@dataclass
class Rules:
    """The manual step, as a person edits it.

    Attributes:
        drop: class names to turn into "others".
        rename: old name -> new name.
        merge: name -> the name of the class it becomes a part of.
        drop_images: picture names.
        reviewed: a person has been here.
    """

    drop: list[str] = field(default_factory=list)
    rename: dict[str, str] = field(default_factory=dict)
    merge: dict[str, str] = field(default_factory=dict)
    drop_images: list[str] = field(default_factory=list)
    reviewed: bool = False

    @classmethod
    def read(cls, path: Path) -> Rules:
        """Read a rules file.

        Raises:
            DataError: it is not JSON, or has an entry that nobody knows.
        """
        content = read_json(path)
        content = {k: v for k, v in content.items() if k != "candidates"}
        if unknown := content.keys() - cls.__dataclass_fields__.keys():
            raise DataError(f"{path} has the unknown entry {sorted(unknown)[0]!r}.")
        return cls(**content)


@dataclass(frozen=True)
class Built:
    """What came out.

    Attributes:
        classes: kept names, in order.
        statistics: the columns of Table 1.
        reviewed: the manual step is done; otherwise the rules are waiting.
    """

    classes: list[str]
    statistics: dict[str, float]
    reviewed: bool

    def table(self) -> str:
        """Beside the published numbers."""
        lines = [f"{'':10}{'here':>10}{'published':>12}"]
        for name, value in self.statistics.items():
            theirs = f"{PUBLISHED[name]:12.4g}" if name in PUBLISHED else f"{'':>12}"
            lines.append(f"{name:10}{value:10.4g}{theirs}")
        return "\n".join(lines)


def build(
    sources: Sequence[DenseDataset],
    training: Vocabulary,
    embed: Embed,
    out: Path,
    settings: Settings = Settings(),
    progress: Callable[[int, int], None] | None = None,
) -> Built:
    """Build the benchmark; call again after editing ``rules.json`` to finish it.

    Writes ``categories.json``, ``images.json`` (which picture, its S(I), classes before and after),
    ``labels/`` (16-bit PNG: 0..K-1, K = others, 65535 = ignored), ``similarity.npz``,
    ``manifest.json`` (everything that decided) and ``rules.json``. Pictures are referred to, not
    copied: their licences stay with them.

    Args:
        sources: data sets; classes of equal names are one.
        training: what must be far.
        embed: texts -> vectors.
        out: folder.
        settings: thresholds.
        progress: called with (done, total) pictures.

    Raises:
        InputError: thresholds that cannot be, or nothing is left.
        DataError: a source or the rules are broken.
    """
    rules_path = out / RULES
    rules = Rules.read(rules_path) if rules_path.is_file() else Rules()
    vocabulary, numbers = _merged(sources, rules)
    similarity = measure_similarity(
        vocabulary, training, embed,
        sentence=settings.sentence, centred=settings.centred, name=settings.text_model,
    )  # fmt: skip
    near = similarity.values
    first, second = (_threshold(s, near) for s in (settings.sigma1, settings.sigma2))
    if first > second:
        raise InputError(
            f"sigma1 ({first:.3f}) is above sigma2 ({second:.3f}): pictures of nothing but others "
            "would be kept"
        )
    dropped = {normalise(name) for name in rules.drop}
    manual = np.array([normalise(name) in dropped for name in vocabulary.names])
    to_others = (near > second) | manual  # strictly, as printed
    kept_images = _choose(sources, numbers, near, first, to_others, rules, settings, progress)
    present = Counter(c for image in kept_images for c in image["after"])
    classes = [k for k in range(len(vocabulary)) if present[k]]
    if not classes:
        raise InputError("nothing is left: all pictures are near the training words; raise sigma1")
    position = {k: row for row, k in enumerate(classes)}
    _write_labels(sources, numbers, kept_images, position, out)
    chosen = Vocabulary(tuple(vocabulary.categories[k] for k in classes), title="openbench")
    duplicates = find_duplicates(chosen, _cosines(chosen, embed, settings))
    values = near[classes]
    statistics = {
        "classes": float(len(classes)),
        "images": float(len(kept_images)),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "min": float(values.min()),
        "max": float(values.max()),
        "fine": fine_share(chosen, training),
        "duplicates": float(sum(d.confirmed for d in duplicates)),
    }
    names = vocabulary.names
    _write_json(
        out / "categories.json",
        [
            {
                "id": row, "name": names[k], "synonyms": list(vocabulary.synonyms[k]),
                "similarity": float(near[k]), "nearest": similarity.nearest[k],
                "images": present[k],
                "sources": [s.title for s, own in zip(sources, numbers) if k in own.values()],
            }
            for row, k in enumerate(classes)
        ]
        + [{"id": len(classes), "name": "others", "synonyms": ["background"]}],
    )  # fmt: skip
    _write_json(
        out / "images.json",
        [
            {
                "source": sources[i["source"]].title,
                "image": str(i["picture"].image),
                "labels": f"labels/{i['label']}",
                "similarity": i["similarity"],
                "before": [names[k] for k in i["before"]],
                "after": [names[k] for k in i["after"]],
            }
            for i in kept_images
        ],
    )
    _write_json(out / "report.json", {"statistics": statistics, "published": PUBLISHED})
    _write_json(
        out / "manifest.json",
        {
            "anymask": __version__,
            "settings": {**vars(settings), "sigma1_used": first, "sigma2_used": second},
            "engine": similarity.engine,
            "training": {training.title: training.digest},
            "sources": [
                {
                    "title": s.title, "images": len(s), "classes": len(s.vocabulary),
                    "differences": s.differences(), "licence": s.licence,
                    "vocabulary": s.vocabulary.digest,
                }
                for s in sources
            ],
            "rules": hashlib.sha256(json.dumps(vars(rules), sort_keys=True).encode()).hexdigest(),
            "dropped_classes": [
                {"name": names[k], "similarity": float(near[k]),
                 "why": "rules" if manual[k] else "sigma2" if near[k] > second else "no picture"}
                for k in range(len(vocabulary)) if k not in position
            ],
        },
    )  # fmt: skip
    with atomic_write(out / "similarity.npz") as stream:
        np.savez_compressed(stream, matrix=similarity.matrix, values=near)
    if not rules_path.is_file() or not rules.reviewed:
        _write_rules(rules_path, rules, chosen, duplicates)
    return Built([names[k] for k in classes], statistics, rules.reviewed)


def _merged(
    sources: Sequence[DenseDataset], rules: Rules
) -> tuple[Vocabulary, list[dict[int, int]]]:
    """One vocabulary of all sources, and per source its positions in it ("others" has none)."""
    rename = {normalise(a): b for a, b in rules.rename.items()}
    merge = {normalise(a): b for a, b in rules.merge.items()}
    words: dict[str, tuple[str, list[str]]] = {}
    order: list[str] = []
    numbers: list[dict[int, int]] = []
    for source in sources:
        own: dict[int, int] = {}
        for k, category in enumerate(source.vocabulary.categories):
            if k == source.others:
                continue
            name = merge.get(normalise(category.name), category.name)
            name = rename.get(normalise(name), name)
            key = normalise(name)
            if key not in words:
                words[key] = (name, [])
                order.append(key)
            listed = words[key][1]
            # A class that was merged away leaves its words behind: they name the parent now.
            listed += [w for w in category.words if normalise(w) != key and w not in listed]
            own[k] = order.index(key)
        numbers.append(own)
    categories = tuple(
        Category(words[key][0], number, tuple(words[key][1])) for number, key in enumerate(order)
    )
    if not categories:
        raise InputError("the sources have no classes")
    return Vocabulary(categories, title="all sources"), numbers


def _threshold(given: float | str, values: NDArray[np.float64]) -> float:
    """A number, or "q0.8": that quantile of all classes."""
    if isinstance(given, str) and given.startswith("q"):
        try:
            share = float(given[1:])
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise InputError(f"{given!r} is no quantile: write q0.8 for the 0.8 quantile")
        return float(np.quantile(values, share))
    try:
        return float(given)
    except ValueError:
        raise InputError(f"{given!r} is no threshold: write 0.8 or q0.8") from None


def _choose(
    sources: Sequence[DenseDataset],
    numbers: Sequence[Mapping[int, int]],
    near: NDArray[np.float64],
    first: float,
    to_others: NDArray[np.bool_],
    rules: Rules,
    settings: Settings,
    progress: Callable[[int, int], None] | None,
) -> list[dict[str, Any]]:
    """The pictures that stay, with their classes before and after."""
    gone = set(rules.drop_images)
    kept: list[dict[str, Any]] = []
    total, done = sum(map(len, sources)), 0
    for number, (source, own) in enumerate(zip(sources, numbers, strict=True)):
        for picture, labels in source:
            done += 1
            if progress is not None:
                progress(done, total)
            if picture.name in gone:
                continue
            values, counts = np.unique(labels[labels >= 0], return_counts=True)
            before = sorted(
                {own[v] for v, c in zip(values.tolist(), counts.tolist(), strict=True)
                 if v in own and c >= settings.min_pixels}
            )  # fmt: skip
            if not before:
                continue
            # The picture is as far as its farthest class: S(I) = min s_c.
            distance = float(near[before].min())
            after = [k for k in before if not to_others[k]]
            if distance > first or not after:
                continue
            kept.append(
                {
                    "source": number, "picture": picture, "similarity": distance,
                    "before": before, "after": after,
                    "label": f"{number}_{picture.name.replace('/', '_')}.png",
                }
            )  # fmt: skip
    return kept


def _write_labels(
    sources: Sequence[DenseDataset],
    numbers: Sequence[Mapping[int, int]],
    kept: list[dict[str, Any]],
    position: Mapping[int, int],
    out: Path,
) -> None:
    others = len(position)
    for image in kept:
        source, own = sources[image["source"]], numbers[image["source"]]
        labels = source.labels(image["picture"])
        table = np.full(len(source.vocabulary) + 1, IGNORE, np.uint16)  # the last one: ignored
        allowed = set(image["after"])
        for k in range(len(source.vocabulary)):
            place = own.get(k)
            table[k] = position[place] if place in allowed else others
        picture = PIL.Image.fromarray(table[np.where(labels < 0, len(table) - 1, labels)])
        with atomic_write(out / "labels" / image["label"]) as stream:
            picture.save(stream, format="PNG")


def _cosines(vocabulary: Vocabulary, embed: Embed, settings: Settings) -> NDArray[np.float64]:
    return measure_similarity(vocabulary, vocabulary, embed, sentence=settings.sentence).matrix


def _write_rules(path: Path, rules: Rules, vocabulary: Vocabulary, duplicates: list[Any]) -> None:
    """What a person should look at; what they wrote before stays."""
    names = vocabulary.names
    candidates = [
        {
            "child": names[d.child], "parent": names[d.parent], "kind": d.kind,
            "cosine": None if np.isnan(d.cosine) else round(d.cosine, 4), "sure": d.confirmed,
        }
        for d in duplicates
    ]  # fmt: skip
    _write_json(path, {**vars(rules), "candidates": candidates})


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as stream:
        stream.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())


def read_built(folder: Path) -> DenseDataset:
    """A built benchmark as a data set, for measuring.

    Raises:
        DataError: the folder is not one.
    """
    from anymask.data.dense import DensePicture, by_value

    try:
        categories = json.loads((folder / "categories.json").read_text(encoding="utf-8"))
        images = json.loads((folder / "images.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder} is no built benchmark: {error}") from error
    listed = tuple(
        Category(c["name"], c["id"], tuple(s for s in c["synonyms"] if s != c["name"]))
        for c in categories
    )
    pictures = [
        DensePicture(Path(i["labels"]).stem, Path(i["image"]), folder / i["labels"]) for i in images
    ]
    return DenseDataset(
        f"openbench ({folder.name})",
        Vocabulary(listed, title=f"openbench-{len(listed) - 1}"),
        pictures,
        by_value({k: k for k in range(len(listed))}, ignore=[IGNORE]),
        others=len(listed) - 1,
    )
