"""Reading LabelMe files: one JSON per picture."""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from anymask.errors import DataError, SegmentsError
from anymask.ops import rle as rle_ops
from anymask.ops.rle import RLE, Size
from anymask.segments import Segments


def read_labelme(path: str | Path) -> Segments:
    """Read the regions of a LabelMe file.

    Polygons, rectangles, circles and masks become regions; points, lines and line strips have no
    area and are passed over. Shapes with the same label and the same `group_id` are parts of one
    thing and become one region. The picture inside the file (`imageData`) is not looked at.

    Args:
        path: a JSON file with `imageHeight`, `imageWidth` and `shapes`.

    Returns:
        The regions in the order of their first shapes, with their labels.

    Raises:
        DataError: the file is missing, is not JSON, lacks a key, or a shape is malformed.
    """
    content = _load(Path(path))
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if not isinstance(height, int) or not isinstance(width, int) or height < 1 or width < 1:
        raise DataError(f"{path} has no imageHeight and imageWidth: save it again with LabelMe.")
    shapes = content.get("shapes")
    if not isinstance(shapes, list):
        raise DataError(f"{path} has no list of shapes: it is not a LabelMe file.")
    parts: dict[tuple[str, Any], list[RLE]] = {}
    for number, shape in enumerate(shapes):
        try:
            rle = _region(shape, (height, width))
        except SegmentsError as error:
            raise DataError(f"{path}: shape {number}: {error}") from None
        if rle is None:
            continue
        group = shape.get("group_id")
        # Without a group every shape is a thing of its own.
        key = (shape["label"], ("shape", number) if group is None else ("group", str(group)))
        parts.setdefault(key, []).append(rle)
    return Segments(
        (height, width),
        [rle_ops.merge(rles) for rles in parts.values()],
        labels=[label for label, _ in parts],
        label_sources=["annotation"] * len(parts),
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise DataError(f"{path} cannot be opened: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a LabelMe file: an object with shapes is expected.")
    return content


def _region(shape: Any, size: Size) -> RLE | None:
    if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
        raise SegmentsError("it has no label.")
    kind = shape.get("shape_type") or "polygon"
    if kind in ("point", "points", "line", "linestrip"):
        return None
    points = _points(shape.get("points"))
    if kind == "polygon":
        if len(points) < 3:
            raise SegmentsError(f"a polygon has at least 3 corners, this one {len(points)}.")
        return rle_ops.from_coco_any([points.ravel().tolist()], size)
    if kind == "rectangle":
        return _rectangle(points, size)
    if kind == "circle":
        return _circle(points, size)
    if kind == "mask":
        return _mask(shape.get("mask"), points, size)
    raise SegmentsError(f"the shape type {kind!r} is not known.")


def _points(points: Any) -> NDArray[np.float64]:
    """(P, 2) x, y in pixels."""
    try:
        array = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        array = np.zeros(0)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise SegmentsError("its points are not a list of [x, y].")
    return array


def _rectangle(points: NDArray[np.float64], size: Size) -> RLE:
    # Two opposite corners, or all four in newer files.
    if len(points) not in (2, 4):
        raise SegmentsError(f"a rectangle has 2 or 4 points, this one {len(points)}.")
    if len(points) == 4:
        return rle_ops.from_coco_any([points.ravel().tolist()], size)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    corners = [left, top, right, top, right, bottom, left, bottom]
    return rle_ops.from_coco_any([[float(number) for number in corners]], size)


def _circle(points: NDArray[np.float64], size: Size) -> RLE:
    if len(points) != 2:
        raise SegmentsError(
            f"a circle has its centre and one point on it, not {len(points)} points."
        )
    (x, y), edge = points
    radius = math.dist((x, y), edge)
    height, width = size
    top, bottom = (int(n) for n in np.clip([y - radius - 1, y + radius + 1], 0, height))
    left, right = (int(n) for n in np.clip([x - radius - 1, x + radius + 1], 0, width))
    if top >= bottom or left >= right:
        return rle_ops.from_run_lengths([height * width], size)
    # Pixels whose centres lie inside.
    rows = np.arange(top, bottom)[:, None] + 0.5 - y
    columns = np.arange(left, right)[None, :] + 0.5 - x
    return rle_ops.place(rle_ops.encode(rows**2 + columns**2 <= radius**2), size, top, left)


def _mask(data: Any, points: NDArray[np.float64], size: Size) -> RLE:
    """A PNG in base64 that fills the rectangle between the two points."""
    if not isinstance(data, str) or len(points) != 2:
        raise SegmentsError("a mask has a picture in base64 and 2 points.")
    left, top = (int(n) for n in np.floor(points.min(axis=0)))
    try:
        raw = base64.b64decode(data, validate=True)
        with PIL.Image.open(io.BytesIO(raw), formats=["PNG"]) as picture:
            if picture.height > size[0] + 1 or picture.width > size[1] + 1:
                raise SegmentsError("its mask is larger than the picture.")
            inside = np.asarray(picture.convert("L")) > 0
    except SegmentsError:
        raise
    except (binascii.Error, OSError, SyntaxError, ValueError) as error:
        raise SegmentsError(f"its mask cannot be read: {error}.") from None
    return rle_ops.place(rle_ops.encode(inside), size, top, left)
