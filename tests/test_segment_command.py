"""`anymask segment`: objects found and named in one go, by any namer."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import osm_tiny
import PIL.Image
import pytest
import wowseg_tiny
from fake_vision_server import FakeServer
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.errors import CheckpointError, InputError, SegmentsError
from anymask.image import Image
from anymask.methods.osm.files import save_texts
from anymask.methods.set_of_mark import SetOfMarkNamer
from anymask.segments import Segments
from anymask.vision_server import VisionServer

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


def test_any_namer_speaks_the_words_of_a_vocabulary() -> None:
    def namer(image: Image, segments: Segments) -> Segments:
        return segments.with_labels(["Car", "frob", None], [0.5, 0.6, 0.0], "test")

    ask: Any = {"namer": namer, "discoverer": two_halves, "vocabulary": ["car", "tree"]}
    found = anymask.segment(osm_tiny.picture(), by="word", **ask)
    assert found.labels == ("car",)
    for wrong, message in (
        ({"by": "likelihood"}, "belongs to OSM"),
        ({"by": "nonsense"}, "use one of"),
        ({"task": "nonsense"}, "use one of"),
        ({"mode": "coco"}, "no mode"),
        ({"verify": True}, "only a WOW-Seg"),
        ({"by": "word", "vocabulary": None}, "needs a vocabulary"),
    ):
        options: Any = {**ask, **wrong}
        with pytest.raises(InputError, match=message):
            anymask.segment(osm_tiny.picture(), **options)

    def broken(image: Image, segments: Segments) -> Any:
        return None

    with pytest.raises(InputError, match="instead of Segments"):
        anymask.segment(osm_tiny.picture(), namer=broken, discoverer=two_halves)


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
    with pytest.raises(InputError, match="only a WOW-Seg verifies"):
        anymask.segment(osm_tiny.picture(), namer=models["osm"], verify=True, **ask)
    with pytest.raises(CheckpointError):
        anymask.segment(osm_tiny.picture(), namer="segprompt-pocket", **ask)


def test_a_server_is_shown_numbers(tmp_path: Path) -> None:
    """The server reads the numbers' places off the picture: it answers by the colour under them."""
    pixels = np.full((120, 180, 3), 128, np.uint8)
    colors = {(40, 40, 220): "A Blue Cup", (30, 200, 40): "leaf.", (230, 220, 30): "lemon"}
    masks = np.zeros((4, 120, 180), bool)
    for k, color in enumerate(colors):
        masks[k, 20:100, 5 + 58 * k : 55 + 58 * k] = True
        pixels[masks[k]] = color
    image = Image(pixels)
    seen: list[tuple[str, np.ndarray]] = []

    class Reading(FakeServer):
        @staticmethod
        def answer(picture: bytes, text: str) -> str:
            shown = np.asarray(PIL.Image.open(io.BytesIO(picture)).convert("RGB"))
            seen.append((text, shown))
            return "Here:\n1: A Blue Cup\n**2** - leaf.\n2: again\n9: nothing"

    with Reading() as server:
        namer = SetOfMarkNamer(VisionServer(server.url, "m"))
        found = namer(image, Segments.from_masks(masks))
    assert found.labels == ("a blue cup", "leaf", None, None)
    assert found.label_sources[:3] == ("set-of-mark", "set-of-mark", None)
    assert "from 1 to 3" in seen[0][0]
    shown = seen[0][1]
    for k in range(3):
        middle = shown[50:70, 20 + 58 * k : 40 + 58 * k].astype(int)
        assert (middle.max(-1) < 60).any()  # a black label in the middle of each
        assert (middle.min(-1) > 200).any()  # with a white number
    PIL.Image.fromarray(pixels).save(tmp_path / "photo.png")
    with Reading() as server:
        arguments = ["segment", str(tmp_path / "photo.png"), "--namer", server.url, "-o",
                     str(tmp_path / "out"), "--min-score", "0", "--max-segments", "2"]  # fmt: skip
        assert "--server-model" in str(RUN.invoke(app, arguments).exception)
        done = RUN.invoke(app, [*arguments, "--server-model", "m"], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    records = json.loads((tmp_path / "out" / "photo.json").read_text())["annotations"]
    assert {r["label_source"] for r in records} == {"set-of-mark"}
    alone = RUN.invoke(app, ["segment", "x.png", "--namer", "m", "--server-model", "m"])
    assert alone.exit_code != 0


def test_more_masks_than_marks() -> None:
    asked = []

    class Counting(FakeServer):
        @staticmethod
        def answer(picture: bytes, text: str) -> str:
            count = int(text.split("from 1 to ")[1].split(".")[0])
            asked.append(count)
            return "\n".join(f"{k}. thing {k}" for k in range(1, count + 1))

    masks = np.zeros((30, 60, 90), bool)
    for k in range(30):
        masks[k, 2 * k : 2 * k + 2] = True
    with Counting() as server:
        namer = SetOfMarkNamer(VisionServer(server.url, "m"))
        found = namer(Image(np.zeros((60, 90, 3), np.uint8)), Segments.from_masks(masks))
    assert asked == [24, 6]
    assert found.labels[0] == found.labels[24] == "thing 1"
    with pytest.raises(SegmentsError, match="masks belong"):
        namer(Image(np.zeros((6, 9, 3), np.uint8)), Segments.from_masks(masks))


def test_maps_in_the_terminal(tmp_path: Path, models: dict[str, Path]) -> None:
    """Proposals of a file, named by an OVSNet, as a semantic map that can be measured."""
    PIL.Image.fromarray(osm_tiny.picture().pixels).save(tmp_path / "photo.png")
    ids = np.zeros((*osm_tiny.picture().size, 3), np.uint8)
    ids[:, :20, 0], ids[:, 20:, 0] = 1, 2
    (tmp_path / "maps").mkdir()
    PIL.Image.fromarray(ids).save(tmp_path / "maps" / "photo.png")
    for task in ("panoptic", "semantic"):
        result = RUN.invoke(
            app,
            ["segment", str(tmp_path / "photo.png"), "--namer", "ovsnet-scenes", "--vocabulary",
             "voc-20", "--masks", str(tmp_path / "maps"), "--task", task, "-o",
             str(tmp_path / task), "--device", "cpu"],
            catch_exceptions=False,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        found = json.loads((tmp_path / task / "photo.json").read_text())["annotations"]
        assert 1 <= len(found) <= 2
        assert sum(r["area"] for r in found) <= ids.shape[0] * ids.shape[1]
    with pytest.raises(InputError, match="panoptic"):
        anymask.segment(
            osm_tiny.picture(), namer=lambda _, s: s, discoverer=two_halves, task="all"  # type: ignore[arg-type]
        )  # fmt: skip


def test_exact_words_and_the_ensemble(models: dict[str, Path]) -> None:
    import torch

    from anymask.methods.osm.ensemble import geometric
    from anymask.methods.osm.inference import OSMNamer
    from anymask.methods.wowseg.vocabulary_mapping import to_own_words
    from anymask.vocabulary import Vocabulary

    words = Vocabulary.from_names([["bus", "coach"], ["leaf"], ["cup"]])
    image = osm_tiny.picture()
    given = two_halves(image).with_labels(["Leaves", "a cup", "coaches"], [0.5, 0.6, 0.7], "m")
    exact = to_own_words(given, words)
    assert exact.labels == ("leaf", None, "bus")
    np.testing.assert_allclose(exact.label_scores[[0, 2]], [0.5, 0.7])

    own = np.array([[0.7, 0.2, 0.1], [np.nan] * 3], np.float32)
    other = np.array([[0.1, 0.1, 0.8], [0.2, 0.3, 0.5]], np.float32)
    trained = np.array([True, False, True])
    found = geometric(own, other, trained)
    share = np.array([0.4, 0.8, 0.4])
    wanted = own[0] ** (1 - share) * other[0] ** share
    np.testing.assert_allclose(found[0], wanted / wanted.sum(), rtol=1e-5)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(geometric(own, other, trained, 0, 0)[0], own[0], rtol=1e-5)

    namer = OSMNamer(osm_tiny.model(torch.float32), osm_tiny.texts(), "cpu")
    halves = two_halves(image)[:2]
    alone = anymask.name(image, halves, model=namer, vocabulary=words, by="likelihood")
    sure = np.tile(np.array([[0, 0, 1]], np.float32), (2, 1))

    class Matcher:
        shares = staticmethod(lambda *_: sure)

    both = anymask.name(image, halves, model=namer, vocabulary=words, by="likelihood",
                        ensemble=Matcher())  # fmt: skip
    assert both.labels == ("cup", "cup")
    assert alone.labels != both.labels or (both.label_scores > alone.label_scores).all()
    real = anymask.name(image, halves, model=namer, vocabulary=words, by="likelihood",
                        ensemble="ovsnet-scenes", trained=["cup"], device="cpu")  # fmt: skip
    assert np.isfinite(real.label_scores).all()
    with pytest.raises(InputError, match="likelihood"):
        anymask.name(image, halves, model=namer, vocabulary=words, ensemble="ovsnet-scenes")
