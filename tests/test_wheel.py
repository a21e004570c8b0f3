"""The wheel holds everything: installed elsewhere it works, without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from skimage import data as pictures_of_skimage

ROOT = Path(__file__).resolve().parents[1]

NO_NETWORK = """
import socket

def refuse(*_args, **_kwargs):
    raise OSError("the network is switched off for this test")

socket.socket.connect = refuse
socket.socket.connect_ex = refuse
socket.getaddrinfo = refuse
socket.create_connection = refuse
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, and a sitecustomize that blocks sockets."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(folder),
        str(ROOT),
    ]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < 40e6
    site = folder / "site"
    install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    done = subprocess.run([sys.executable, *install], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (site / "sitecustomize.py").write_text(NO_NETWORK)
    return site


def test_the_first_command_works_elsewhere_without_a_network(
    installed: Path, tmp_path: Path
) -> None:
    import PIL.Image

    PIL.Image.fromarray(pictures_of_skimage.astronaut()).save(tmp_path / "photo.jpg")
    environment = {
        **os.environ,
        "PYTHONPATH": str(installed),
        "HF_HOME": str(tmp_path / "empty"),
        "PYTHONSAFEPATH": "1",
    }
    where = subprocess.run(
        [sys.executable, "-c", "import anymask; print(anymask.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(installed))
    done = subprocess.run(
        [sys.executable, "-m", "anymask", "discover", "photo.jpg"],
        cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    content = json.loads((tmp_path / "out" / "photo.json").read_text())
    assert len(content["annotations"]) >= 1
    assert (tmp_path / "out" / "photo.overlay.jpg").is_file()


def test_the_data_files_are_there(installed: Path) -> None:
    package = installed / "anymask"
    assert (package / "py.typed").is_file()
    assert (package / "weights" / "segprompt-pocket" / "README.md").is_file()
    assert list((package / "data" / "vocabularies").glob("*.*"))
