"""Naming a file of regions with a model, with exact masks or coarser ones (WOW-Seg, Tables 1 and
7); what is done is kept, picture by picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.benchmarks.ledger import Ledger
from anymask.benchmarks.naming_protocol import NamedPair
from anymask.data.regions import RegionFile
from anymask.errors import AnymaskError, InputError
from anymask.image import Image
from anymask.ops.rle import RLE, area, decode, iou
from anymask.segments import Segments

# picture, masks -> a name or None for each
Namer = Callable[[Image, Segments], Sequence[str | None]]
# picture, true masks -> the masks to be named in their place
Redraw = Callable[[Image, Sequence[NDArray[np.bool_]]], Segments]


def name_regions(
    file: RegionFile,
    namer: Namer,
    redraw: Redraw | None,
    ledger: Ledger,
    stage: str,
    model: str,
    advance: Callable[[str | None], None],
) -> list[tuple[Path, str]]:
    """Name every region that is not named yet.

    Args:
        file: the regions.
        namer: of masks.
        redraw: other masks for the same things; None = the true ones.
        ledger: where names go, a line a picture.
        stage: what the ledger calls this kind of masks.
        model: for the record; another one in the same ledger is refused.
        advance: called once a picture.

    Returns:
        (picture, reason) of those that failed.

    Raises:
        InputError: the ledger was begun with another model.
    """
    before = {str(row.get("model")) for row in ledger.stage(stage).values()} - {model}
    if before:
        raise InputError(
            f"{ledger.path} has names of {before.pop()}, not of {model}: use another file"
        )
    failed = []
    for number in range(len(file)):
        record = file[number]
        kept = ledger.get(record.id, stage)
        sizes = [int(pixels) for pixels in area(record.rles)]
        if kept is not None and kept["image"] == record.image and kept["areas"] == sizes:
            continue  # another picture or other masks are named again
        try:
            image = file.picture_of(record)
            true = Segments(record.size, record.rles)
            shown = true if redraw is None else redraw(image, [decode(rle) for rle in record.rles])
            names = namer(image, shown)
        except AnymaskError as error:
            failed.append((file.root / record.image, str(error)))
            advance(f"{record.image}: {error}")
            continue
        empty = area(shown.rles) == 0
        row: dict[str, Any] = {
            "image": record.image,
            "pred_labels": [name or "" for name in names],
            "gt_labels": list(record.names),
            "areas": sizes,
            "mask_iou": [_iou(a, b) for a, b in zip(shown.rles, record.rles, strict=True)],
            "empty": [bool(flag) for flag in empty],
            "num_masks": len(record.names),
            "model": model,
        }
        ledger.add(record.id, stage, row)
        advance(None)
    return failed


def pairs_of(
    file: RegionFile, ledger: Ledger, stage: str
) -> tuple[list[NamedPair], dict[str, float]]:
    """Names of a stage beside the truth as the file has it now, and how good its masks were:
    ``mask_iou`` (mean), ``empty_masks`` (how many) and ``pictures``."""
    pairs: list[NamedPair] = []
    overlaps: list[float] = []
    empty = 0
    rows = 0
    for record in file:
        row = ledger.get(record.id, stage)
        if row is None:  # it failed
            continue
        rows += 1
        found = zip(row["pred_labels"], record.names, row["areas"], strict=True)
        pairs += [NamedPair(a, b, c, f"{record.id}, {k}") for k, (a, b, c) in enumerate(found)]
        overlaps += row["mask_iou"]
        empty += sum(row["empty"])
    return pairs, {
        "mask_iou": float(np.mean(overlaps)) if overlaps else float("nan"),
        "empty_masks": float(empty),
        "pictures": float(rows),
    }


def _iou(first: RLE, second: RLE) -> float:
    return round(float(iou([first], [second])[0, 0]), 6)
