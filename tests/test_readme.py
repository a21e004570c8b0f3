"""Everything the README shows works."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import PIL.Image
import pytest
from pictures import write_coco
from skimage import data as pictures_of_skimage

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
    return [body for name, body in found if name == language]


def lines() -> list[str]:
    return [line for block in blocks("bash") for line in block.splitlines() if line.strip()]


def workplace(folder: Path) -> None:
    """The files the README speaks of."""
    (folder / "photos").mkdir()
    cat, coffee = pictures_of_skimage.chelsea(), pictures_of_skimage.coffee()
    PIL.Image.fromarray(cat).save(folder / "photo.jpg")
    PIL.Image.fromarray(coffee).resize((2100, 1400)).save(folder / "huge.jpg")
    truth = write_coco(folder / "photos", count=3)
    rows = json.loads(truth.read_text())["annotations"]
    (folder / "results.json").write_text(json.dumps([{**row, "score": 0.5} for row in rows]))
    truth.rename(folder / "truth.json")


def test_the_installation_is_the_one_the_full_check_uses() -> None:
    check = (ROOT / ".ci" / "run").read_text()
    for line in lines():
        for command in line.split("&&"):
            if command.strip().startswith("pip install"):
                wanted = command.strip().removeprefix("pip install ")
                assert wanted in check, f"{command.strip()!r} is not in .ci/run"


@pytest.mark.parametrize(
    "block", [block for block in blocks("bash") if "anymask " in block], ids=str.strip
)
def test_commands(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of a block are run one after the other: later ones may need earlier ones."""
    from anymask import cli

    workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        arguments = shlex.split(line)
        if arguments[0] != "anymask":
            continue
        if arguments[1] == "scenes":  # the same, fewer
            arguments[arguments.index("--count") + 1] = "6"
        if arguments[1] == "train":
            arguments += ["--samples", "2", "--batch-size", "1", "--size", "64", "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        assert (stopped.value.code or 0) == 0, line
        if line == "anymask discover photo.jpg":
            names = {p.name for p in (tmp_path / "out").iterdir()}
            assert names == {"photo.json", "photo.png", "photo.overlay.jpg"}


def test_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workplace(tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks("python"):
        exec(block, {})
    assert (tmp_path / "overlay.png").is_file()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_tree_is_the_real_one() -> None:
    tree = next(block for block in blocks("") if "verbs.py" in block)
    for line in tree.splitlines():
        name = line.split()[0]
        place = ROOT / "src" / "anymask" / name if line.startswith("  ") else ROOT / name
        assert place.exists(), name
