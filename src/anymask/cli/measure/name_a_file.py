"""Naming a file of regions before it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from anymask.cli.discover import identity
from anymask.cli.progress import Progress
from anymask.errors import InputError, PartialFailure

if TYPE_CHECKING:
    from anymask.benchmarks.naming_gallery import Look
    from anymask.benchmarks.naming_protocol import NamedPair
    from anymask.benchmarks.naming_run import Redraw
    from anymask.image import Image
    from anymask.segments import Segments


def name_a_file(
    regions: Path,
    images: Path | None,
    model: str | None,
    masks: str,
    prompter: str,
    share: float,
    save: Path | None,
    device: str,
    mode: str | None = None,
) -> tuple[list[NamedPair], dict[str, float]]:
    """Names of all regions, and how good the masks were; arguments as of ``measure naming``."""
    from anymask.benchmarks.ledger import Ledger
    from anymask.benchmarks.naming_run import name_regions, pairs_of
    from anymask.data.regions import RegionFile
    from anymask.loading import load_namer
    from anymask.methods.named import in_order
    from anymask.methods.wowseg.inference import WOWSegNamer
    from anymask.ops.mask_shapes import Shape

    kinds = (*get_args(Shape), "sam")
    if masks not in kinds:
        raise InputError(f"--masks is {masks!r}: use {', '.join(kinds)}")
    if model is None:
        raise InputError("--regions are named by a model: give --model")
    file = RegionFile.read(regions, images)
    stage = masks if masks != "sam" else f"sam {prompter}"
    stage += "" if share == 1 else f", share {share:g}"
    stage += "" if mode is None else f", mode {mode}"
    ledger = Ledger(save or regions.with_suffix(".names.jsonl"))
    namer = load_namer(model, device)
    if isinstance(namer, WOWSegNamer):
        namer.share = share
    elif share != 1:
        raise InputError("--share belongs to WOW-Seg: an OSM looks at no crops")
    options: dict[str, Any] = {}
    if mode is not None:
        if isinstance(namer, WOWSegNamer):
            raise InputError("--mode belongs to OSM: this model is a WOW-Seg")
        options["mode"] = mode

    def names(image: Image, segments: Segments) -> Sequence[str | None]:
        return in_order(namer.names(image, segments, **options), len(segments))

    left = sum(ledger.get(record.id, stage) is None for record in file)
    with Progress(left) as advance:
        failed = name_regions(
            file, names, _redraw(masks, prompter, device), ledger, stage, str(identity(model)),
            advance,
        )  # fmt: skip
    if failed:
        raise PartialFailure(failed)
    return pairs_of(file, ledger, stage)


def _redraw(masks: str, prompter: str, device: str) -> Redraw | None:
    """How true masks become those that are named."""
    from anymask.segments import Segments

    if masks == "true":
        return None
    if masks == "sam":
        from anymask.loading import load_finder
        from anymask.verbs import find

        sam: Any = load_finder(prompter, device)

        def drawn(image: Image, true: Sequence[Any]) -> Segments:
            given = Segments.from_masks(true, size=image.size)
            filled = [k for k in range(len(given)) if true[k].any()]
            found = find(image, boxes=given.boxes[filled], model=sam) if filled else given[:0]
            rles = list(given.rles)  # an empty mask has no box to ask with and stays empty
            for row, rle in zip(filled, found.rles, strict=True):
                rles[row] = rle
            return Segments(image.size, rles)

        return drawn
    from anymask.ops.mask_shapes import shaped

    def changed(image: Image, true: Sequence[Any]) -> Segments:
        return Segments.from_masks([shaped(mask, masks) for mask in true], size=image.size)  # type: ignore[arg-type]

    return changed


def looker(regions: Path, images: Path | None) -> Look:
    """Where the picture and the mask of a measured name are found again."""
    from anymask.data.regions import RegionFile
    from anymask.ops.rle import decode

    file = RegionFile.read(regions, images)
    numbers = {record.id: number for number, record in enumerate(file)}

    def look(pair: NamedPair) -> Any:
        key, _, row = pair.where.rpartition(", ")
        record = file[numbers[key]]
        return file.picture_of(record), decode(record.rles[int(row)])

    return look
