"""Binary masks as COCO run-length encodings, the canonical form of a mask in anymask.

An RLE is ``{"size": [H, W], "counts": bytes}``. The counts are the lengths of runs of zeros and
ones in turn, beginning with zeros, over the pixels in column-major order (down the first column,
then the second, ...), stored as variable-length differences: the format of the COCO API's
``rleToString`` (five payload bits a byte, offset 48; from the fourth run on each count is stored as
the difference from the one two before).

Encoding, unions and IoU are pycocotools'. Decoding, checking and moving are done here on the run
lengths in numpy, because pycocotools trusts its input: counts that do not fill the picture make
it return memory it never wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pycocotools import mask as coco_mask

from anymask.errors import SegmentsError


class RLE(TypedDict):
    """A mask: `size` is [H, W], `counts` the compressed run lengths."""

    size: list[int]
    counts: bytes


Size = tuple[int, int]
"""(height, width) in pixels."""


# ---------------------------------------------------------------------- dense masks and back


def encode(mask: ArrayLike) -> RLE:
    """Encode one mask.

    Args:
        mask: (H, W), bool or numbers of which nonzero means inside.

    Raises:
        SegmentsError: the array is not two-dimensional, empty, or contains NaN.
    """
    array = np.asarray(mask)
    if array.ndim != 2 or array.size == 0:
        raise SegmentsError(
            f"a mask is an array (H, W) with at least one pixel, not one of shape {array.shape}."
        )
    if array.dtype != np.bool_:
        if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any():
            raise SegmentsError("a mask contains NaN; threshold it first (for example mask > 0).")
        array = array != 0
    result = coco_mask.encode(np.asfortranarray(array.view(np.uint8)))
    return {"size": [int(array.shape[0]), int(array.shape[1])], "counts": result["counts"]}


def decode(rle: RLE) -> NDArray[np.bool_]:
    """Decode one mask to (H, W) bool (laid out in memory by columns).

    Raises:
        SegmentsError: the counts are malformed or do not fill the picture.
    """
    height, width = rle["size"]
    counts = run_lengths(rle)
    return _expand(counts, first_value=False).reshape(width, height).T


def decode_window(rle: RLE, top: int, left: int, bottom: int, right: int) -> NDArray[np.bool_]:
    """Decode the part of a mask inside a window without decoding the rest.

    Args:
        rle: the mask.
        top, left, bottom, right: the window in pixels, bottom and right exclusive, inside the
            picture.

    Returns:
        (bottom - top, right - left) bool.
    """
    height, width = rle["size"]
    if not (0 <= top <= bottom <= height and 0 <= left <= right <= width):
        raise SegmentsError(
            f"the window ({top}, {left}, {bottom}, {right}) does not lie in a picture of "
            f"{height}x{width}."
        )
    ends = np.cumsum(run_lengths(rle))
    begin, end = left * height, right * height
    if begin == end:
        return np.zeros((bottom - top, 0), bool)
    first = int(np.searchsorted(ends, begin, side="right"))
    last = int(np.searchsorted(ends, end, side="left"))
    inner = np.concatenate([[begin], ends[first:last], [end]])
    columns = _expand(np.diff(inner), first_value=bool(first % 2))
    return columns.reshape(right - left, height).T[top:bottom]


def _expand(counts: NDArray[np.int64], first_value: bool) -> NDArray[np.bool_]:
    values = np.zeros(len(counts), bool)
    values[0 if first_value else 1 :: 2] = True
    return np.repeat(values, counts)


def encode_label_map(values: NDArray[Any]) -> dict[int, RLE]:
    """Encode the mask of every value of an id picture, in one pass over its pixels.

    Args:
        values: (H, W) of whole numbers.

    Returns:
        value -> mask, in ascending order of the values.

    Raises:
        SegmentsError: the array is not (H, W) of whole numbers, or empty.
    """
    whole = np.issubdtype(values.dtype, np.integer) or values.dtype == np.bool_
    if values.ndim != 2 or values.size == 0 or not whole:
        raise SegmentsError(
            f"a label map is (H, W) of whole numbers, not {values.shape} {values.dtype}."
        )
    height, width = values.shape
    columns = values.T.ravel()
    starts = np.concatenate([[0], np.flatnonzero(columns[1:] != columns[:-1]) + 1])
    ends = np.append(starts[1:], values.size)
    order = np.argsort(columns[starts], kind="stable")
    present, firsts = np.unique(columns[starts][order], return_index=True)
    masks: dict[int, RLE] = {}
    for value, rows in zip(present, np.split(order, firsts[1:])):
        edges = np.empty(2 * len(rows) + 2, np.int64)
        edges[0], edges[-1] = 0, values.size
        edges[1:-1:2], edges[2:-1:2] = starts[rows], ends[rows]
        masks[int(value)] = _compress(_merge_empty_runs(np.diff(edges)), (height, width))
    return masks


# ------------------------------------------------------------------------------- run lengths


def run_lengths(rle: RLE) -> NDArray[np.int64]:
    """The run lengths, (R,) int64: zeros, ones, zeros, ... in column-major order.

    Raises:
        SegmentsError: the counts are malformed or do not fill the picture.
    """
    height, width = rle["size"]
    counts = _parse_counts(rle["counts"])
    if len(counts) > 0 and int(counts.min()) < 0:
        raise SegmentsError("run lengths are negative: the mask is damaged.")
    _check_total(int(counts.sum()), height, width)
    return counts


def _check_total(total: int, height: int, width: int) -> None:
    if total != height * width:
        raise SegmentsError(
            f"run lengths cover {total} pixels, but the picture has {height}x{width} = "
            f"{height * width}: the mask is damaged or belongs to another picture."
        )


def from_run_lengths(counts: ArrayLike, size: Size) -> RLE:
    """Make an RLE from run lengths (zeros first, column-major).

    Runs of length zero inside are merged, so that equal masks have equal bytes.

    Args:
        counts: (R,) integers >= 0 with the sum H * W.
        size: (H, W).

    Raises:
        SegmentsError: the counts are negative or do not fill the picture.
    """
    height, width = _checked_size(size)
    raw = np.asarray(counts)
    if raw.size == 0:
        raw = raw.astype(np.int64)
    if raw.ndim != 1 or not np.issubdtype(raw.dtype, np.integer):
        raise SegmentsError("run lengths are a flat list of whole numbers.")
    runs = raw.astype(np.int64)
    # The bound on each run keeps the sum from overflowing.
    if len(runs) > 0 and (int(runs.min()) < 0 or int(runs.max()) > height * width):
        worst = int(runs.min()) if int(runs.min()) < 0 else int(runs.max())
        raise SegmentsError(
            f"a run of {worst} pixels cannot lie in a picture of {height}x{width}: the mask is "
            "damaged or belongs to another picture."
        )
    _check_total(int(runs.sum()), height, width)
    return _compress(_merge_empty_runs(runs), (height, width))


def _merge_empty_runs(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Drop runs of length zero (but a leading one, which says that the mask starts with ones)."""
    if len(runs) > 0 and (runs[1:] > 0).all():
        return runs
    values = np.arange(len(runs)) % 2
    values, runs = values[runs > 0], runs[runs > 0]
    if len(runs) == 0:
        return runs
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    merged = np.add.reduceat(runs, starts)
    return np.concatenate([[0], merged]) if values[0] == 1 else merged


def _compress(runs: NDArray[np.int64], size: Size) -> RLE:
    listed = {"size": list(size), "counts": runs.tolist()}
    result = coco_mask.frPyObjects(listed, size[0], size[1])
    return {"size": [size[0], size[1]], "counts": result["counts"]}


def _parse_counts(data: bytes) -> NDArray[np.int64]:
    """Undo the variable-length code: bytes -> run lengths."""
    codes = np.frombuffer(data, np.uint8).astype(np.int64) - 48
    if len(codes) == 0:
        return np.zeros(0, np.int64)
    if int(codes.min()) < 0 or int(codes.max()) > 63:
        raise SegmentsError("compressed run lengths contain characters outside '0'..'o'.")
    is_last = (codes & 0x20) == 0
    if not is_last[-1]:
        raise SegmentsError("compressed run lengths end in the middle of a number.")
    ends = np.flatnonzero(is_last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if int(lengths.max()) > 8:
        raise SegmentsError("compressed run lengths contain a number that is too large.")
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = (codes[ends] & 0x10) != 0
    values[negative] -= np.int64(1) << (5 * lengths[negative])
    # Each count from the fourth on is stored as the difference from the one two before.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


# ------------------------------------------------------------------------------ measurements


def area(rles: Sequence[RLE]) -> NDArray[np.int64]:
    """Pixels inside each mask: (N,) int64, without decoding."""
    # pycocotools 2.0.11 keeps the number of masks in eight bits here: 255 at a time.
    parts = [coco_mask.area(list(rles[k : k + 255])) for k in range(0, len(rles), 255)]
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def boxes(rles: Sequence[RLE]) -> NDArray[np.float32]:
    """The tightest box of each mask, without decoding.

    Returns:
        (N, 4) float32 x1, y1, x2, y2 in pixels, x2 and y2 exclusive; zeros for an empty mask.
    """
    if len(rles) == 0:
        return np.zeros((0, 4), np.float32)
    result = np.asarray(coco_mask.toBbox(list(rles)), np.float32)
    result[:, 2:] += result[:, :2]
    return result


def iou(
    first: Sequence[RLE], second: Sequence[RLE], crowd: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Intersection over union of every pair of masks, without decoding.

    Args:
        first: N masks.
        second: M masks of the same picture size.
        crowd: (M,) bool; where set, the intersection is divided by the area of the *first* mask
            alone, COCO's rule for regions that hold many objects.

    Returns:
        (N, M) float64 in 0..1; two empty masks have 0.

    Raises:
        SegmentsError: the masks belong to pictures of different sizes.
    """
    if len(first) == 0 or len(second) == 0:
        return np.zeros((len(first), len(second)))
    same_size([*first, *second])
    one = first if isinstance(first, list) else list(first)
    two = second if isinstance(second, list) else list(second)
    flags = np.zeros(len(second), np.uint8) if crowd is None else np.asarray(crowd, np.uint8)
    if flags.shape != (len(second),):
        raise SegmentsError(f"crowd has the shape {flags.shape}, expected ({len(second)},).")
    return np.asarray(coco_mask.iou(one, two, flags), np.float64)


def same_size(rles: Sequence[RLE]) -> None:
    """Check that all masks belong to pictures of one size.

    Raises:
        SegmentsError: they do not.
    """
    listed_sizes = [rle["size"] for rle in rles]
    if not rles or listed_sizes.count(listed_sizes[0]) == len(listed_sizes):
        return
    sizes = {(rle["size"][0], rle["size"][1]) for rle in rles}
    if len(sizes) > 1:
        listed = ", ".join(f"{height}x{width}" for height, width in sorted(sizes))
        raise SegmentsError(f"masks of different picture sizes cannot be compared: {listed}.")


# ------------------------------------------------------------------------------- combinations


def merge(rles: Sequence[RLE]) -> RLE:
    """The union of one or more masks of one picture size, without decoding.

    Raises:
        SegmentsError: no masks, or different sizes.
    """
    if len(rles) == 0:
        raise SegmentsError("the union of no masks has no size; give at least one.")
    same_size(rles)
    if len(rles) == 1:
        return rles[0]
    result = coco_mask.merge(list(rles), intersect=False)
    return {"size": list(rles[0]["size"]), "counts": result["counts"]}


def intersect(rles: Sequence[RLE]) -> RLE:
    """The intersection of one or more masks of one picture size, without decoding.

    Raises:
        SegmentsError: no masks, or different sizes.
    """
    if len(rles) == 0:
        raise SegmentsError("the intersection of no masks has no size; give at least one.")
    same_size(rles)
    if len(rles) == 1:
        return rles[0]
    result = coco_mask.merge(list(rles), intersect=True)
    return {"size": list(rles[0]["size"]), "counts": result["counts"]}


def place(rle: RLE, size: Size, top: int, left: int) -> RLE:
    """Lay a mask on a canvas of another size, without decoding.

    Pasting a tile's mask into the whole picture and cropping a window out of a picture are the
    same operation: positive offsets paste, negative ones crop.

    Args:
        rle: the mask.
        size: (H, W) of the canvas.
        top, left: where the mask's first pixel goes, in canvas pixels; may be negative.

    Returns:
        The mask on the canvas; what falls outside is cut off.
    """
    canvas_height, canvas_width = _checked_size(size)
    height = rle["size"][0]
    begins, ends = _column_runs(rle)
    columns = begins // height + left
    tops = np.maximum(begins % height + top, 0)
    bottoms = np.minimum((ends - 1) % height + 1 + top, canvas_height)
    keep = (columns >= 0) & (columns < canvas_width) & (tops < bottoms)
    columns, tops, bottoms = columns[keep], tops[keep], bottoms[keep]
    # Zeros and ones in turn: each run is preceded by the gap since the one before.
    edges = np.empty(2 * len(columns) + 2, np.int64)
    edges[0], edges[-1] = 0, canvas_height * canvas_width
    edges[1:-1:2] = columns * canvas_height + tops
    edges[2:-1:2] = columns * canvas_height + bottoms
    return _compress(_merge_empty_runs(np.diff(edges)), (canvas_height, canvas_width))


def _column_runs(rle: RLE) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Runs of ones, cut at the ends of columns: begins and ends in column-major pixel numbers."""
    height = rle["size"][0]
    ends = np.cumsum(run_lengths(rle))
    begins_of_ones = ends[0::2][: len(ends) // 2]
    ends_of_ones = ends[1::2]
    keep = ends_of_ones > begins_of_ones
    begins_of_ones, ends_of_ones = begins_of_ones[keep], ends_of_ones[keep]
    if len(begins_of_ones) == 0:
        return begins_of_ones, ends_of_ones
    first = begins_of_ones // height
    pieces = (ends_of_ones - 1) // height - first + 1
    run = np.repeat(np.arange(len(first)), pieces)
    piece = np.arange(len(run)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    column_start = (first[run] + piece) * height
    return (
        np.maximum(begins_of_ones[run], column_start),
        np.minimum(ends_of_ones[run], column_start + height),
    )


# ---------------------------------------------------------------------- the forms COCO files use


def to_coco_str(rle: RLE) -> dict[str, Any]:
    """The form of JSON files: ``{"size": [H, W], "counts": str}``."""
    return {"size": [int(n) for n in rle["size"]], "counts": rle["counts"].decode("ascii")}


def from_coco_any(segmentation: Any, size: Size) -> RLE:
    """Read any segmentation a COCO file can hold.

    Args:
        segmentation: a compressed RLE (counts `str` or `bytes`), an uncompressed one (counts a
            list), or a list of polygons [x1, y1, x2, y2, ...] whose union is meant. Polygons with
            fewer than three corners have no area and add nothing.
        size: (H, W) of the picture.

    Returns:
        The mask in canonical form.

    Raises:
        SegmentsError: the segmentation is malformed or belongs to a picture of another size.
    """
    height, width = _checked_size(size)
    if isinstance(segmentation, Mapping):
        return _from_mapping(segmentation, (height, width))
    if isinstance(segmentation, (list, tuple)):
        return _from_polygons(segmentation, (height, width))
    raise SegmentsError(
        "a segmentation is a run-length encoding (a dictionary with size and counts) or a list "
        f"of polygons, not a {type(segmentation).__name__}."
    )


def from_coco_many(segmentations: Sequence[Any], size: Size) -> list[RLE | None]:
    """Read the compressed RLEs among many segmentations of one picture, all at once.

    What is not a compressed RLE of this size in canonical form (polygons, lists, runs of length
    zero, damaged counts) comes back as None: :func:`from_coco_any` reads it or says what is wrong.
    Ten times as fast as one by one.

    Args:
        segmentations: N of them, as a COCO file holds them.
        size: (H, W) of the picture.
    """
    height, width = _checked_size(size)
    found: list[RLE | None] = [None] * len(segmentations)
    rows, texts = [], []
    for row, segmentation in enumerate(segmentations):
        if type(segmentation) is not dict or segmentation.get("size") != [height, width]:
            continue
        counts = segmentation.get("counts")
        if type(counts) is str and counts and counts.isascii():
            rows.append(row)
            texts.append(counts.encode("ascii"))
    for row, text, good in zip(rows, texts, _canonical(texts, height * width), strict=True):
        if good:
            found[row] = {"size": [height, width], "counts": text}
    return found


def _canonical(texts: Sequence[bytes], pixels: int) -> list[bool]:
    """Which compressed run lengths fill the picture and are written as we would write them."""
    if not texts:
        return []
    codes = np.frombuffer(b"".join(texts), np.uint8).astype(np.int64) - 48
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    last = (codes & 0x20) == 0
    good = last[ends - 1].copy()
    inside = (codes >= 0) & (codes <= 63)
    good &= np.logical_and.reduceat(inside, ends - lengths)
    if not good.all():  # numbers would run into the next text
        kept = [text for text, fine in zip(texts, good.tolist(), strict=True) if fine]
        rest = iter(_canonical(kept, pixels))
        return [next(rest) if fine else False for fine in good.tolist()]
    # Numbers: five bits a code, the last one's highest bit is the sign.
    stops = np.flatnonzero(last)
    starts = np.concatenate([[0], stops[:-1] + 1])
    sizes = stops - starts + 1
    if int(sizes.max()) > 8:
        return [False] * len(texts)
    place = np.arange(len(codes)) - np.repeat(starts, sizes)
    stored = np.add.reduceat((codes & 31) << (5 * place), starts)
    stored = np.where(codes[stops] & 16, stored - (1 << (5 * sizes)), stored)
    owner = np.searchsorted(ends, starts, side="right")
    first = np.searchsorted(owner, np.arange(len(texts)))
    number = np.arange(len(stored)) - first[owner]
    # From the fourth on each is the difference from the one two before: sums within every chain.
    chain = 3 * owner + np.where(number == 0, 0, 1 + (number % 2 == 0))
    order = np.argsort(chain, kind="stable")
    sums = np.cumsum(stored[order])
    heads = np.flatnonzero(np.diff(chain[order], prepend=-1))
    before = np.concatenate([[0], sums[heads[1:] - 1]])
    runs = np.empty_like(stored)
    runs[order] = sums - np.repeat(before, np.diff(np.append(heads, len(sums))))
    # The fewest codes that hold the number: any other spelling is not ours.
    bits = np.frexp(np.where(stored < 0, ~stored, stored).astype(np.float64))[1]
    minimal = (bits + 1 + 4) // 5 == sizes
    fine = minimal & (runs >= 0) & ((runs > 0) | (number == 0))
    good = np.logical_and.reduceat(fine, first)
    good &= np.add.reduceat(runs, first) == pixels
    return good.tolist()  # type: ignore[no-any-return]


def _from_mapping(segmentation: Mapping[str, Any], size: Size) -> RLE:
    if "counts" not in segmentation or "size" not in segmentation:
        raise SegmentsError("a run-length encoding needs the keys size and counts.")
    given = segmentation["size"]
    if not _is_pair(given):
        raise SegmentsError(f"the size of a run-length encoding is [H, W], not {given!r}.")
    if (int(given[0]), int(given[1])) != size:
        raise SegmentsError(
            f"the mask was made for a picture of {given[0]}x{given[1]} (height x width), but the "
            f"picture has {size[0]}x{size[1]}."
        )
    counts = segmentation["counts"]
    if isinstance(counts, str):
        if not counts.isascii():
            raise SegmentsError("compressed run lengths contain characters outside '0'..'o'.")
        counts = counts.encode("ascii")
    if isinstance(counts, (bytes, bytearray)):
        return from_run_lengths(_parse_counts(bytes(counts)), size)
    if isinstance(counts, (list, tuple, np.ndarray)):
        return from_run_lengths(_whole_numbers(counts), size)
    raise SegmentsError(
        f"the counts of a run-length encoding are text or a list, not {type(counts).__name__}."
    )


def _whole_numbers(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    try:
        numbers = np.asarray(values)
    except ValueError as error:
        raise SegmentsError("run lengths are a flat list of whole numbers.") from error
    if np.issubdtype(numbers.dtype, np.floating) and numbers.ndim == 1:
        # Some writers store whole numbers as 12.0.
        if not (np.isfinite(numbers).all() and (numbers == np.rint(numbers)).all()):
            raise SegmentsError("run lengths are whole numbers.")
        if np.abs(numbers).max(initial=0) > 2**53:
            raise SegmentsError("run lengths are larger than any picture.")
        return numbers.astype(np.int64)
    return numbers


def _from_polygons(polygons: Sequence[Any], size: Size) -> RLE:
    height, width = size
    flat = len(polygons) > 0 and all(isinstance(value, (int, float)) for value in polygons)
    if flat:
        raise SegmentsError(
            "a segmentation made of polygons is a list of lists [[x1, y1, x2, y2, ...], ...], "
            "not a flat list of numbers."
        )
    usable: list[list[float]] = []
    for number, polygon in enumerate(polygons):
        try:
            points = np.asarray(polygon, np.float64)
        except (TypeError, ValueError) as error:
            raise SegmentsError(f"polygon {number} is not a list of numbers.") from error
        if points.ndim != 1 or len(points) % 2:
            raise SegmentsError(
                f"polygon {number} is not a list x1, y1, x2, y2, ... of an even length."
            )
        if not np.isfinite(points).all():
            raise SegmentsError(f"polygon {number} has coordinates that are NaN or infinite.")
        # The rasteriser walks along every edge, in steps of a fifth of a pixel.
        if len(points) and np.abs(points).max() > 10 * max(height, width) + 1000:
            raise SegmentsError(
                f"polygon {number} lies far outside the picture of {height}x{width}: are its "
                "coordinates in pixels?"
            )
        if len(points) >= 6:
            usable.append(points.tolist())
    if not usable:
        return _compress(np.array([height * width]), size)
    parts: list[RLE] = coco_mask.frPyObjects(usable, height, width)
    parts = [{"size": [height, width], "counts": part["counts"]} for part in parts]
    return merge(parts)


def _is_pair(value: Any) -> bool:
    if not isinstance(value, (list, tuple, np.ndarray)) or len(value) != 2:
        return False
    return all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) for n in value)


def _checked_size(size: Size) -> Size:
    if not _is_pair(size) or size[0] < 1 or size[1] < 1 or size[0] * size[1] >= 2**32:
        raise SegmentsError(
            f"a picture size is (height, width), two whole numbers from 1 on, not {size!r}."
        )
    return int(size[0]), int(size[1])
