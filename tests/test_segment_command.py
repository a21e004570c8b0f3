"""`anymask segment`: objects found and named in one go, by any namer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.errors import CheckpointError, InputError
from anymask.image import Image
from anymask.methods.osm.files import save_texts
from anymask.segments import Segments

sys.path.insert(0, str(Path(__file__).parent / "methods"))
import osm_tiny
import wowseg_tiny

RUN = CliRunner()


def two_halves(image: Image, **_: Any) -> Segments:
    """A discoverer: the left and the right half, and a speck."""
    masks = np.zeros((3, *image.size), bool)
    masks[0, :, : image.width // 2] = True
    masks[1, :, image.width // 2 :] = True
    masks[2, 0, 0] = True
    return Segments.from_masks(masks, scores=[0.9, 0.8, 0.7])


def test_with_functions() -> None:
    def namer(image: Image, segments: Segments) -> Segments:
        names = ["left" if box[0] == 0 else "right" for box in segments.boxes[:2]]
        return segments.with_labels([*names, None], [0.5, 0.6, 0.0], "test")

    found = anymask.segment(osm_tiny.picture(), namer=namer, discoverer=two_halves)
    assert found.labels == ("left", "right")
    assert found.label_sources == ("test", "test")
    whole = anymask.segment(
        osm_tiny.picture(), namer=namer, discoverer=two_halves, keep_unnamed=True
    )
    assert whole.labels == ("left", "right", None)
    np.testing.assert_allclose(whole.scores, [0.9, 0.8, 0.7])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("namers")
    wowseg_tiny.model().save_pretrained(folder / "wowseg")
    wowseg_tiny.tokenizer().save_pretrained(folder / "wowseg")
    import torch

    osm_tiny.model(torch.float32).save_pretrained(folder / "osm")
    save_texts(osm_tiny.texts(), folder / "osm")
    return {"wowseg": folder / "wowseg", "osm": folder / "osm", "ovsnet": Path("ovsnet-scenes")}


@pytest.mark.parametrize("kind", ["wowseg", "osm", "ovsnet"])
def test_in_the_terminal(models: dict[str, Path], tmp_path: Path, kind: str) -> None:
    PIL.Image.fromarray(osm_tiny.picture().pixels).save(tmp_path / "photo.png")
    options = ["--vocabulary", "voc-20"] if kind == "ovsnet" else []
    options += ["--vocabulary", "voc-20", "--by", "likelihood"] if kind == "osm" else []
    result = RUN.invoke(
        app,
        ["segment", str(tmp_path / "photo.png"), "--namer", str(models[kind]), "-o",
         str(tmp_path / "out"), "--min-score", "0", "--max-segments", "4", "--device", "cpu",
         "--keep-unnamed", *options],
        catch_exceptions=False,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    records = json.loads((tmp_path / "out" / "photo.json").read_text())["annotations"]
    assert records
    said = [r for r in records if r.get("label_source")]
    assert said or kind == "wowseg"  # a random language model may say nothing
    sources = {r["label_source"].split()[0] for r in said}
    assert sources <= {kind, "ovsnet-scenes", "clip"} | {"ovsnet"}
    assert (tmp_path / "out" / "photo.overlay.jpg").is_file()


def test_mistakes_are_explained(models: dict[str, Path]) -> None:
    ask: Any = {"discoverer": two_halves, "device": "cpu"}
    with pytest.raises(InputError, match="give one"):
        anymask.segment(osm_tiny.picture(), namer="ovsnet-scenes", **ask)
    with pytest.raises(InputError, match="free words"):
        anymask.segment(osm_tiny.picture(), namer="ovsnet-scenes", vocabulary=["a"], verify=True,
                        **ask)  # fmt: skip
    with pytest.raises(InputError, match="neither verifies"):
        anymask.segment(osm_tiny.picture(), namer=models["osm"], verify=True, **ask)
    with pytest.raises(CheckpointError):
        anymask.segment(osm_tiny.picture(), namer="segprompt-pocket", **ask)
