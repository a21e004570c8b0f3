"""Shards: what others read of them, that nothing is lost, and in which order a run sees them."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import osm_tiny as tiny
import PIL.Image
import pytest
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.region_sources import RegionSource, read_meta
from anymask.data.regions import RegionFile, RegionRecord, write_regions
from anymask.data.shards import BUFFER, INDEX, RegionShards, write_shards
from anymask.errors import AnymaskError, DataError
from anymask.ops.rle import encode
from anymask.training.mask_samples import MaskSamples
from anymask.training.region_samples import RegionSamples

RUN = CliRunner()


def lines(folder: Path, pictures: int = 23) -> RegionFile:
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for k in range(pictures):
        pixels = np.full((40, 48, 3), k, np.uint8)
        PIL.Image.fromarray(pixels).save(folder / f"p{k}.png")
        masks = np.zeros((1 + k % 3, 40, 48), bool)
        masks[:, 5:30, 4 : 20 + k] = True
        names = tuple(f"thing {k}" for _ in masks)
        rles = tuple(encode(m) for m in masks)
        records.append(RegionRecord(f"id{k}", f"p{k}.png", (40, 48), rles, names))
    write_regions(records, folder / "x.jsonl")
    return RegionFile.read(folder / "x.jsonl")


def test_changed_lines_are_no_longer_the_same_shards(tmp_path: Path) -> None:
    file = lines(tmp_path / "in", 4)
    list(write_shards("x", file, tmp_path / "out", per_shard=2))
    list(write_shards("x", file, tmp_path / "out", per_shard=2))
    text = (tmp_path / "in" / "x.jsonl").read_text()
    (tmp_path / "in" / "x.jsonl").write_text(text.replace("thing 1", "thong 1"))
    changed = RegionFile.read(tmp_path / "in" / "x.jsonl")
    with pytest.raises(DataError, match="delete it"):
        list(write_shards("x", changed, tmp_path / "out", per_shard=2))


def test_every_line_and_picture_comes_back(tmp_path: Path) -> None:
    file = lines(tmp_path / "in")
    written = list(write_shards("x", file, tmp_path / "out", per_shard=5))
    assert [p.name for p in written] == [*(f"x-{k:06d}.tar" for k in range(5)), INDEX]
    shards = RegionShards.read(tmp_path / "out")
    assert len(shards) == 23
    found = {}
    for k, record in enumerate(shards):
        image = shards.picture_of(record)
        assert image.pixels[0, 0, 0] == int(record.id[2:])
        assert shards.counts[k] == len(record.names)
        assert k in shards.beside(k)
        found[record.id] = record
    assert set(found) == {r.id for r in file}
    for record in file:
        assert found[record.id].rles == record.rles
        assert found[record.id].names == record.names
    with pytest.raises(IndexError):
        shards[23]


def test_webdataset_reads_them(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="the extra test brings webdataset")
    list(write_shards("x", lines(tmp_path / "in", 7), tmp_path / "out", per_shard=3))
    urls = sorted(str(p) for p in (tmp_path / "out").glob("*.tar"))
    samples = list(wds.WebDataset(urls, shardshuffle=False))
    assert [s["__key__"] for s in samples] == [f"{k:09d}" for k in range(7)]
    for sample in samples:
        row = json.loads(sample["json"])
        pixels = np.asarray(PIL.Image.open(io.BytesIO(sample["png"])))
        assert pixels[0, 0, 0] == int(row["id"][2:])
        assert row["label"] == [f"thing {row['id'][2:]}"] * len(row["masks"])


def test_an_interrupted_run_goes_on_with_the_same_bytes(tmp_path: Path) -> None:
    file = lines(tmp_path / "in")
    list(write_shards("x", file, tmp_path / "whole", per_shard=5))
    writing = write_shards("x", file, tmp_path / "cut", per_shard=5)
    first = next(writing)
    next(writing)
    writing.close()
    with pytest.raises(DataError, match="no finished folder"):
        RegionShards.read(tmp_path / "cut")
    before = first.stat().st_mtime_ns
    list(write_shards("x", file, tmp_path / "cut", per_shard=5))
    assert first.stat().st_mtime_ns == before
    names = sorted(p.name for p in (tmp_path / "whole").iterdir())
    assert names == sorted(p.name for p in (tmp_path / "cut").iterdir())
    for name in names:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "cut" / name).read_bytes()
    for change in ({"per_shard": 6}, {"per_shard": 5, "seed": 1}):
        with pytest.raises(DataError, match="another"):
            next(write_shards("x", file, tmp_path / "cut", **change))


def test_an_epoch_holds_everything_once_group_by_group(tmp_path: Path) -> None:
    counts = tuple([1] * 23_500)
    starts = (*range(0, 23_500, 1000), 23_500)
    shards = RegionShards(tmp_path, tuple(tmp_path / str(k) for k in range(24)), starts, counts)
    epochs = [[shards.row_of(e * 23_500 + k, 7) for k in range(23_500)] for e in range(2)]
    assert epochs[0] != epochs[1]
    for epoch in epochs:
        assert sorted(epoch) == list(range(23_500))
        for start in range(0, 23_500, BUFFER):
            # As many shards as the buffer holds, and one more at most for the short one.
            assert len({row // 1000 for row in epoch[start : start + BUFFER]}) <= 10
        assert epoch[:100] != sorted(epoch[:100])
    assert [shards.row_of(k, 7) for k in range(50)] == epochs[0][:50]
    assert [shards.row_of(k, 8) for k in range(50)] != epochs[0][:50]


def test_a_run_from_shards_sees_every_picture_once_an_epoch(tmp_path: Path) -> None:
    file = lines(tmp_path / "in", 24)
    list(write_shards("x", file, tmp_path / "out", per_shard=4))
    source = RegionSource("x", RegionShards.read(tmp_path / "out"), mode="coco")
    run = MaskSamples([source], [4], 12, 40, augment=False)
    names = [run[k]["name"] for k in range(48)]
    assert Counter(names[:24]) == Counter(f"thing {k}" for k in range(24))
    assert Counter(names[24:]) == Counter(names[:24])
    # Any process may take any part, and a run goes on in the middle.
    assert [run[k]["name"] for k in (30, 7, 41)] == [names[k] for k in (30, 7, 41)]


def test_in_the_terminal(tmp_path: Path) -> None:
    tiny.sources(tmp_path / "in")
    entries = {
        m: {"root": ".", "annotation": f"{m}.jsonl", "mode": m, "repeat_time": 2}
        for m in ("coco", "lvis")
    }
    (tmp_path / "in" / "meta.json").write_text(json.dumps(entries))
    arguments = ["data", "shard", str(tmp_path / "in" / "meta.json"), "-o", str(tmp_path / "out"),
                 "--per-shard", "3"]  # fmt: skip
    for _ in range(2):
        result = RUN.invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0
        assert "coco: 4 pictures in 2 shards" in result.output
    before, after = read_meta(tmp_path / "in" / "meta.json"), read_meta(tmp_path / "out/meta.json")
    for one, other in zip(before, after, strict=True):
        assert (one.name, one.mode, one.repeat) == (other.name, other.mode, other.repeat)
        assert {r.id: r.rles for r in one.file} == {r.id: r.rles for r in other.file}


def test_what_is_broken_says_what_to_do(tmp_path: Path) -> None:
    file = lines(tmp_path / "in", 4)
    (tmp_path / "in" / "p2.png").unlink()
    with pytest.raises(DataError, match=r"p2\.png"):
        list(write_shards("x", file, tmp_path / "out", per_shard=2))
    assert not list((tmp_path / "out").glob(".*"))
    file = lines(tmp_path / "in", 4)
    list(write_shards("x", file, tmp_path / "out", per_shard=2))
    shard = tmp_path / "out" / "x-000001.tar"
    shard.write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DataError, match="no tar file"):
        RegionShards.read(tmp_path / "out")[3]
    with tarfile.open(shard, "w"):
        pass
    from anymask.data.shards import _members

    _members.cache_clear()
    with pytest.raises(DataError, match="has no sample 000000003"):
        RegionShards.read(tmp_path / "out")[3]
    shard.unlink()
    with pytest.raises(DataError, match="is missing"):
        RegionShards.read(tmp_path / "out")
    again = tmp_path / "again.json"
    list(write_shards("y", file, tmp_path / "y", per_shard=2))
    again.write_text(json.dumps({"y": {"shards": "y"}}))
    arguments = ["data", "shard", str(again), "-o", str(tmp_path / "z")]
    with pytest.raises(AnymaskError, match="in shards already"):
        RUN.invoke(app, arguments, catch_exceptions=False)


def test_wowseg_learns_from_shards_as_from_lines(tmp_path: Path) -> None:
    file = lines(tmp_path / "in", 9)
    list(write_shards("x", file, tmp_path / "out", per_shard=4))
    runs = [
        RegionSamples([RegionSource("x", source)], epochs=1, batch_size=3)
        for source in (file, RegionShards.read(tmp_path / "out"))
    ]
    assert len(runs[0]) == len(runs[1]) == 9
    seen = [{s["names"][0]: s["masks"].sum() for s in (run[k] for k in range(9))} for run in runs]
    assert seen[0] == seen[1]
