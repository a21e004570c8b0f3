"""Measuring label maps and panoptic maps of any tool.

semantic   mIoU in both conventions, seen and unseen classes, bins of similarity
panoptic   PQ, SQ and RQ of things and stuff
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.data.coco import CocoDataset
from anymask.data.dense import DenseDataset, panoptic_ids
from anymask.data.formats.png import read_numbers
from anymask.data.json_stream import read_json
from anymask.errors import DataError, InputError
from anymask.image import read_image
from anymask.metrics.panoptic import PanopticQuality, Segment
from anymask.metrics.semantic import ConfusionMatrix
from anymask.ops.rle import decode
from anymask.report import Report
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary, normalise

OTHERS_MODES = ("class", "scored", "ignore", "void")
Predict = Callable[[Any], NDArray[np.int64]]


def measure_semantic(
    data: DenseDataset,
    predict: Predict,
    *,
    name: str = "predictions",
    training: Vocabulary | None = None,
    similarity: Sequence[float] | None = None,
    others: str = "class",
    vocabulary_use: str = "global",
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Mean IoU over a data set, at the size of its label maps.

    Args:
        data: the truth.
        predict: a :class:`~anymask.data.dense.DensePicture` -> (H, W) positions in the data's
            vocabulary, negative where nothing is said.
        name: of what is measured.
        training: the vocabulary of training: classes that share a word with it are seen.
        similarity: (K,) of every class to the training vocabulary, for bins.
        others: what happens with the data's own "others": ``"class"``: a class like any other;
            ``"scored"``: a rival that is in no mean; ``"ignore"``: its pixels are ignored;
            ``"void"``: a class, and pixels without a prediction are predicted as it.
        vocabulary_use: how the predictions were made, for the report: ``"global"`` (all words in
            every picture) or ``"oracle"`` (only those that are there).
        progress: called with (done, total).

    Returns:
        A report that says all of this.
    """
    if others not in OTHERS_MODES:
        raise InputError(f"others is {others!r}: use one of {', '.join(OTHERS_MODES)}")
    table = ConfusionMatrix(len(data.vocabulary))
    for done, (picture, truth) in enumerate(data, 1):
        if data.others is not None and others == "ignore":
            truth = np.where(truth == data.others, -1, truth)
        found = predict(picture)
        if data.others is not None and others == "void":
            found = np.where(found < 0, data.others, found)
        table.add(truth, found)
        if progress is not None:
            progress(done, len(data))
    groups: dict[str, list[int]] = {}
    if training is not None:
        known = {word for category in training.categories for word in category.words}
        flags = [not known.isdisjoint(c.words) for c in data.vocabulary.categories]
        groups = {
            "seen": [k for k, seen in enumerate(flags) if seen],
            "unseen": [k for k, seen in enumerate(flags) if not seen],
        }
    left_out = [data.others] if data.others is not None and others in ("scored", "ignore") else []
    metrics: dict[str, Any] = table.summary(groups=groups, similarity=similarity, left_out=left_out)
    iou = table.iou
    metrics["per_class"] = {
        f"{category.name} ({category.id})": float(iou[k])
        for k, category in enumerate(data.vocabulary.categories)
    }
    return Report(
        title=f"{name} on {data.title}: semantic",
        metrics=metrics,
        protocol={
            "protocol": "semantic",
            "mIoU": "mean over classes in the truth; the other convention beside it",
            "others": others if data.others is not None else "the data set has none",
            "vocabulary": vocabulary_use,
            "images": len(data),
            "differs_from_published": data.differences(),
        },
        vocabulary={data.vocabulary.title: data.vocabulary.digest},
    )


def asked_of(
    find: Callable[[Any, list[str]], Segments], data: DenseDataset, use: str = "oracle"
) -> Predict:
    """Predictions of a model that answers phrases, asked for class names.

    Args:
        find: (picture, phrases) -> segments that do not overlap, labelled with the phrases.
        data: the truth.
        use: ``"oracle"``: of every picture the classes that are in its truth (OpenWorldSAM's
            protocol); ``"full"``: all classes in every picture. Their numbers do not compare.

    Raises:
        InputError: an unknown ``use``.
    """
    if use not in ("oracle", "full"):
        raise InputError(f"vocabulary use is {use!r}: use oracle or full")
    names = data.vocabulary.names
    first: dict[str, int] = {}
    for k, name in enumerate(names):
        first.setdefault(name, k)  # ADE20K-847 has names twice; the first stands for both

    def predict(picture: Any) -> NDArray[np.int64]:
        truth = data.labels(picture)
        present = np.unique(truth[truth >= 0]).tolist() if use == "oracle" else range(len(names))
        asked = list(dict.fromkeys(names[k] for k in present))
        out = np.full(truth.shape, -1, np.int64)
        if not asked:
            return out
        image = read_image(picture.image)
        if image.size != truth.shape:
            raise DataError(
                f"{picture.image} has {image.size} pixels and its truth {truth.shape}: they belong "
                "together only at one size"
            )
        segments = find(image, asked)
        # Of classes that share a name, one that is in the picture is meant.
        numbers = {names[k]: k for k in reversed(list(present))}
        for rle, label in zip(segments.rles, segments.labels, strict=True):
            out[decode(rle)] = numbers.get(str(label), first[str(label)])
        return out

    return predict


def predictions_from(path: Path, vocabulary: Vocabulary) -> Predict:
    """Predictions of a tool on disk.

    Args:
        path: a folder of label pictures (values are the vocabulary's ids; 255 or 65535 where
            nothing is said), found by the picture's name; or a COCO file with labelled, not
            overlapping segments, as ``anymask match --format coco-dataset`` writes it.
        vocabulary: of the truth.

    Raises:
        DataError: nothing is there for a picture, or a label is not in the vocabulary.
    """
    positions = {number: k for k, number in enumerate(vocabulary.ids)}
    if path.is_dir():

        def from_folder(picture: Any) -> NDArray[np.int64]:
            files = [path / f"{picture.name}{end}" for end in (".png", ".tif", ".tiff")]
            file = next((f for f in files if f.is_file()), None)
            if file is None:
                raise DataError(f"{path} has no label picture for {picture.name}")
            values = read_numbers(file).astype(np.int64)
            out = np.full(values.shape, -1, np.int64)
            for value in np.unique(values).tolist():
                if value in positions:
                    out[values == value] = positions[value]
                elif value not in (255, 65535):
                    raise DataError(f"{file} has the value {value}, which is not in the vocabulary")
            return out

        return from_folder
    data = CocoDataset.read(path)
    by_name = {
        str(record.get("name", Path(str(record.get("file_name"))).stem)): record["id"]
        for record in data.images
    }
    words = {normalise(name): k for k, name in reversed(list(enumerate(vocabulary.names)))}

    def from_file(picture: Any) -> NDArray[np.int64]:
        number = by_name.get(picture.name, by_name.get(Path(picture.name).name))
        if number is None:
            raise DataError(f"{path} has nothing for the picture {picture.name}")
        segments = data.annotations_of(number)
        out = np.full(segments.size, -1, np.int64)
        for row, label in enumerate(segments.labels):
            position = words.get(normalise(label or ""))
            if position is None:
                raise DataError(f"{path} has the label {label!r}, which is not in the vocabulary")
            out[segments.mask(row)] = position
        return out

    return from_file


# ---------------------------------------------------------------------------------- panoptic


def measure_panoptic(truth: str | Path, predictions: str | Path) -> Report:
    """Panoptic quality of COCO panoptic files.

    Args:
        truth: JSON file; its pictures lie in the folder of the same name beside it.
        predictions: the same of any tool, or a COCO file with labelled, not overlapping segments
            as ``anymask match --task panoptic --format coco-dataset`` writes it.

    Raises:
        DataError: a file is broken, or a picture is missing.
    """
    truth, predictions = Path(truth), Path(predictions)
    content = _panoptic_json(truth)
    names = {c["id"]: c["name"] for c in content["categories"]}
    quality = PanopticQuality(list(names), [c["id"] for c in content["categories"] if c["isthing"]])
    files = {record["id"]: record["file_name"] for record in content["images"]}
    found = _found_panoptic(predictions, {name: c for c, name in names.items()})
    for record in content["annotations"]:
        ids, segments = _panoptic_map(truth, record)
        said = found(record["image_id"], files[record["image_id"]], ids.shape)
        try:
            quality.add(ids, segments, *said)
        except InputError as error:
            raise DataError(f"picture {files[record['image_id']]}: {error}") from error
    metrics = quality.summary()
    metrics["per_class"] = {names[int(c)]: v for c, v in metrics["per_class"].items()}
    return Report(
        title=f"{predictions.name} on {truth.name}: panoptic",
        metrics=metrics,
        protocol={
            "protocol": "panoptic",
            "match": "IoU > 0.5, void and crowds as in COCO",
            "images": len(content["annotations"]),
        },
    )


def _panoptic_json(path: Path) -> dict[str, Any]:
    content = read_json(path)
    needed = {"annotations", "images", "categories"}
    if not isinstance(content, dict) or not needed <= set(content):
        raise DataError(f"{path} is no panoptic file: it needs {', '.join(sorted(needed))}.")
    return content


def _panoptic_map(path: Path, record: Mapping[str, Any]) -> tuple[NDArray[Any], list[Segment]]:
    ids = panoptic_ids(path.with_suffix("") / record["file_name"])
    segments = [
        Segment(s["id"], s["category_id"], bool(s.get("iscrowd", 0)))
        for s in record["segments_info"]
    ]
    return ids, segments


def _found_panoptic(
    path: Path, numbers: Mapping[str, int]
) -> Callable[[int, str, tuple[int, ...]], tuple[NDArray[Any], list[Segment]]]:
    records = _panoptic_json(path)
    panoptic = all("segments_info" in record for record in records["annotations"])
    if panoptic and records["annotations"]:
        by_id = {record["image_id"]: record for record in records["annotations"]}

        def from_panoptic(
            number: int, name: str, shape: tuple[int, ...]
        ) -> tuple[NDArray[Any], list[Segment]]:
            if number not in by_id:
                raise DataError(f"{path} has nothing for the picture {name} ({number})")
            return _panoptic_map(path, by_id[number])

        return from_panoptic
    data = CocoDataset.read(path)
    by_name = {Path(str(r.get("file_name", ""))).stem: r["id"] for r in data.images}

    def from_segments(
        number: int, name: str, shape: tuple[int, ...]
    ) -> tuple[NDArray[Any], list[Segment]]:
        own = by_name.get(Path(name).stem)
        if own is None:
            raise DataError(f"{path} has nothing for the picture {name}")
        segments = data.annotations_of(own)
        ids = np.zeros(shape, np.int64)
        listed = []
        for row, label in enumerate(segments.labels):
            if label is None or label not in numbers:
                raise DataError(f"{path} has the label {label!r}, which the truth does not know")
            ids[segments.mask(row)] = row + 1
            listed.append(Segment(row + 1, numbers[label]))
        return ids, listed

    return from_segments
