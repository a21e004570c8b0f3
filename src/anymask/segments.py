"""The one result type: regions of a picture, in columns, one row per region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from anymask.errors import MissingExtraError, SegmentsError
from anymask.ops import boxes as box_ops
from anymask.ops import rle as rle_ops
from anymask.ops.rle import RLE, Size

if TYPE_CHECKING:
    import PIL.Image

Row = SupportsIndex | slice | Sequence[int] | Sequence[bool] | NDArray[Any]


class Segments:
    """Regions of one picture: masks with boxes, scores and labels.

    Masks are kept as run-length encodings (kilobytes where dense masks take megabytes) and
    decoded when asked for. A `Segments` is never changed: everything returns a new one, and its
    arrays are read-only.

    Args:
        size: (H, W) of the picture in pixels.
        rles: N masks of that size as COCO run-length encodings.
        boxes: (N, 4) x1, y1, x2, y2 in pixels, x2 and y2 exclusive; by default the tightest boxes
            around the masks.
        scores: (N,) how sure the source is that the region is a thing of its own; NaN where it
            does not say (the default).
        labels: N words, or None where a region has none.
        label_scores: (N,) how sure the source of the word is; NaN where it does not say.
        label_sources: where each word comes from (a model, "annotation", ...), or None.
        ids: the numbers the regions have in the file they come from, or None.
        crowd: (N,) bool, set where a region holds many objects that were not told apart
            (COCO's `iscrowd`).

    Raises:
        SegmentsError: a column has another length than there are masks, a mask another size than
            the picture, or a value is not of its kind.
    """

    __slots__ = (
        "_areas",
        "_boxes",
        "_boxes_given",
        "_crowd",
        "_ids",
        "_label_scores",
        "_label_sources",
        "_labels",
        "_rles",
        "_scores",
        "_size",
    )

    def __init__(
        self,
        size: Size,
        rles: Sequence[RLE],
        boxes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        labels: Sequence[str | None] | None = None,
        label_scores: ArrayLike | None = None,
        label_sources: Sequence[str | None] | None = None,
        ids: Sequence[int | None] | None = None,
        crowd: ArrayLike | None = None,
    ) -> None:
        self._size = _checked_size(size)
        self._rles = tuple(_checked_rle(rle, self._size, row) for row, rle in enumerate(rles))
        count = len(self._rles)
        self._boxes_given = boxes is not None
        self._boxes = None if boxes is None else _frozen(box_ops.checked(boxes))
        if self._boxes is not None:
            _same_length("boxes", len(self._boxes), count)
        self._scores = _numbers("scores", scores, count)
        self._labels = _words("labels", labels, count)
        self._label_scores = _numbers("label_scores", label_scores, count)
        self._label_sources = _words("label_sources", label_sources, count)
        self._ids = _identifiers(ids, count)
        self._crowd = _flags(crowd, count)
        self._areas: NDArray[np.int64] | None = None

    # ------------------------------------------------------------------------------ making

    @classmethod
    def empty(cls, size: Size) -> Segments:
        """No regions, on a picture of (H, W) pixels."""
        return cls(size, [])

    @classmethod
    def from_masks(
        cls,
        masks: ArrayLike | Iterable[ArrayLike],
        *,
        size: Size | None = None,
        boxes: ArrayLike | None = None,
        scores: ArrayLike | None = None,
        labels: Sequence[str | None] | None = None,
        label_scores: ArrayLike | None = None,
        label_sources: Sequence[str | None] | None = None,
        ids: Sequence[int | None] | None = None,
        crowd: ArrayLike | None = None,
    ) -> Segments:
        """Encode dense masks.

        Args:
            masks: (N, H, W) bool (numpy, or a torch tensor), or an iterable of (H, W) masks,
                which are encoded one by one and never held together.
            size: (H, W); only needed where an iterable may yield no mask.
            boxes, scores, labels, label_scores, label_sources, ids, crowd: as in the class.

        Raises:
            SegmentsError: the masks are not (N, H, W), differ in size, or a column does not fit.
        """
        if hasattr(masks, "detach"):
            masks = masks.detach().cpu().numpy()
        if isinstance(masks, np.ndarray):
            if masks.ndim != 3:
                hint = " A single mask is given as mask[None]." if masks.ndim == 2 else ""
                raise SegmentsError(
                    f"masks are an array (N, H, W), not one of shape {masks.shape}.{hint}"
                )
            if size is None:
                size = (int(masks.shape[1]), int(masks.shape[2]))
        if not isinstance(masks, Iterable):
            raise SegmentsError(f"masks are an array (N, H, W), not a {type(masks).__name__}.")
        rles = [rle_ops.encode(_to_numpy(mask)) for mask in masks]
        if size is None:
            if not rles:
                raise SegmentsError("no masks and no size: use Segments.empty((H, W)).")
            size = (rles[0]["size"][0], rles[0]["size"][1])
        return cls(
            size,
            rles,
            boxes=boxes,
            scores=scores,
            labels=labels,
            label_scores=label_scores,
            label_sources=label_sources,
            ids=ids,
            crowd=crowd,
        )

    @classmethod
    def from_coco(
        cls,
        records: Iterable[Mapping[str, Any]],
        size: Size,
        names: Mapping[int, str] | None = None,
    ) -> Segments:
        """Read COCO annotations or results of one picture.

        Holes, crowds, ids and scores are kept. Boxes are derived from the masks. A record written
        by `to_coco` comes back as it was, label scores and sources included.

        Args:
            records: dictionaries with `segmentation` (polygons, compressed or uncompressed RLE)
                and, if known, `id`, `category_id`, `iscrowd`, `score`, `label`.
            size: (H, W) of the picture.
            names: category id -> name, for the labels of records that bring no `label`.

        Raises:
            SegmentsError: a record has no usable segmentation, belongs to a picture of another
                size, or has a category that `names` does not know.
        """
        rows = list(records)
        rles, ids, crowd = [], [], []
        scores, labels, label_scores, label_sources = [], [], [], []
        for number, record in enumerate(rows):
            where = f"record {number}" + (f" (id {record['id']})" if "id" in record else "")
            if "segmentation" not in record:
                raise SegmentsError(f"{where} has no segmentation; anymask works on masks.")
            try:
                rles.append(rle_ops.from_coco_any(record["segmentation"], size))
            except SegmentsError as error:
                raise SegmentsError(f"{where}: {error}") from error
            label = record.get("label")
            if label is None and names is not None:
                category = record.get("category_id")
                if not isinstance(category, int) or category not in names:
                    raise SegmentsError(f"{where} has the category {category!r}, unknown here.")
                label = names[category]
            labels.append(label)
            scores.append(_or_nan(record.get("score")))
            label_scores.append(_or_nan(record.get("label_score")))
            label_sources.append(record.get("label_source"))
            ids.append(record.get("id"))
            crowd.append(bool(record.get("iscrowd", 0)))
        return cls(
            size,
            rles,
            scores=scores,
            labels=labels,
            label_scores=label_scores,
            label_sources=label_sources,
            ids=ids,
            crowd=crowd,
        )

    @classmethod
    def from_label_map(
        cls,
        label_map: ArrayLike,
        ignore: Iterable[int] = (0,),
        names: Mapping[int, str] | None = None,
    ) -> Segments:
        """One region per value of an id picture, in ascending order of the values.

        Args:
            label_map: (H, W) of whole numbers.
            ignore: values that mean "nothing here" (0, or 255 in Pascal VOC).
            names: value -> label, where the values mean classes.

        Returns:
            The regions; `ids` are the values.

        Raises:
            SegmentsError: the array is not (H, W) of whole numbers.
        """
        values = np.asarray(_to_numpy(label_map))
        found = rle_ops.encode_label_map(values)
        dropped = set(ignore)
        present = [value for value in found if value not in dropped]
        return cls(
            (int(values.shape[0]), int(values.shape[1])),
            [found[value] for value in present],
            ids=present,
            labels=[names.get(value) for value in present] if names is not None else None,
        )

    @classmethod
    def from_supervision(cls, detections: Any, size: Size | None = None) -> Segments:
        """Read a `supervision.Detections` with masks.

        Args:
            detections: detections of one picture; labels are taken from `data["class_name"]`.
            size: (H, W); only needed where there are no detections.

        Raises:
            SegmentsError: there are detections, but no masks.
        """
        if len(detections) == 0:
            if size is None:
                raise SegmentsError("no detections and no size: give size=(H, W).")
            return cls.empty(size)
        if detections.mask is None:
            raise SegmentsError("these detections have boxes only; anymask works on masks.")
        words = detections.data.get("class_name")
        labels: list[str | None] | None = None
        if words is not None:
            # supervision has no empty labels: to_supervision writes "".
            labels = [str(word) if word is not None and str(word) else None for word in words]
        return cls.from_masks(
            np.asarray(detections.mask, bool),
            boxes=detections.xyxy,
            scores=detections.confidence,
            labels=labels,
        )

    @classmethod
    def concat(cls, parts: Iterable[Segments]) -> Segments:
        """Join the regions of one picture, in order.

        Raises:
            SegmentsError: no parts, or parts of pictures of different sizes.
        """
        pieces = list(parts)
        if not pieces:
            raise SegmentsError("nothing to join: give at least one Segments.")
        for piece in pieces:
            if piece.size != pieces[0].size:
                raise SegmentsError(
                    f"segments of pictures of {pieces[0].size} and {piece.size} pixels "
                    "(height, width) cannot be joined."
                )
        boxes = None
        if any(piece._boxes_given for piece in pieces):
            boxes = np.concatenate([piece.boxes for piece in pieces])
        return cls(
            pieces[0].size,
            [rle for piece in pieces for rle in piece._rles],
            boxes=boxes,
            scores=np.concatenate([piece._scores for piece in pieces]),
            labels=[label for piece in pieces for label in piece._labels],
            label_scores=np.concatenate([piece._label_scores for piece in pieces]),
            label_sources=[source for piece in pieces for source in piece._label_sources],
            ids=[number for piece in pieces for number in piece._ids],
            crowd=np.concatenate([piece._crowd for piece in pieces]),
        )

    # ----------------------------------------------------------------------------- columns

    @property
    def size(self) -> Size:
        """(H, W) of the picture in pixels."""
        return self._size

    @property
    def rles(self) -> list[RLE]:
        """The masks, as pycocotools takes them."""
        return list(self._rles)

    @property
    def boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32 x1, y1, x2, y2 in pixels, x2 and y2 exclusive; read-only."""
        if self._boxes is None:
            self._boxes = _frozen(rle_ops.boxes(self._rles))
        return self._boxes

    @property
    def scores(self) -> NDArray[np.float32]:
        """(N,) float32, NaN where there is none; read-only."""
        return self._scores

    @property
    def labels(self) -> tuple[str | None, ...]:
        """A word per region, or None."""
        return self._labels

    @property
    def label_scores(self) -> NDArray[np.float32]:
        """(N,) float32, NaN where there is none; read-only."""
        return self._label_scores

    @property
    def label_sources(self) -> tuple[str | None, ...]:
        """Where each word comes from, or None."""
        return self._label_sources

    @property
    def ids(self) -> tuple[int | None, ...]:
        """The numbers of the regions in the file they come from, or None."""
        return self._ids

    @property
    def crowd(self) -> NDArray[np.bool_]:
        """(N,) bool: regions that hold many objects; read-only."""
        return self._crowd

    @property
    def areas(self) -> NDArray[np.int64]:
        """(N,) int64 pixels inside each mask; read-only."""
        if self._areas is None:
            self._areas = _frozen(rle_ops.area(self._rles))
        return self._areas

    @property
    def masks(self) -> NDArray[np.bool_]:
        """All masks decoded: (N, H, W) bool, N x H x W bytes, made anew at each access."""
        result = np.empty((len(self), *self._size), bool)
        for row, mask in enumerate(self.iter_masks()):
            result[row] = mask
        return result

    def mask(self, row: int) -> NDArray[np.bool_]:
        """One mask decoded: (H, W) bool."""
        return rle_ops.decode(self._rles[row])

    def iter_masks(self) -> Iterator[NDArray[np.bool_]]:
        """The masks decoded one by one, each (H, W) bool: memory for one mask at a time."""
        for rle in self._rles:
            yield rle_ops.decode(rle)

    # --------------------------------------------------------------------------- selecting

    def __len__(self) -> int:
        return len(self._rles)

    def __iter__(self) -> Iterator[Segments]:
        """The regions one by one, each a `Segments` with one row."""
        for row in range(len(self)):
            yield self[row]

    def __getitem__(self, rows: Row) -> Segments:
        """Some of the regions: a row number, a slice, row numbers, or a bool per row.

        Raises:
            IndexError: a row does not exist, or there are more or fewer bools than rows.
        """
        chosen = self._row_numbers(rows)
        picked = Segments.__new__(Segments)
        # The columns are checked already: checking them again would make loops over rows slow.
        picked._size = self._size
        picked._rles = tuple(self._rles[row] for row in chosen)
        picked._boxes_given = self._boxes_given
        picked._boxes = None if self._boxes is None else _frozen(self._boxes[chosen])
        picked._scores = _frozen(self._scores[chosen])
        picked._labels = tuple(self._labels[row] for row in chosen)
        picked._label_scores = _frozen(self._label_scores[chosen])
        picked._label_sources = tuple(self._label_sources[row] for row in chosen)
        picked._ids = tuple(self._ids[row] for row in chosen)
        picked._crowd = _frozen(self._crowd[chosen])
        picked._areas = None if self._areas is None else _frozen(self._areas[chosen])
        return picked

    def _row_numbers(self, rows: Row) -> NDArray[np.intp]:
        everything: NDArray[np.intp] = np.arange(len(self))
        if isinstance(rows, slice):
            return everything[rows]
        array: NDArray[Any] = np.asarray(rows)
        if array.ndim == 0 and np.issubdtype(array.dtype, np.integer):
            array = array[None]
        if array.size == 0 and array.dtype != np.bool_:
            array = array.astype(np.intp)
        if array.ndim != 1 or not (
            array.dtype == np.bool_ or np.issubdtype(array.dtype, np.integer)
        ):
            raise IndexError(
                "Segments take a row number, a slice, row numbers, or one bool per row, not "
                f"{type(rows).__name__} of shape {array.shape} and dtype {array.dtype}."
            )
        chosen: NDArray[np.intp] = everything[array]
        return chosen

    def __add__(self, other: Segments) -> Segments:
        if not isinstance(other, Segments):
            return NotImplemented
        return Segments.concat([self, other])

    def sorted_by_score(self) -> Segments:
        """The regions by falling score; equal scores keep their order, NaN comes last."""
        return self[np.argsort(-self._scores, kind="stable")]

    # --------------------------------------------------------------------------- replacing

    def with_labels(
        self,
        labels: Sequence[str | None],
        label_scores: ArrayLike | None = None,
        label_sources: str | Sequence[str | None] | None = None,
    ) -> Segments:
        """The same regions under other words.

        Args:
            labels: N words or None.
            label_scores: (N,) or none at all.
            label_sources: one source for all, or one per region.

        Raises:
            SegmentsError: a column has the wrong length or kind.
        """
        sources = [label_sources] * len(self) if isinstance(label_sources, str) else label_sources
        return self._replaced(labels=labels, label_scores=label_scores, label_sources=sources)

    def with_scores(self, scores: ArrayLike) -> Segments:
        """The same regions with other scores, (N,).

        Raises:
            SegmentsError: the scores have the wrong length or kind.
        """
        return self._replaced(scores=scores)

    def with_ids(self, ids: Sequence[int | None]) -> Segments:
        """The same regions under other numbers.

        Raises:
            SegmentsError: the ids have the wrong length or kind.
        """
        return self._replaced(ids=ids)

    def _replaced(self, **columns: Any) -> Segments:
        kept: dict[str, Any] = {
            "boxes": self._boxes if self._boxes_given else None,
            "scores": self._scores,
            "labels": self._labels,
            "label_scores": self._label_scores,
            "label_sources": self._label_sources,
            "ids": self._ids,
            "crowd": self._crowd,
        }
        return Segments(self._size, self._rles, **{**kept, **columns})

    # ----------------------------------------------------------------------------- leaving

    def to_coco(
        self,
        image_id: int = 1,
        category_ids: Mapping[str, int] | None = None,
        first_id: int = 1,
    ) -> list[dict[str, Any]]:
        """COCO annotation records, ready for JSON.

        Besides COCO's own keys a record holds `score`, `label`, `label_score` and `label_source`
        where there are any; other readers pass over them.

        Args:
            image_id: the number of the picture.
            category_ids: label -> category id; by default every record has the category 1.
            first_id: the number given to a first region without an id of its own; the following
                ones without an id count on, past the ids that are taken.

        Raises:
            SegmentsError: `category_ids` is given and a region has no label, or one it lacks.
        """
        taken = {number for number in self._ids if number is not None}
        following = first_id
        records: list[dict[str, Any]] = []
        for row, rle in enumerate(self._rles):
            number = self._ids[row]
            if number is None:
                while following in taken:
                    following += 1
                number, following = following, following + 1
            x1, y1, x2, y2 = (float(value) for value in self.boxes[row])
            record: dict[str, Any] = {
                "id": number,
                "image_id": image_id,
                "category_id": self._category(row, category_ids),
                "segmentation": rle_ops.to_coco_str(rle),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": int(self.areas[row]),
                "iscrowd": int(self._crowd[row]),
            }
            optional = {
                "score": _or_none(self._scores[row]),
                "label": self._labels[row],
                "label_score": _or_none(self._label_scores[row]),
                "label_source": self._label_sources[row],
            }
            record.update({key: value for key, value in optional.items() if value is not None})
            records.append(record)
        return records

    def _category(self, row: int, category_ids: Mapping[str, int] | None) -> int:
        if category_ids is None:
            return 1
        label = self._labels[row]
        if label is None or label not in category_ids:
            what = "has no label" if label is None else f"has the label {label!r}, which is"
            raise SegmentsError(
                f"region {row} {what}"
                + (", but category ids were given." if label is None else " not among them.")
            )
        return int(category_ids[label])

    def to_supervision(self) -> Any:
        """A `supervision.Detections` with dense masks (N x H x W bytes).

        Labels go to `data["class_name"]`, with class ids numbered by first appearance; regions
        without a label have the class id -1. Without scores there is no confidence.

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise MissingExtraError("Converting to supervision.Detections", "supervision") from None
        if len(self) == 0:
            return supervision.Detections.empty()
        numbers: dict[str, int] = {}
        classes = [
            -1 if label is None else numbers.setdefault(label, len(numbers))
            for label in self._labels
        ]
        data: dict[str, Any] = {}
        if numbers:
            data["class_name"] = np.array(
                ["" if label is None else label for label in self._labels]
            )
        scored = not np.isnan(self._scores).all()
        return supervision.Detections(
            xyxy=self.boxes.copy(),
            mask=self.masks,
            confidence=self._scores.copy() if scored else None,
            class_id=np.array(classes),
            data=data,
        )

    def to_label_map(self) -> NDArray[np.int32]:
        """An id picture: (H, W) int32, row number + 1, and 0 where no region is.

        Where regions overlap, the higher score wins; among equal scores (and among regions
        without one, which lose to all others) the later row.
        """
        result = np.zeros(self._size, np.int32)
        # NaN sorts last in numpy; as minus infinity it is painted first and loses.
        order = np.argsort(np.nan_to_num(self._scores, nan=-np.inf), kind="stable")
        tight = rle_ops.boxes(self._rles).astype(int)
        for row in order:
            left, top, right, bottom = tight[row]
            window = rle_ops.decode_window(self._rles[row], top, left, bottom, right)
            result[top:bottom, left:right][window] = row + 1
        return result

    def plot(self, image: Any, **options: Any) -> PIL.Image.Image:
        """The picture with the regions drawn on it: see `anymask.annotate`."""
        from anymask.draw import annotate

        return annotate(image, self, **options)

    # ------------------------------------------------------------------------------- python

    def __eq__(self, other: object) -> bool:
        """Whether all columns are equal; NaN equals NaN, derived boxes equal the same given."""
        if not isinstance(other, Segments):
            return NotImplemented
        return (
            self._size == other._size
            and len(self) == len(other)
            and all(a["counts"] == b["counts"] for a, b in zip(self._rles, other._rles))
            and np.array_equal(self.boxes, other.boxes)
            and np.array_equal(self._scores, other._scores, equal_nan=True)
            and self._labels == other._labels
            and np.array_equal(self._label_scores, other._label_scores, equal_nan=True)
            and self._label_sources == other._label_sources
            and self._ids == other._ids
            and np.array_equal(self._crowd, other._crowd)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        height, width = self._size
        facts = [f"{len(self)} on {height}x{width}"]
        known = self._scores[~np.isnan(self._scores)]
        if len(known):
            facts.append(f"scores {known.min():.2f}..{known.max():.2f}")
        words = [label for label in self._labels if label is not None]
        if words:
            counts = {word: words.count(word) for word in dict.fromkeys(words)}
            listed = [f"{word} x{n}" if n > 1 else word for word, n in counts.items()]
            more = ", ..." if len(listed) > 6 else ""
            facts.append("labels " + ", ".join(listed[:6]) + more)
        if self._crowd.any():
            facts.append(f"{int(self._crowd.sum())} crowd")
        return f"Segments({', '.join(facts)})"


# ------------------------------------------------------------------------------ column checks


def _checked_size(size: Size) -> Size:
    try:
        height, width = (int(number) for number in size)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise SegmentsError(f"a picture size is (height, width) in pixels, not {size!r}.")
    return height, width


def _checked_rle(rle: Any, size: Size, row: int) -> RLE:
    if not isinstance(rle, Mapping) or "counts" not in rle or "size" not in rle:
        raise SegmentsError(
            f"mask {row} is not a run-length encoding {{size, counts}}; dense masks go through "
            "Segments.from_masks."
        )
    if not isinstance(rle["counts"], bytes):
        raise SegmentsError(
            f"mask {row} has counts of the type {type(rle['counts']).__name__}; the forms of "
            "COCO files go through Segments.from_coco or ops.rle.from_coco_any."
        )
    if tuple(int(number) for number in rle["size"]) != size:
        raise SegmentsError(
            f"mask {row} was made for a picture of {tuple(rle['size'])} (height, width), but this "
            f"one has {size}."
        )
    return {"size": [size[0], size[1]], "counts": rle["counts"]}


def _same_length(name: str, length: int, count: int) -> None:
    if length != count:
        raise SegmentsError(f"{name} has {length} rows, but there are {count} masks.")


def _numbers(name: str, values: ArrayLike | None, count: int) -> NDArray[np.float32]:
    if values is None:
        return _frozen(np.full(count, np.nan, np.float32))
    try:
        array = np.array(_to_numpy(values), np.float32)
    except (TypeError, ValueError) as error:
        raise SegmentsError(f"{name} are numbers, one per mask.") from error
    if array.ndim != 1:
        raise SegmentsError(f"{name} has the shape {array.shape}; one number per mask is expected.")
    _same_length(name, len(array), count)
    if np.isinf(array).any():
        raise SegmentsError(f"{name} contains infinite numbers.")
    return _frozen(array)


def _words(name: str, values: Sequence[str | None] | None, count: int) -> tuple[str | None, ...]:
    if values is None:
        return (None,) * count
    if isinstance(values, str):
        raise SegmentsError(f"{name} is a list with one word per mask, not one word.")
    words = tuple(values)
    _same_length(name, len(words), count)
    for row, word in enumerate(words):
        if word is not None and not isinstance(word, str):
            raise SegmentsError(f"{name}[{row}] is {word!r}; a word or None is expected.")
    # numpy's str_ is a str too, but prints and pickles as numpy.
    return tuple(None if word is None else str(word) for word in words)


def _identifiers(values: Sequence[int | None] | None, count: int) -> tuple[int | None, ...]:
    if values is None:
        return (None,) * count
    _same_length("ids", len(values), count)
    for row, number in enumerate(values):
        if number is not None and not isinstance(number, (int, np.integer)):
            raise SegmentsError(f"ids[{row}] is {number!r}; a whole number or None is expected.")
    return tuple(None if number is None else int(number) for number in values)


def _flags(values: ArrayLike | None, count: int) -> NDArray[np.bool_]:
    array = np.zeros(count, bool) if values is None else np.array(values, bool)
    if array.ndim != 1:
        raise SegmentsError(f"crowd has the shape {array.shape}; one bool per mask is expected.")
    _same_length("crowd", len(array), count)
    return _frozen(array)


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    array.setflags(write=False)
    return array


def _to_numpy(values: Any) -> Any:
    """A torch tensor as numpy; anything else as it is."""
    return values.detach().cpu().numpy() if hasattr(values, "detach") else values


def _or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _or_none(value: np.float32) -> float | None:
    return None if np.isnan(value) else float(value)
