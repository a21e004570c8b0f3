"""Data sets with a class for every pixel, as their authors lay them out on disk.

Every reader gives a :class:`DenseDataset`; what differs (bit depth, ignore value, colour codes) is
said here once. Numbers of pictures and classes are those published, and a folder that differs says
so (:meth:`DenseDataset.differences`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.data.formats.png import read_numbers
from anymask.errors import DataError
from anymask.vocabulary import Category, Vocabulary

IGNORED: Final = -1
Decode = Callable[[Path], NDArray[np.int64]]


@dataclass(frozen=True)
class DensePicture:
    """A picture and where its labels are."""

    name: str
    image: Path
    labels: Path


@dataclass(frozen=True)
class DenseDataset:
    """Pictures with a class for every pixel.

    Attributes:
        title: what a report calls it.
        vocabulary: the classes in order.
        pictures: in order of their names.
        decode: label file -> (H, W) int64 positions in the vocabulary, -1 where ignored.
        expected_pictures: as published, or None.
        licence: what its authors say of its use.
        others: position of the class that means "anything else", or None.
    """

    title: str
    vocabulary: Vocabulary
    pictures: list[DensePicture]
    decode: Decode = field(repr=False)
    expected_pictures: int | None = None
    licence: str = "see the data set's own terms"
    others: int | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    def labels(self, picture: DensePicture) -> NDArray[np.int64]:
        """(H, W) positions in the vocabulary, -1 where ignored.

        Raises:
            DataError: the file is missing or broken, or has a value that stands for no class.
        """
        found = self.decode(picture.labels)
        if found.size and int(found.max()) >= len(self.vocabulary):
            raise DataError(
                f"{picture.labels} has the class number {int(found.max())}, but {self.title} has "
                f"{len(self.vocabulary)} classes: is it another version of the data set?"
            )
        return found

    def differences(self) -> list[str]:
        """In what this folder is not what was published; empty when nothing is known to differ."""
        if self.expected_pictures in (None, len(self.pictures)):
            return []
        return [f"{len(self.pictures)} pictures, published are {self.expected_pictures}"]

    def __iter__(self) -> Iterator[tuple[DensePicture, NDArray[np.int64]]]:
        for picture in self.pictures:
            yield picture, self.labels(picture)


def pairs(
    images: Path, labels: Path, image_end: str, label_end: str, title: str
) -> list[DensePicture]:
    """Pictures that have labels, matched by their path below both folders.

    Raises:
        DataError: a folder is missing or there is no label.
    """
    for folder in (images, labels):
        if not folder.is_dir():
            raise DataError(f"{title}: there is no folder {folder}: see docs/openbench.md")
    found = []
    for path in sorted(labels.rglob(f"*{label_end}")):
        stem = str(path.relative_to(labels))[: -len(label_end)]
        picture = images / f"{stem}{image_end}"
        if picture.is_file():
            found.append(DensePicture(stem, picture, path))
    if not found:
        raise DataError(f"{title}: no pictures {images}/*{image_end} with {labels}/*{label_end}")
    return found


def by_value(positions: dict[int, int], ignore: Sequence[int] = ()) -> Decode:
    """Decoder of label pictures with a number per pixel: value -> position; others are errors."""

    def decode(path: Path) -> NDArray[np.int64]:
        values = read_numbers(path).astype(np.int64)
        present = np.unique(values)
        table = np.full(int(present.max(initial=0)) + 1, IGNORED, np.int64)
        for value in present.tolist():
            if value in positions:
                table[value] = positions[value]
            elif value not in ignore:
                raise DataError(f"{path} has the value {value}, which stands for no class.")
        return table[values]

    return decode


def by_color(colors: dict[tuple[int, int, int], int]) -> Decode:
    """Decoder of colour-coded pictures: (R, G, B) -> position, -1 for ignored colours."""

    def decode(path: Path) -> NDArray[np.int64]:
        values = _rgb(path) @ np.array([65536, 256, 1])
        out = np.full(values.shape, IGNORED, np.int64)
        for value in np.unique(values).tolist():
            color = (value >> 16, value >> 8 & 255, value & 255)
            if color not in colors:
                raise DataError(f"{path} has the colour {color}, which stands for no class.")
            out[values == value] = colors[color]
        return out

    return decode


def panoptic_ids(path: Path) -> NDArray[np.int64]:
    """The segment ids of a COCO panoptic PNG, R + 256 G + 65536 B: (H, W).

    Raises:
        DataError: the file is missing or broken.
    """
    return _rgb(path) @ np.array([1, 256, 65536])


def _rgb(path: Path) -> NDArray[np.int64]:
    try:
        with PIL.Image.open(path) as picture:
            return np.asarray(picture.convert("RGB"), np.int64)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except Exception as error:
        raise DataError(f"{path} cannot be read as a picture: {error}.") from error


# ------------------------------------------------------------------------------ the data sets


def ade20k_150(root: Path, split: str = "validation") -> DenseDataset:
    """ADEChallengeData2016: 8-bit PNG, 0 = anything else (ignored), 1..150."""
    title = f"ADE20K-150 {split}"
    return DenseDataset(
        title,
        Vocabulary.builtin("ade20k-150"),
        pairs(root / "images" / split, root / "annotations" / split, ".jpg", ".png", title),
        by_value({value: value - 1 for value in range(1, 151)}, ignore=[0]),
        {"validation": 2000, "training": 20210}.get(split),
        "ADE20K terms: non-commercial research and education",
    )


def ade20k_847(root: Path, split: str = "validation") -> DenseDataset:
    """ADE20K_2021_17_01 as detectron2's script writes it: 16-bit TIFF, 0..846, 65535 ignored."""
    title = f"ADE20K-847 {split}"
    images, labels = root / "images_detectron2" / split, root / "annotations_detectron2" / split
    return DenseDataset(
        title,
        Vocabulary.builtin("ade20k-847"),
        pairs(images, labels, ".jpg", ".tif", title),
        by_value({value: value for value in range(847)}, ignore=[65535]),
        {"validation": 2000, "training": 25574}.get(split),
        "ADE20K terms: non-commercial research and education",
    )


def pascal_context(root: Path, classes: int = 59, split: str = "val") -> DenseDataset:
    """VOC2010 with Pascal Context as detectron2's scripts write it.

    59 classes: 8-bit PNG, 0..58, 255 ignored. 459: 16-bit TIFF, 0..458, 65535 ignored; number 430,
    "unknown", is ignored as well.
    """
    title = f"Pascal Context {classes} {split}"
    if classes not in (59, 459):
        raise DataError(f"Pascal Context comes with 59 or 459 classes, not {classes}.")
    labels = root / "annotations_detectron2" / f"pc{classes}_{split}"
    vocabulary = Vocabulary.builtin(f"pc-{classes}")
    if classes == 59:
        decode = by_value({value: value for value in range(59)}, ignore=[255])
    else:
        decode = by_value({v: v for v in range(459) if v != 430}, ignore=[430, 65535])
    return DenseDataset(
        title,
        vocabulary,
        pairs(root / "JPEGImages", labels, ".jpg", ".png" if classes == 59 else ".tif", title),
        decode,
        {"val": 5105, "train": 4998}.get(split),
        "Flickr pictures, see the VOC terms",
    )


def voc(root: Path, split: str = "val") -> DenseDataset:
    """VOC2012: palette PNG, 0 = background (ignored: VOC-20), 1..20, 255 = void."""
    title = f"VOC 2012 {split}"
    listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    found = pairs(root / "JPEGImages", root / "SegmentationClass", ".jpg", ".png", title)
    if listed.is_file():
        names = set(listed.read_text().split())
        found = [picture for picture in found if picture.name in names]
    return DenseDataset(
        title,
        Vocabulary.builtin("voc-20"),
        found,
        by_value({value: value - 1 for value in range(1, 21)}, ignore=[0, 255]),
        {"val": 1449, "train": 1464}.get(split),
        "Flickr pictures, see the VOC terms",
    )


def cityscapes(root: Path, split: str = "val") -> DenseDataset:
    """Fine labels as ``labelIds`` (8 bit): the 19 evaluated classes, all others ignored."""
    title = f"Cityscapes {split}"
    vocabulary = Vocabulary.builtin("cityscapes")
    ends = ("_leftImg8bit.png", "_gtFine_labelIds.png")
    positions = {number: k for k, number in enumerate(vocabulary.ids)}
    return DenseDataset(
        title,
        vocabulary,
        pairs(root / "leftImg8bit" / split, root / "gtFine" / split, *ends, title),
        by_value(positions, ignore=[v for v in range(256) if v not in positions]),
        {"val": 500, "train": 2975}.get(split),
        "Cityscapes terms: non-commercial research",
    )


def bdd10k(root: Path, split: str = "val") -> DenseDataset:
    """BDD100K's 10k pictures with Cityscapes' 19 classes: 8 bit, 0..18, 255 ignored."""
    title = f"BDD10K {split}"
    images, labels = root / "images" / "10k" / split, root / "labels" / "sem_seg" / "masks" / split
    return DenseDataset(
        title,
        Vocabulary.builtin("cityscapes"),
        pairs(images, labels, ".jpg", ".png", title),
        by_value({value: value for value in range(19)}, ignore=[255]),
        {"val": 1000, "train": 7000}.get(split),
        "BDD100K terms: research and education",
    )


# Classes that COCO's numbering skips.
_COCO_GAPS: Final = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83, 91)


def coco_stuff(root: Path, split: str = "val2017") -> DenseDataset:
    """COCO-Stuff's ``stuffthingmaps``: 8 bit, COCO number - 1, 255 ignored; 171 classes."""
    title = f"COCO-Stuff {split}"
    vocabulary = Vocabulary.builtin("coco-stuff")
    positions = {number - 1: k for k, number in enumerate(vocabulary.ids)}
    return DenseDataset(
        title,
        vocabulary,
        pairs(root / split, root / "stuffthingmaps" / split, ".jpg", ".png", title),
        by_value(positions, ignore=[255, *(gap - 1 for gap in _COCO_GAPS)]),
        {"val2017": 5000, "train2017": 118287}.get(split),
        "annotations CC BY 4.0, Flickr pictures",
    )


def foodseg103(root: Path, split: str = "test") -> DenseDataset:
    """FoodSeg103: 8-bit PNG, 0 = background (others), 1..103; names in ``category_id.txt``."""
    title = f"FoodSeg103 {split}"
    names = {}
    for line in _lines(root / "category_id.txt"):
        number, _, name = line.strip().partition("\t")
        if number.isdecimal():
            names[int(number)] = name.strip()
    if sorted(names) != list(range(104)):
        raise DataError(f"{root / 'category_id.txt'} should number 104 classes from 0 on.")
    found = pairs(
        root / "Images" / "img_dir" / split, root / "Images" / "ann_dir" / split,
        ".jpg", ".png", title,
    )  # fmt: skip
    return DenseDataset(
        title,
        _vocabulary([names[k] for k in range(104)], title),
        found,
        by_value({value: value for value in range(104)}),
        {"test": 2135, "train": 4983}.get(split),
        "FoodSeg103 terms: research",
        others=0,
    )


def imagenet_s(root: Path, classes: int = 919, split: str = "validation") -> DenseDataset:
    """ImageNet-S: PNG with class R + 256 G; 0 = other category, 1000 ignored.

    A class is the rank of its WordNet id, which is the name of its folder; words for them are read
    from ``LOC_synset_mapping.txt`` (ImageNet's own file: id, then words) in the same folder.
    """
    title = f"ImageNet-S{classes} {split}"
    labels = root / f"{split}-segmentation"
    numbers = sorted(path.name for path in labels.iterdir()) if labels.is_dir() else []
    words = {}
    for line in _lines(root / "LOC_synset_mapping.txt"):
        number, _, rest = line.strip().partition(" ")
        words[number] = [word.strip() for word in rest.split(",")]
    if missing := [number for number in numbers if number not in words]:
        raise DataError(f"{root / 'LOC_synset_mapping.txt'} has no words for {missing[0]}.")
    entries = [["other"], *(words[number] for number in numbers)]
    categories = tuple(
        Category(listed[0], k, tuple(dict.fromkeys(listed[1:])), True if k else None)
        for k, listed in enumerate(entries)
    )

    def decode(path: Path) -> NDArray[np.int64]:
        coded = _rgb(path)
        values = coded[..., 0] + 256 * coded[..., 1]
        return np.where(values == 1000, IGNORED, values)

    return DenseDataset(
        title,
        Vocabulary(categories, title=title),
        pairs(root / split, labels, ".JPEG", ".png", title),
        decode,
        {919: 12419, 300: 4097, 50: 752}.get(classes) if split == "validation" else None,
        "ImageNet terms: non-commercial research",
        others=0,
    )


def camvid_32(root: Path) -> DenseDataset:
    """CamVid: colour-coded ``LabeledApproved_full/*_L.png``, names in ``label_colors.txt``.

    The class Void is ignored; 701 frames, 32 classes with it.
    """
    title = "CamVid-32"
    colors: dict[tuple[int, int, int], int] = {}
    names: list[str] = []
    for line in _lines(root / "label_colors.txt"):
        parts = line.split()
        if len(parts) < 4:
            continue
        color = (int(parts[0]), int(parts[1]), int(parts[2]))
        if parts[3].lower() == "void":
            colors[color] = IGNORED
        else:
            colors[color] = len(names)
            names.append(" ".join(parts[3:]))
    folders = root / "701_StillsRaw_full", root / "LabeledApproved_full"
    return DenseDataset(
        title,
        _vocabulary(names, title),
        pairs(*folders, ".png", "_L.png", title),
        by_color(colors),
        701,
        "CamVid: see its authors' page",
    )


CAMVID_11: Final = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car",
    "pedestrian", "bicyclist",
)  # fmt: skip


def camvid_11(root: Path, split: str = "test") -> DenseDataset:
    """CamVid as published with SegNet: 8 bit, 0..10, 11 ignored."""
    title = f"CamVid-11 {split}"
    return DenseDataset(
        title,
        _vocabulary(list(CAMVID_11), title),
        pairs(root / split, root / f"{split}annot", ".png", ".png", title),
        by_value({value: value for value in range(11)}, ignore=[11]),
        {"test": 233, "train": 367, "val": 101}.get(split),
        "CamVid: see its authors' page",
    )


# NYU's forty classes; SUN RGB-D has the first 37. One is misspelt in the data sets.
NYU_40: Final = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "blinds", "desk", "shelves", "curtain", "dresser", "pillow", "mirror",
    "floor mat", "clothes", "ceiling", "books", "refridgerator", "television", "paper", "towel",
    "shower curtain", "box", "whiteboard", "person", "night stand", "toilet", "sink", "lamp",
    "bathtub", "bag", "otherstructure", "otherfurniture", "otherprop",
)  # fmt: skip
SCANNET_20: Final = (
    "wall", "floor", "cabinet", "bed", "chair", "sofa", "table", "door", "window", "bookshelf",
    "picture", "counter", "desk", "curtain", "refrigerator", "shower curtain", "toilet", "sink",
    "bathtub", "otherfurniture",
)  # fmt: skip


def sun_rgbd(root: Path, split: str = "test") -> DenseDataset:
    """SUN RGB-D's 37 classes: 8 bit, 0 = anything else (ignored), 1..37.

    ``image/SPLIT`` and ``label37/SPLIT`` hold the same number of files, in the same order.
    """
    title = f"SUN RGB-D {split}"
    images = sorted((root / "image" / split).glob("*.jpg"))
    labels = sorted((root / "label37" / split).glob("*.png"))
    if not images or len(images) != len(labels):
        raise DataError(
            f"{title}: {len(images)} pictures in {root}/image/{split} and {len(labels)} label "
            f"pictures in {root}/label37/{split}; both hold one of every picture"
        )
    found = [DensePicture(a.stem, a, b) for a, b in zip(images, labels, strict=True)]
    return DenseDataset(
        title,
        _vocabulary(NYU_40[:37], "sun-rgbd-37"),
        found,
        by_value({value: value - 1 for value in range(1, 38)}, ignore=[0]),
        {"test": 5050, "train": 5285}.get(split),
        "SUN RGB-D: see its authors' page",
    )


def scannet(root: Path, classes: int = 20, split: str = "val") -> DenseDataset:
    """ScanNet's frames_25k with 20 classes (8 bit, 0..19, 255 ignored) or NYU's 40 (0 ignored).

    ``SPLIT.txt`` has a line ``PICTURE,LABELS`` for each frame, with paths below
    ``scannet_frames_25k``; the label pictures of 40 classes lie in ``label`` instead of
    ``label20``.
    """
    if classes not in (20, 40):
        raise DataError(f"ScanNet has 20 or 40 classes, not {classes}.")
    frames = root / "scannet_frames_25k"
    found = []
    for line in _lines(root / f"{split}.txt"):
        if not line.strip():
            continue
        picture, comma, labels = line.partition(",")
        if not comma:
            raise DataError(f"{root}/{split}.txt: {line!r} is no PICTURE,LABELS")
        where = labels.strip().replace("label20", "label") if classes == 40 else labels.strip()
        found.append(
            DensePicture(
                Path(picture).with_suffix("").as_posix(), frames / picture.strip(), frames / where
            )
        )
    names, shift, ignore = (SCANNET_20, 0, [255]) if classes == 20 else (NYU_40, 1, [0])
    return DenseDataset(
        f"ScanNet-{classes} {split}",
        _vocabulary(names, f"scannet-{classes}"),
        found,
        by_value({k + shift: k for k in range(classes)}, ignore=ignore),
        {"val": 5436}.get(split),
        "ScanNet terms of use: non-commercial research",
    )


def label_folder(
    images: Path, labels: Path, vocabulary: Vocabulary, ignore: Sequence[int] = (255, 65535)
) -> DenseDataset:
    """Any folder of label pictures (grey or palette, 8 or 16 bit) whose values are class ids."""
    positions = {number: k for k, number in enumerate(vocabulary.ids)}
    ends = sorted({path.suffix for path in images.rglob("*") if path.is_file()}) or [".jpg"]
    found: list[DensePicture] = []
    for end in ends:
        for label_end in (".png", ".tif", ".tiff"):
            if any(labels.rglob(f"*{label_end}")):
                try:
                    found += pairs(images, labels, end, label_end, labels.name)
                except DataError:
                    continue
    if not found:
        raise DataError(f"no picture in {images} has a label picture of its name in {labels}")
    found.sort(key=lambda picture: picture.name)
    silent = [v for v in ignore if v not in positions]
    return DenseDataset(labels.name, vocabulary, found, by_value(positions, ignore=silent))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _vocabulary(names: Sequence[str], title: str) -> Vocabulary:
    categories = tuple(Category(name, number) for number, name in enumerate(names))
    return Vocabulary(categories, title=title)


READERS: Final[dict[str, Callable[..., DenseDataset]]] = {
    "ade20k-150": ade20k_150,
    "ade20k-847": ade20k_847,
    "pc-59": lambda root, **how: pascal_context(root, 59, **how),
    "pc-459": lambda root, **how: pascal_context(root, 459, **how),
    "voc": voc,
    "cityscapes": cityscapes,
    "bdd10k": bdd10k,
    "coco-stuff": coco_stuff,
    "foodseg103": foodseg103,
    "imagenet-s": imagenet_s,
    "camvid-32": camvid_32,
    "camvid-11": camvid_11,
    "sun-rgbd-37": sun_rgbd,
    "scannet-20": scannet,
    "scannet-40": lambda root, **how: scannet(root, 40, **how),
}
"""What the command line calls each reader."""


def read_dense(kind: str, root: str | Path, **how: Any) -> DenseDataset:
    """Read one of the known data sets.

    Args:
        kind: a name of ``READERS``.
        root: its folder.
        how: what its reader takes (``split``, ``classes``).

    Raises:
        DataError: no such kind, or the folder is not laid out as its authors do.
    """
    if kind not in READERS:
        raise DataError(f"no data set {kind!r}: known are {', '.join(READERS)}.")
    return READERS[kind](Path(root), **how)
