"""A file of regions named by a model in the terminal, with exact masks and coarser ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import test_sam
import wowseg_tiny as tiny
from typer.testing import CliRunner

from anymask.benchmarks.ledger import Ledger
from anymask.benchmarks.naming_run import name_regions, pairs_of
from anymask.cli.app import app
from anymask.data.regions import RegionFile, RegionRecord, write_regions
from anymask.errors import InputError, PartialFailure
from anymask.image import Image
from anymask.ops.mask_shapes import shaped
from anymask.ops.rle import encode
from anymask.segments import Segments

RUN = CliRunner()


def regions(folder: Path, pictures: int = 3) -> RegionFile:
    records = []
    for k in range(pictures):
        rng = np.random.default_rng(k)
        PIL.Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(
            folder / f"{k}.png"
        )
        y, x = np.indices((40, 56))
        masks = [(y - 20) ** 2 + (x - 18) ** 2 < 90, abs(y + x - 60) < 6, np.zeros((40, 56), bool)]
        rles = tuple(encode(mask) for mask in masks)
        records.append(RegionRecord(str(k), f"{k}.png", (40, 56), rles, ("a cup", "rod", "no")))
    write_regions(records, folder / "regions.jsonl")
    return RegionFile.read(folder / "regions.jsonl")


def namer(image: Image, segments: Segments) -> Sequence[str | None]:
    return ["cup" if pixels > 350 else "rod" if pixels else None for pixels in segments.areas]


def quiet(line: str | None) -> None:
    pass


def test_named_once_and_kept(tmp_path: Path) -> None:
    file, ledger = regions(tmp_path), Ledger(tmp_path / "names.jsonl")
    (tmp_path / "1.png").rename(tmp_path / "away.png")
    failed = name_regions(file, namer, None, ledger, "true", "m", quiet)
    assert [path.name for path, _ in failed] == ["1.png"]
    (tmp_path / "away.png").rename(tmp_path / "1.png")
    asked = []

    def counting(image: Image, segments: Segments) -> Sequence[str | None]:
        asked.append(image.path)
        return namer(image, segments)

    assert not name_regions(file, counting, None, Ledger(tmp_path / "names.jsonl"), "true", "m",
                            quiet)  # fmt: skip
    assert [path and path.name for path in asked] == ["1.png"]
    again = Ledger(tmp_path / "names.jsonl")
    pairs, about = pairs_of(file, again, "true")
    assert sum(not pair.found for pair in pairs) == 3
    # Two empty masks do not overlap: they count as missed.
    assert about == {"mask_iou": pytest.approx(2 / 3), "empty_masks": 3.0, "pictures": 3.0}
    with pytest.raises(InputError, match="names of m, not of other"):
        name_regions(file, namer, None, again, "true", "other", quiet)


def test_the_file_as_it_is_now_is_measured(tmp_path: Path) -> None:
    """Fewer lines, other true names and other masks do not meet names of before."""
    file, ledger = regions(tmp_path), Ledger(tmp_path / "names.jsonl")
    name_regions(file, namer, None, ledger, "true", "m", quiet)
    text = (tmp_path / "regions.jsonl").read_text().splitlines()
    (tmp_path / "regions.jsonl").write_text(text[0].replace("a cup", "a mug") + "\n")
    short = RegionFile.read(tmp_path / "regions.jsonl")
    asked = []

    def counting(image: Image, segments: Segments) -> Sequence[str | None]:
        asked.append(image.path)
        return namer(image, segments)

    name_regions(short, counting, None, ledger, "true", "m", quiet)
    pairs, about = pairs_of(short, ledger, "true")
    assert [pair.truth for pair in pairs] == ["a mug", "rod", "no"]
    assert (about["pictures"], asked) == (1.0, [])
    other = encode(np.ones((40, 56), bool))
    record = short[0]
    changed = RegionRecord("0", "0.png", (40, 56), (other, *record.rles[1:]), record.names)
    write_regions([changed], tmp_path / "regions.jsonl")
    name_regions(RegionFile.read(tmp_path / "regions.jsonl"), counting, None, ledger, "true", "m",
                 quiet)  # fmt: skip
    assert len(asked) == 1


def test_coarser_masks_overlap_less(tmp_path: Path) -> None:
    file, ledger = regions(tmp_path, 1), Ledger(tmp_path / "names.jsonl")
    found = {}
    for shape in ("ellipse", "rotated-box", "box"):

        def redraw(image: Image, true: Sequence[Any], shape: Any = shape) -> Segments:
            return Segments.from_masks([shaped(m, shape) for m in true], size=image.size)

        name_regions(file, namer, redraw, ledger, shape, "m", quiet)
        found[shape] = pairs_of(file, ledger, shape)[1]["mask_iou"]
    # A disc is its ellipse, a slanted rod nearly its turned box, and both are far from their boxes.
    assert found["ellipse"] > 0.5
    assert found["rotated-box"] > 0.5
    assert found["box"] < 0.42


@pytest.mark.parametrize("masks", ["true", "box", "rotated-box", "ellipse", "sam"])
def test_in_the_terminal(tmp_path: Path, masks: str) -> None:
    model = tmp_path / "model"
    tiny.model().save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    test_sam.tiny("sam").save_pretrained(tmp_path / "sam")
    file = regions(tmp_path, 2)
    arguments = ["measure", "naming", "--regions", str(file.path), "--model", str(model),
                 "--masks", masks, "--prompter", str(tmp_path / "sam"), "--device", "cpu",
                 "-o", str(tmp_path / "report.json"), "--worst", "1", "--gallery",
                 str(tmp_path / "worst.png")]  # fmt: skip
    result = RUN.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["metrics"]["empty_masks"] == 2
    assert report["metrics"]["instances"] == 6
    assert report["protocol"]["masks"] == masks
    gallery = np.asarray(PIL.Image.open(tmp_path / "worst.png"))
    red = (gallery[..., 0] > 200) & (gallery[..., 1:].max(-1) < 60)
    assert red.sum() > 500  # contours of what is shown
    names = (tmp_path / "regions.names.jsonl").read_bytes()
    assert RUN.invoke(app, arguments).exit_code == 0
    assert (tmp_path / "regions.names.jsonl").read_bytes() == names


def test_mistakes_are_explained(tmp_path: Path) -> None:
    file = regions(tmp_path, 1)
    for options, message in (
        ([], "in one way"),
        (["--regions", str(file.path)], "give --model"),
        (["--regions", str(file.path), "--model", "m", "--masks", "star"], "rotated-box"),
    ):
        result = RUN.invoke(app, ["measure", "naming", *options])
        assert message in str(result.exception)
    (tmp_path / "0.png").write_bytes(b"")
    model = tmp_path / "model"
    tiny.model().save_pretrained(model)
    tiny.tokenizer().save_pretrained(model)
    options = ["--regions", str(file.path), "--model", str(model), "--device", "cpu"]
    result = RUN.invoke(app, ["measure", "naming", *options])
    assert isinstance(result.exception, PartialFailure)
