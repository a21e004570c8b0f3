"""Reading Pascal VOC segmentation pictures: `SegmentationObject` and `SegmentationClass`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from anymask.data.formats.png import read_numbers
from anymask.errors import DataError
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

VOID: Final = 255
"""The value of pixels that belong to no object for sure: outlines and difficult objects."""


def read_voc(
    object_png: str | Path,
    class_png: str | Path | None = None,
    vocabulary: Vocabulary | None = None,
) -> Segments:
    """Read the objects of a Pascal VOC picture.

    Args:
        object_png: a palette (or grey) PNG with 0 = background, 1, 2, ... = objects, 255 = void.
        class_png: a PNG of the same size with the class number of each pixel; the commonest one
            inside an object, void apart, is its class.
        vocabulary: the classes by their ids; by default the 20 of Pascal VOC.

    Returns:
        One region per object, in the order of their numbers, which are the `ids`; labelled if
        `class_png` is given. Void pixels belong to no region.

    Raises:
        DataError: a file is missing or broken, the two differ in size, or a class number is not
            in the vocabulary.
    """
    objects = read_numbers(object_png)
    segments = Segments.from_label_map(objects, ignore=(0, VOID))
    if class_png is None:
        return segments
    classes = read_numbers(class_png)
    if classes.shape != objects.shape:
        raise DataError(
            f"{object_png} is {objects.shape} and {class_png} is {classes.shape} (height, width): "
            "they belong to different pictures."
        )
    names = (Vocabulary.builtin("voc-20") if vocabulary is None else vocabulary).names_by_id
    labels = []
    for number, mask in zip(segments.ids, segments.iter_masks()):
        found = classes[mask]
        found = found[found != VOID]
        if len(found) == 0:
            raise DataError(f"{class_png} says nothing about object {number} of {object_png}.")
        commonest = int(np.bincount(found).argmax())
        if commonest not in names:
            raise DataError(
                f"{class_png} has the class {commonest} for object {number}, which is not in the "
                "vocabulary."
            )
        labels.append(names[commonest])
    return segments.with_labels(labels, label_sources="annotation")
