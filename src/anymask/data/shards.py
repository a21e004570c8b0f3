"""Regions with their pictures in tar files, in WebDataset's layout.

A sample is two members that share a key: the picture's own bytes (``000000012.jpg``) and its line
of regions (``000000012.json``). Whatever reads WebDataset reads these. ``shards.json`` beside them
says how many samples each holds, so that a run knows where it is without reading them.

Reading goes through one group of shards after the other and draws freely within it, so that a disk
or a network share is read in long pieces; which sample comes when is a pure function of its number,
so that any process may take any part, and a run may go on in the middle of an epoch.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anymask.data.formats.atomic import atomic_write
from anymask.data.regions import RegionFile, RegionRecord, checked_size, parsed
from anymask.errors import DataError
from anymask.image import Image, read_image

PER_SHARD = 1000  # samples, as the paper's
BUFFER = 5000  # samples that are drawn from at a time, as the paper's shuffle buffer
SEED = 20230731  # of the order in which pictures are written
INDEX = "shards.json"


def write_shards(
    name: str, lines: RegionFile, out: Path, *, per_shard: int = PER_SHARD, seed: int = SEED
) -> Iterator[Path]:
    """Write a data set's lines as shards; complete ones of an earlier run with the same arguments
    are kept.

    Args:
        name: of the data set; the shards' names begin with it.
        lines: its lines.
        out: folder of the shards.
        per_shard: samples of each.
        seed: of the order.

    Yields:
        Every shard once it is complete; the index behind the last one.

    Raises:
        DataError: a line is broken, or the folder holds shards of something else.
        ImageError: a picture is missing.
    """
    order = np.random.default_rng(seed).permutation(len(lines))
    with lines.path.open("rb") as stream:
        content = hashlib.file_digest(stream, "sha256").hexdigest()
    plan = {"source": name, "lines": len(lines), "per_shard": per_shard, "seed": seed,
            "sha256": content, "counts": [int(lines.counts[k]) for k in order]}  # fmt: skip
    _bind(out, plan)
    starts = range(0, len(order), per_shard)
    shards = [out / f"{name}-{k:06d}.tar" for k in range(len(starts))]
    for path, start in zip(shards, starts, strict=True):
        if not path.is_file():
            _write_one(path, lines, order[start : start + per_shard], start)
        yield path
    index = {**plan, "shards": [path.name for path in shards]}
    with atomic_write(out / INDEX) as stream:
        stream.write(json.dumps(index).encode())
    (out / _PLAN).unlink(missing_ok=True)
    yield out / INDEX


_PLAN = "unfinished.json"  # what the shards that are there belong to, until the index is


def _bind(out: Path, plan: dict[str, Any]) -> None:
    """A folder belongs to one set of arguments."""
    for name in (INDEX, _PLAN):
        if (out / name).is_file():
            there = json.loads((out / name).read_text())
            if any(there.get(key) != value for key, value in plan.items()):
                raise DataError(
                    f"{out} holds shards of another file (or of what was in it before), size or "
                    "seed: give another folder, or delete it"
                )
    if not (out / INDEX).is_file():
        with atomic_write(out / _PLAN) as stream:
            stream.write(json.dumps(plan).encode())


def _write_one(path: Path, lines: RegionFile, rows: NDArray[np.int64], first: int) -> None:
    with atomic_write(path) as stream, tarfile.open(fileobj=stream, mode="w") as tar:
        for number, row in enumerate(rows.tolist(), first):
            record = lines[row]
            picture = lines.root / record.image
            key = f"{number:09d}"
            try:
                content = picture.read_bytes()
            except OSError as error:
                raise DataError(f"{picture}, a picture of {lines.path}: {error}") from error
            _add(tar, key + (picture.suffix.lower() or ".jpg"), content)
            _add(tar, key + ".json", json.dumps(record.to_json(), ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # no time, owner or rights: the same lines give the same bytes
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


@dataclass(frozen=True)
class RegionShards(Sequence[RegionRecord]):
    """A folder that :func:`write_shards` filled; like a :class:`~anymask.data.regions.RegionFile`.

    Attributes:
        path: the folder.
        files: its shards.
        starts: number of the first sample of each, and of all samples at the end.
        counts: regions of every sample.
    """

    path: Path
    files: tuple[Path, ...]
    starts: tuple[int, ...]
    counts: tuple[int, ...] = field(repr=False)

    @classmethod
    def read(cls, folder: str | Path) -> RegionShards:
        """Open a folder of shards.

        Raises:
            DataError: it has no index, or a shard of the index is missing.
        """
        folder = Path(folder)
        try:
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            files = tuple(folder / name for name in index["shards"])
            counts, per_shard = tuple(index["counts"]), int(index["per_shard"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} is no finished folder of shards: run anymask data shard again "
                f"({error!r})"
            ) from error
        for file in files:
            if not file.is_file():
                raise DataError(f"{file} is missing: run anymask data shard again")
        starts = (*range(0, len(counts), per_shard), len(counts))
        return cls(folder, files, starts, counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[k] for k in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._record(int(index))

    def picture_of(self, record: RegionRecord) -> Image:
        """The picture of a record that came from here.

        Raises:
            ImageError: it is broken.
            DataError: it has another size than its record says.
        """
        shard, _, name = record.image.rpartition("#")
        file = self.path / shard
        stream = io.BytesIO(_content(file, _members(file)[name]))
        stream.name = f"{file}#{name}"
        image = Image(read_image(stream).pixels, Path(stream.name))
        return checked_size(image, record, file)

    def _record(self, index: int) -> RegionRecord:
        """A sample's record, its ``image`` pointing into the shard."""
        number = int(np.searchsorted(self.starts, index, side="right")) - 1
        file = self.files[number]
        members = _members(file)
        key = f"{index:09d}"
        names = [name for name in members if name.startswith(key + ".")]
        pictures = [name for name in names if not name.endswith(".json")]
        if len(names) != 2 or len(pictures) != 1:
            raise DataError(f"{file} has no sample {key}: delete it and run anymask data shard")
        record = parsed(_content(file, members[key + ".json"]), f"{file}, {key}.json")
        return replace(record, image=f"{file.name}#{pictures[0]}")

    def row_of(self, draw: int, seed: int) -> int:
        """Which sample the ``draw``-th one of a run is: every epoch goes through all of them once,
        group by group in an order of its own (shards are shuffled, then samples of a group)."""
        epoch, place = divmod(draw, len(self))
        return int(_order(self.starts, seed, epoch)[place])

    def beside(self, row: int) -> range:
        """The samples of the same shard."""
        number = int(np.searchsorted(self.starts, row, side="right")) - 1
        return range(self.starts[number], self.starts[number + 1])


# Nine data sets have five shards each that are drawn from; a table of one takes half a megabyte.
@lru_cache(maxsize=128)
def _members(file: Path) -> dict[str, tuple[int, int]]:
    """(offset, size) of every member of a shard."""
    try:
        with tarfile.open(file, "r:") as tar:
            return {member.name: (member.offset_data, member.size) for member in tar}
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{file} is no tar file: {error}") from error


def _content(file: Path, place: tuple[int, int]) -> bytes:
    with file.open("rb") as stream:
        stream.seek(place[0])
        return stream.read(place[1])


@lru_cache(maxsize=32)  # two epochs of as many data sets as anybody mixes
def _order(starts: tuple[int, ...], seed: int, epoch: int) -> NDArray[np.int64]:
    rng = np.random.default_rng((seed, epoch))
    shards = rng.permutation(len(starts) - 1)
    drawn, group = [], list[NDArray[np.int64]]()
    for place, shard in enumerate(shards):
        group.append(np.arange(starts[shard], starts[shard + 1]))
        if sum(map(len, group)) >= BUFFER or place == len(shards) - 1:
            drawn.append(rng.permutation(np.concatenate(group)))
            group = []
    return np.concatenate(drawn)
