"""The terminal from end to end, on photographs and on everything that can go wrong."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from pictures import ellipses, write_coco
from skimage import data as pictures_of_skimage

from anymask import cli
from anymask.data.coco import CocoDataset


def run(*arguments: object, expect: int = 0) -> None:
    """Call the entry point in this process."""
    before = sys.argv
    sys.argv = ["anymask", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stopped:
            cli.main()
    finally:
        sys.argv = before
    assert (stopped.value.code or 0) == expect


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep" / "er").mkdir(parents=True)
    for name, picture in (
        ("cat.jpg", pictures_of_skimage.chelsea()),
        ("deep/coffee.png", pictures_of_skimage.coffee()),
        ("deep/er/moon.jpg", pictures_of_skimage.moon()),
    ):
        PIL.Image.fromarray(picture).resize((160, 120)).save(folder / name)
    return folder


def test_a_folder_becomes_coco_overlays_and_label_maps(
    photos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run("discover", photos, "--out", out, "--model", tiny_model, "--min-score", 0)
    for name in ("cat", "deep/coffee", "deep/er/moon"):
        content = json.loads((out / f"{name}.json").read_text())
        assert content["images"][0]["width"] == 160
        assert len(content["annotations"]) > 0
        data = CocoDataset.read(out / f"{name}.json")
        segments = data.annotations_of(1)
        assert segments.size == (120, 160)
        assert PIL.Image.open(out / f"{name}.overlay.jpg").size == (160, 120)
        labels = np.asarray(PIL.Image.open(out / f"{name}.png"))
        assert labels.shape == (120, 160)
        assert labels.max() <= len(segments)
    lines = capsys.readouterr().out.splitlines()
    assert sum("segments," in line for line in lines) == 3
    assert lines[-1].startswith("3 pictures done, 0 failed")
    # A second call finds everything done; other settings do it again.
    run("discover", photos, "--out", out, "--model", tiny_model, "--min-score", 0)
    assert "3 already done" in capsys.readouterr().out
    run(
        "discover",
        photos,
        "--out",
        out,
        "--model",
        tiny_model,
        "--min-score",
        0,
        "--max-segments",
        1,
    )
    assert "already done" not in capsys.readouterr().out
    assert len(json.loads((out / "cat.json").read_text())["annotations"]) == 1


def test_one_combined_file(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(
        "discover",
        photos,
        "-o",
        out,
        "--model",
        tiny_model,
        "--min-score",
        0,
        "--format",
        "coco-dataset",
    )
    data = CocoDataset.read(out / "annotations.json")
    assert len(data) == 3
    assert data.num_annotations > 3
    assert [p.name for p in out.iterdir() if not p.name.startswith(".")] == ["annotations.json"]


def test_pictures_of_one_name_in_two_folders_stay_apart(
    photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    for place in ("a", "b"):
        (tmp_path / "in" / place).mkdir(parents=True)
        (tmp_path / "in" / place / "x.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    out = tmp_path / "out"
    call = ("discover", tmp_path / "in", "-o", out, "--model", tiny_model)
    run(*call, "--format", "coco-dataset")
    data = CocoDataset.read(out / "annotations.json")
    assert [record["file_name"] for record in data.images] == ["a/x.jpg", "b/x.jpg"]
    run(*call)
    (out / "a" / "x.png").unlink()
    run(*call)
    assert (out / "a" / "x.png").is_file()


def test_the_pictures_own_folder_is_no_place_for_results(
    photos: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("discover", photos, "-o", photos, "--model", tiny_model, expect=1)
    assert "name another one with --out" in " ".join(capsys.readouterr().err.split())


def test_tiles(photos: Path, tiny_model: Path, tmp_path: Path) -> None:
    run(
        "discover", photos / "cat.jpg", "-o", tmp_path / "t", "--model", tiny_model,
        "--min-score", 0, "--tile", 96, "--format", "coco",
    )  # fmt: skip
    assert json.loads((tmp_path / "t" / "cat.json").read_text())["annotations"]


def header_bomb(path: Path) -> None:
    """A PNG whose header promises 60000 x 60000 pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def test_bad_pictures_are_named_and_stop_nothing(
    photos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = (photos / "cat.jpg").read_bytes()
    (folder / "a_good.jpg").write_bytes(good)
    (folder / "b_empty.jpg").write_bytes(b"")
    (folder / "c_truncated.jpg").write_bytes(good[: len(good) // 3])
    (folder / "d_text.jpg").write_text("this is a letter")
    header_bomb(folder / "e_bomb.png")
    PIL.Image.new("RGB", (1, 1)).save(folder / "f_one_pixel.png")
    PIL.Image.new("L", (20000, 1)).save(folder / "g_line.png")
    out = tmp_path / "out"
    run("discover", folder, folder / "missing.jpg", "-o", out, "--model", tiny_model, expect=1)
    captured = capsys.readouterr()
    named = [line.split(":")[0].strip() for line in captured.err.splitlines()[1:]]
    assert sorted(Path(n).name for n in named) == [
        "b_empty.jpg", "c_truncated.jpg", "d_text.jpg", "e_bomb.png", "missing.jpg",
    ]  # fmt: skip
    assert "3 pictures done, 5 failed" in captured.out
    assert {p.name for p in out.glob("*.json")} == {
        "a_good.json",
        "f_one_pixel.json",
        "g_line.json",
    }
    leftovers = [p for p in out.rglob("*") if p.is_file() and "tmp" in p.name.lower()]
    assert leftovers == []


def test_equal_names_do_not_overwrite_each_other(
    photos: Path, tiny_model: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "twins"
    folder.mkdir()
    for name in ("x.jpg", "x.png"):
        PIL.Image.open(photos / "cat.jpg").save(folder / name)
    run("discover", folder, "-o", tmp_path / "out", "--model", tiny_model, "--format", "coco")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"x.jpg.json", "x.png.json"}


def test_results_inside_the_folder_are_not_read_again(
    photos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    for _ in range(2):
        run("discover", folder, "-o", folder / "out", "--model", tiny_model)
    assert "0 pictures done, 1 already done" in capsys.readouterr().out


def test_a_picture_is_never_overwritten_by_its_label_map(tiny_model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    PIL.Image.fromarray(ellipses(0)[0]).save(picture)
    before = picture.read_bytes()
    run("discover", picture, "-o", tmp_path, "--model", tiny_model, expect=1)
    assert picture.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("discover", "nowhere"), "nowhere"),
        (("discover", ".", "--model", "segprompt-poket"), "did you mean segprompt-pocket"),
        (("discover", ".", "--format", "jpeg"), "unknown format jpeg"),
        (("discover", ".", "--tile", "big"), "--tile is 'big'"),
        (("discover", ".", "--device", "cuda:77", "--model", "TINY"), "no device"),
        (("evaluate", "felzenszwalb", "--truth", "none.json"), "none.json"),
        (("train", "everything", "--data", ".", "--out", "x"), "no recipe"),
        (("train", "discover", "--data", "none.json", "--out", "x", "--init", "TINY"), "none.json"),
    ],
)
def test_wrong_calls_get_one_line_that_helps(
    arguments: tuple[str, ...],
    message: str,
    photos: Path,
    tiny_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.jpg").write_bytes((photos / "cat.jpg").read_bytes())
    filled = [str(tiny_model) if a == "TINY" else a for a in arguments]
    run(*filled, expect=1)
    captured = capsys.readouterr()
    said = " ".join((captured.err + captured.out).split())
    assert message in said
    assert "Traceback" not in said


def test_an_empty_folder_says_what_it_looked_for(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("no picture")
    run("discover", tmp_path, "-o", tmp_path / "out", "--model", tiny_model, expect=1)
    assert "no pictures in" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="file permissions and signals of POSIX")
def test_a_full_disk_leaves_nothing_half_written(
    photos: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        run("discover", photos / "cat.jpg", "-o", out, "--model", tiny_model, expect=1)
    assert "No space left on device" in capsys.readouterr().err
    assert [p for p in out.rglob("*") if p.is_file()] == []
    run("discover", photos / "cat.jpg", "-o", out, "--model", tiny_model)
    assert (out / "cat.json").is_file()


def test_an_output_that_is_a_file_is_a_clear_error(
    photos: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("mine")
    run("discover", photos / "cat.jpg", "-o", tmp_path / "out", "--model", tiny_model, expect=1)
    assert "out" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_runs_resume(tiny_model: Path, tmp_path: Path, how: signal.Signals) -> None:
    folder, out = tmp_path / "many", tmp_path / "out"
    folder.mkdir()
    for number in range(60):
        PIL.Image.fromarray(ellipses(number, 120, 160)[0]).save(folder / f"{number:03}.png")
    command = [
        sys.executable,
        "-m",
        "anymask",
        "discover",
        str(folder),
        "-o",
        str(out),
        "--model",
        str(tiny_model),
    ]
    # In the background of a script a process begins with interrupts ignored.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(600):
        if len(list(out.glob("*.json"))) >= 2:
            break
        time.sleep(0.1)
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -signal.SIGKILL)
    finished = sorted(out.glob("*.json"))
    assert 2 <= len(finished) < 60
    for file in finished:
        json.loads(file.read_text())
        assert PIL.Image.open(file.with_suffix(".overlay.jpg")).size == (160, 120)
    stamps = {file: file.stat().st_mtime_ns for file in finished}
    for extra in list(folder.glob("0[1-5]?.png")):
        extra.unlink()
    run("discover", folder, "-o", out, "--model", tiny_model)
    assert {p.stem for p in out.glob("*.json")} >= {f"{n:03}" for n in range(10)}
    assert all(file.stat().st_mtime_ns == stamp for file, stamp in stamps.items())


def test_evaluate_and_fine_tune(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = write_coco(tmp_path / "data", count=4)
    report = tmp_path / "report.json"
    run("evaluate", tiny_model, "--truth", truth, "--out", report)
    assert "AR@100" in capsys.readouterr().out
    before = json.loads(report.read_text())["metrics"]["AR@100"]
    assert 0 <= before < 1
    run("evaluate", "felzenszwalb", "--truth", truth)
    out = tmp_path / "mine"
    run(
        "train", "discover", "--data", truth, "--init", tiny_model, "--out", out,
        "--samples", 16, "--batch-size", 4, "--size", 64, "--device", "cpu",
    )  # fmt: skip
    run("evaluate", out, "--truth", truth, "--only", "id=1")
    assert "images = 1" in capsys.readouterr().out


def test_models_and_doctor_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    run("models")
    listed = capsys.readouterr().out
    assert "segprompt-pocket" in listed
    assert "research use" in listed
    run("doctor")
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["segprompt-pocket"] == "ok"
    run("--version")


def test_help_is_quick_and_loads_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['anymask', '--help']\n"
        "from anymask.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("False")
