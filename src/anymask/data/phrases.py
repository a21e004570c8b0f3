"""Data sets of phrases: what each means in its picture.

Readers: ``phrases.json`` of scenes, RefCOCO, RefCOCO+ and RefCOCOg as published (``refs(umd).p``
and ``instances.json``), X-Decoder's JSON of the same, and any COCO file, whose class names are then
the phrases.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from anymask.data.coco import CocoDataset
from anymask.data.json_stream import read_json
from anymask.errors import DataError, InputError
from anymask.ops.rle import RLE, from_coco_any, merge

Sentences = Literal["first", "all"]


@dataclass(frozen=True)
class PhraseTruth:
    """A phrase in a picture.

    Attributes:
        id: number of the phrase.
        image_id: of its picture.
        text: the words.
        masks: everything it means; may be empty.
        kind: how it describes ("category", "relation", ...), or "".
        thing: number of the object that its sentences share; 0 = none is known.
    """

    id: int
    image_id: int
    text: str
    masks: tuple[RLE, ...]
    kind: str = ""
    thing: int = 0

    def union(self, size: tuple[int, int]) -> RLE:
        """Everything it means in one mask (H, W)."""
        if not self.masks:
            return from_coco_any({"size": list(size), "counts": [size[0] * size[1]]}, size)
        return merge(self.masks)


@dataclass(frozen=True)
class PhraseData:
    """Pictures and phrases.

    Attributes:
        name: for reports.
        sizes: image id -> (H, W).
        files: image id -> path of the picture.
        phrases: in the file's order.
        note: what the protocol says of them ("first sentence of every object", ...).
        classes: category id -> phrase, where the phrases are class names.
        one_name: a mask has one name, the best of all that were asked for.
    """

    name: str
    sizes: Mapping[int, tuple[int, int]]
    files: Mapping[int, Path]
    phrases: tuple[PhraseTruth, ...]
    note: str = ""
    classes: Mapping[int, str] = field(default_factory=dict)
    one_name: bool = False

    def __len__(self) -> int:
        return len(self.phrases)

    @property
    def digest(self) -> str:
        """SHA-256 of what is asked and what is meant, in hex."""
        sha = hashlib.sha256()
        for phrase in self.phrases:
            masks = [[list(rle["size"]), str(rle["counts"])] for rle in phrase.masks]
            asked = [phrase.id, phrase.image_id, phrase.text, masks]
            sha.update(json.dumps(asked).encode())
        return sha.hexdigest()

    def by_picture(self) -> Iterator[tuple[int, list[PhraseTruth]]]:
        """Pictures with phrases, and their phrases."""
        found: dict[int, list[PhraseTruth]] = {}
        for phrase in self.phrases:
            found.setdefault(phrase.image_id, []).append(phrase)
        yield from found.items()


def read_phrases(
    path: Path, images: Path | None = None, sentences: Sentences = "first"
) -> PhraseData:
    """Read a JSON file of phrases, of scenes or X-Decoder's.

    Args:
        path: the file.
        images: folder of the pictures; None = the file's, or ``images`` beside it.
        sentences: of X-Decoder's objects: the first one (its own convention) or all.

    Raises:
        DataError: it is neither.
    """
    found = read_json(path)
    if isinstance(found, dict) and "phrases" in found and "images" in found:
        return _of_scenes(path, found, images)
    if isinstance(found, dict) and {"images", "annotations"} <= found.keys():
        return _of_xdecoder(path, found, images, sentences)
    raise DataError(
        f"{path} has no phrases: give phrases.json of scenes, X-Decoder's refcocog.json, or the "
        "folder of RefCOCO (refs(umd).p and instances.json)"
    )


def _pictures(
    path: Path, rows: Sequence[dict[str, Any]], images: Path | None
) -> tuple[dict[int, tuple[int, int]], dict[int, Path]]:
    folder = images or path.parent
    if images is None and (path.parent / "images").is_dir():
        folder = path.parent / "images"
    try:
        sizes = {int(r["id"]): (int(r["height"]), int(r["width"])) for r in rows}
        files = {int(r["id"]): folder / str(r["file_name"]).removeprefix("images/") for r in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: a picture lacks id, height, width or file_name ({error})"
        ) from error
    return sizes, files


def _of_scenes(path: Path, found: dict[str, Any], images: Path | None) -> PhraseData:
    sizes, files = _pictures(path, found["images"], images)
    everything = CocoDataset.read(path.with_name("everything.json"))
    masks: dict[int, RLE] = {}
    for image_id in everything.image_ids:
        segments = everything.annotations_of(image_id)
        masks |= {int(k): rle for k, rle in zip(segments.ids, segments.rles, strict=True) if k}
    phrases = []
    for row in found["phrases"]:
        missing = [k for k in row["annotation_ids"] if k not in masks]
        if missing:
            raise DataError(f"{path}: phrase {row['id']} means annotation {missing[0]}, which "
                            "everything.json does not have")  # fmt: skip
        phrases.append(
            PhraseTruth(
                int(row["id"]),
                int(row["image_id"]),
                str(row["phrase"]),
                tuple(masks[k] for k in row["annotation_ids"]),
                str(row.get("kind", "")),
            )
        )
    return PhraseData(path.parent.name, sizes, files, tuple(phrases))


def _of_xdecoder(
    path: Path, found: dict[str, Any], images: Path | None, sentences: Sentences
) -> PhraseData:
    if sentences not in ("first", "all"):
        raise InputError(f"sentences is {sentences!r}: use first or all")
    sizes, files = _pictures(path, found["images"], images)
    phrases: list[PhraseTruth] = []
    for row in found["annotations"]:
        if not isinstance(row, dict) or not {"sentences", "image_id", "segmentation"} <= row.keys():
            named = row.get("id") if isinstance(row, dict) else row
            raise DataError(
                f"{path}: annotation {named} has no sentences, or no image_id or segmentation"
            )
        if row["image_id"] not in sizes:
            raise DataError(
                f"{path}: annotation {row.get('id')} is of image {row['image_id']}, which is not "
                "among its images"
            )
        mask = from_coco_any(row["segmentation"], sizes[int(row["image_id"])])
        said = row["sentences"][:1] if sentences == "first" else row["sentences"]
        for sentence in said:
            text = str(sentence.get("raw") or sentence.get("sent") or "").lower()
            number = int(sentence.get("sent_id", len(phrases)))
            thing = int(row.get("id", 0))
            phrases.append(PhraseTruth(number, int(row["image_id"]), text, (mask,), "", thing))
    return PhraseData(path.stem, sizes, files, tuple(phrases), f"{sentences} sentences")


def read_refcoco(
    folder: Path,
    split: str = "val",
    split_by: str = "umd",
    images: Path | None = None,
    sentences: Sentences = "first",
) -> PhraseData:
    """RefCOCO, RefCOCO+ or RefCOCOg as published (Yu et al. 2016; Mao et al. 2016).

    Args:
        folder: holds ``refs(SPLIT_BY).p`` and ``instances.json``.
        split: ``"train"``, ``"val"``, ``"test"``, ``"testA"`` or ``"testB"``.
        split_by: ``"unc"`` (RefCOCO, RefCOCO+), ``"umd"`` or ``"google"`` (RefCOCOg).
        images: folder of COCO's train2014 pictures; None = ``folder/images``.
        sentences: the first of every object, as X-Decoder evaluates, or all, as LISA does.

    Raises:
        DataError: a file is missing or broken, or has no such split.
    """
    if sentences not in ("first", "all"):
        raise InputError(f"sentences is {sentences!r}: use first or all")
    path = folder / f"refs({split_by}).p"
    try:
        refs = _PlainUnpickler(io.BytesIO(path.read_bytes()), encoding="latin1").load()
    except (OSError, pickle.UnpicklingError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    needed = {"image_id", "ann_id", "split", "sentences"}
    for number, ref in enumerate(refs if isinstance(refs, list) else [None]):
        if not isinstance(ref, dict) or not needed <= ref.keys():
            raise DataError(
                f"{path}: reference {number} is no record with {', '.join(sorted(needed))}"
            )
    data = CocoDataset.read(folder / "instances.json", images or folder / "images")
    chosen = [ref for ref in refs if ref.get("split") == split]
    if not chosen:
        raise DataError(
            f"{path} has no split {split!r}; it has {sorted({r['split'] for r in refs})}"
        )
    sizes, files = {}, {}
    phrases: list[PhraseTruth] = []
    masks: dict[int | None, RLE] = {}
    for image_id in {int(ref["image_id"]) for ref in chosen}:
        record = data.image_record(image_id)
        sizes[image_id] = (int(record["height"]), int(record["width"]))
        files[image_id] = data.image_path(image_id)
        segments = data.annotations_of(image_id)
        masks |= dict(zip(segments.ids, segments.rles, strict=True))
    for ref in chosen:
        if ref["ann_id"] not in masks:
            raise DataError(f"{folder}: instances.json has no annotation {ref['ann_id']}")
        said = ref["sentences"][:1] if sentences == "first" else ref["sentences"]
        phrases += [
            PhraseTruth(
                int(s["sent_id"]),
                int(ref["image_id"]),
                s["raw"].lower(),
                (masks[ref["ann_id"]],),
                thing=int(ref["ann_id"]),
            )
            for s in said
        ]
    name = f"{folder.name} {split_by} {split}"
    return PhraseData(name, sizes, files, tuple(phrases), f"{sentences} sentences")


Use = Literal["oracle", "global", "full"]
USES = {
    "oracle": "those of the picture",
    "global": "all in every picture, and a mask has one of them",
    "full": "all in every picture",
}


def class_names(data: CocoDataset, use: Use = "oracle") -> PhraseData:
    """The class names of a COCO file as phrases.

    Args:
        data: the file.
        use: ``"oracle"``: of each picture those that occur there; ``"full"``: all of them in every
            picture, so that most mean nothing; ``"global"``: the same, but a mask has the one name
            that suits it best (matching against a whole vocabulary). Numbers of different ones are
            not comparable.
    """
    if use not in USES:
        raise InputError(f"use is {use!r}: use {', '.join(USES)}")
    names = data.names
    sizes, files = {}, {}
    phrases: list[PhraseTruth] = []
    for image_id in data.image_ids:
        record = data.image_record(image_id)
        sizes[image_id] = (int(record["height"]), int(record["width"]))
        files[image_id] = data.image_path(image_id)
        segments = data.annotations_of(image_id, crowd=False)
        found: dict[str, list[RLE]] = {} if use == "oracle" else {n: [] for n in names.values()}
        for rle, label in zip(segments.rles, segments.labels, strict=True):
            found.setdefault(str(label), []).append(rle)
        for name, masks in found.items():
            phrases.append(PhraseTruth(len(phrases) + 1, image_id, name, tuple(masks)))
    return PhraseData(
        "class names",
        sizes,
        files,
        tuple(phrases),
        f"class names, {USES[use]}",
        {number: str(name) for number, name in names.items()},
        use == "global",
    )


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles lists, dictionaries, texts and numbers, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the file wants to call {module}.{name}")
