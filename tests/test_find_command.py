"""`anymask find` and the models it takes, from the terminal."""

from __future__ import annotations

import json
from pathlib import Path

import openworldsam_tiny as tiny
import PIL.Image
import pytest
import torch
from typer.testing import CliRunner

import anymask
from anymask.checkpoints import TABLE
from anymask.cli.app import app
from anymask.cli.find import told_apart
from anymask.errors import CheckpointError, InputError
from anymask.loading import load_discoverer, load_finder
from anymask.methods.sam2 import AutomaticMasks, Sam2Prompter

RUN = CliRunner()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(2):
        PIL.Image.fromarray(tiny.picture(k).pixels).save(folder / f"{k}.png")
    return folder


def find(*arguments: str | Path) -> tuple[int, str]:
    done = RUN.invoke(app, ["find", *map(str, arguments), "--device", "cpu"])
    return done.exit_code, f"{done.output}{done.exception or ''}"


def labels_of(path: Path) -> set[str]:
    content = json.loads(path.read_text())
    names = {row["id"]: row["name"] for row in content["categories"]}
    return {names[row["category_id"]] for row in content["annotations"]}


def test_phrases_about_a_folder(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("the dog left of the cup\n\n")
    out = tmp_path / "out"
    arguments = (photos, "red cup", "blue ball", "--phrases", tmp_path / "more.txt",
                 "--model", model, "--out", out)  # fmt: skip
    code, text = find(*arguments)
    assert code == 0, text
    assert "2 pictures done" in text
    assert labels_of(out / "0.json") == {"red cup", "blue ball", "the dog left of the cup"}
    assert (out / "0.overlay.jpg").is_file()
    assert "2 already done" in find(*arguments)[1]
    # Another question is another result.
    assert "already done" not in find(photos, "dog", "--model", model, "--out", out)[1]


@pytest.mark.parametrize("task", ["referring", "semantic", "panoptic"])
def test_tasks(photos: Path, model: Path, tmp_path: Path, task: str) -> None:
    code, text = find(photos / "0.png", "dog", "--task", task, "--model", model,
                      "--out", tmp_path / "o")  # fmt: skip
    assert code == 0, text
    assert labels_of(tmp_path / "o" / "0.json") <= {"dog"}


def test_clicks_and_boxes(photos: Path, model: Path, tmp_path: Path) -> None:
    picture = photos / "0.png"
    for name, arguments in (
        ("a", ("--point", "10,10", "--point", "20,12", "--not-point", "50,40")),
        ("b", ("--box", "5,5,30,40", "--box", "20,20,55,45")),
        ("c", ("--point", "10,10", "--box", "5,5,30,40")),
    ):
        code, text = find(picture, *arguments, "--model", model, "--out", tmp_path / name)
        assert code == 0, text
        found = json.loads((tmp_path / name / "0.json").read_text())["annotations"]
        assert len(found) == (2 if name == "b" else 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("PHOTO",), "nothing to look for"),
        (("red cup",), "name a picture"),
        (("missing.jpg", "red cup"), "no picture missing.jpg"),
        (("PHOTO", "red cup", "--point", "1,1"), "one at a time"),
        (("PHOTO", "--point", "1;1"), "give X,Y"),
        (("PHOTO", "--box", "1,2,3"), "give X1,Y1,X2,Y2"),
        (("PHOTO", "--point", "1,1", "--box", "1,1,2,2", "--box", "1,1,3,3"), "one thing"),
        (("PHOTO", "red cup", "--phrases", "none.txt"), "cannot be read"),
        (("PHOTO", "--like", "x.json"), "takes no examples"),
    ],
)
def test_mistakes_are_explained(
    photos: Path, model: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = [str(photos / "0.png") if a == "PHOTO" else a for a in arguments]
    code, text = find(*given, "--model", model)
    assert code != 0
    assert message in text


def test_what_exists_is_a_picture_and_the_rest_are_phrases(photos: Path) -> None:
    paths, phrases = told_apart([str(photos), "red cup", str(photos / "1.png"), "a.b"])
    assert paths == [photos, photos / "1.png"]
    assert phrases == ["red cup", "a.b"]
    with pytest.raises(InputError, match="no picture"):
        told_apart(["oops.JPG"])


def test_a_saved_sam2_is_found_and_discovers(photos: Path, tmp_path: Path) -> None:
    tiny.sam2().model.save_pretrained(tmp_path / "sam2")
    assert isinstance(load_finder(tmp_path / "sam2", "cpu"), Sam2Prompter)
    assert isinstance(load_discoverer(tmp_path / "sam2", "cpu"), AutomaticMasks)
    # Published folders say that they are video models; their picture parts are complete.
    config = json.loads((tmp_path / "sam2" / "config.json").read_text())
    (tmp_path / "sam2" / "config.json").write_text(
        json.dumps({**config, "model_type": "sam2_video"})
    )
    load_finder.cache_clear()
    assert isinstance(load_finder(tmp_path / "sam2", "cpu"), Sam2Prompter)
    with pytest.raises(CheckpointError, match="does not understand phrases"):
        anymask.find(photos / "0.png", "dog", model=tmp_path / "sam2")
    (tmp_path / "sam2" / "model.safetensors").write_bytes(b"broken")
    load_finder.cache_clear()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_finder(tmp_path / "sam2", "cpu")


def test_released_files(tmp_path: Path, photos: Path) -> None:
    """A file that is no known checkpoint says what it is not."""
    torch.save({"model": {"x": torch.zeros(2)}}, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="no OpenWorldSAM"):
        anymask.find(photos / "0.png", "dog", model=tmp_path / "x.pth")
    (tmp_path / "x.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot read"):
        anymask.discover(photos / "0.png", model=tmp_path / "x.pt")


def test_the_table_names_the_published_models() -> None:
    rows = {row.name: row for row in TABLE}
    assert rows["sam2.1-hiera-large"].source == "hub:facebook/sam2.1-hiera-large"
    assert rows["sam2-hiera-base-plus"].licence == "Apache-2.0"
