"""Building a data set of named regions, from end to end, against servers good and bad."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from fake_vision_server import COLORS, FakeServer
from typer.testing import CliRunner

from anymask.benchmarks.ledger import Ledger
from anymask.benchmarks.rr7k import stages
from anymask.benchmarks.rr7k.candidates import read_candidates
from anymask.benchmarks.rr7k.hierarchy import COARSE
from anymask.benchmarks.rr7k.review import Review, serve
from anymask.cli.app import app
from anymask.data.regions import RegionFile
from anymask.errors import DataError, InputError, PartialFailure, ServerError
from anymask.image import Image
from anymask.ops.rle import encode, to_coco_str
from anymask.vision_server import VisionServer

RUN = CliRunner()
NAMES = ("blue cup", "leaf", "lemon")


def sa1b(folder: Path, pictures: int = 6) -> Path:
    """Pictures with a blue, a green and a yellow square, and a speck, as SA-1B lays them out."""
    folder.mkdir(exist_ok=True)
    for k in range(pictures):
        pixels = np.full((60, 90, 3), 128, np.uint8)
        annotations = []
        for m, color in enumerate(COLORS):
            mask = np.zeros((60, 90), bool)
            mask[8 + k : 38 + k, 2 + 29 * m : 27 + 29 * m] = True
            pixels[mask] = color
            annotations.append({"id": 10 * k + m, "segmentation": to_coco_str(encode(mask))})
        speck = np.zeros((60, 90), bool)
        speck[0, 0] = True
        annotations.append({"id": 10 * k + 9, "segmentation": to_coco_str(encode(speck))})
        PIL.Image.fromarray(pixels).save(folder / f"sa_{k}.jpg", quality=95)
        about = {"image_id": k, "height": 60, "width": 90, "file_name": f"sa_{k}.jpg"}
        (folder / f"sa_{k}.json").write_text(
            json.dumps({"image": about, "annotations": annotations})
        )
    return folder


def build(source: Path, out: Path, url: str, *more: str) -> Any:
    return RUN.invoke(
        app,
        ["benchmark", "rr7k", "build", str(source), "-o", str(out), "--server", url,
         "--model", "m", "--verify-server", url, "--verify-model", "v", "--head-min", "4",
         "--timeout", "5", "--min-share", "0.01", *more],
    )  # fmt: skip


def ledger_names(out: Path) -> Counter[str]:
    return Counter(row["name"] for row in Ledger(out / "pairs.jsonl").stage("name").values())


# --------------------------------------------------------------------------------- end to end


def test_named_verified_reviewed_and_exported(tmp_path: Path) -> None:
    source, out = sa1b(tmp_path / "sa"), tmp_path / "out"
    with FakeServer() as server:
        result = build(source, out, server.url)
        assert result.exit_code == 0, result.output
        assert server.number == 18 + 18  # specks are not asked about
        assert ledger_names(out) == dict.fromkeys(NAMES, 6)
        again = build(source, out, server.url)
        assert "0 of them to be named" in again.output
        assert server.number == 36
    verified = Ledger(out / "pairs.jsonl").stage("verify")
    assert {row["verdict"] for row in verified.values()} == {"yes"}
    # People: one deletes, one renames in a table.
    run = ["benchmark", "rr7k", "review", str(out)]
    assert RUN.invoke(app, [*run, "--write", str(tmp_path / "t.csv")]).exit_code == 0
    rows = (tmp_path / "t.csv").read_text().splitlines()
    assert rows[0] == "region,picture,name,verifier,verdict,new_name"
    assert len(rows) == 19
    edited = [
        row.replace(",yes,,", ",yes,delete,") if row.startswith("sa_0/0,")
        else row.replace(",yes,,", ",yes,rename,The Mug") if row.startswith("sa_1/0,")
        else row.replace(",yes,,", ",yes,keep,") if row.startswith("sa_2/0,") else row
        for row in rows
    ]  # fmt: skip
    (tmp_path / "t.csv").write_text("\n".join(edited))
    said = RUN.invoke(app, [*run, "--read", str(tmp_path / "t.csv"), "--reviewer", "me"])
    assert "3 new verdicts" in said.output
    assert "0 new" in RUN.invoke(app, [*run, "--read", str(tmp_path / "t.csv")]).output
    exported = RUN.invoke(app, ["benchmark", "rr7k", "export", str(out)], catch_exceptions=False)
    assert exported.exit_code == 0, exported.output
    file = RegionFile.read(out / "regions.jsonl", source)
    found = Counter(name for record in file for name in record.names)
    assert found == {"blue cup": 4, "mug": 1, "leaf": 6, "lemon": 6}
    assert file.read_image(0).size == (60, 90)
    statistics = json.loads((out / "statistics.json").read_text())
    assert statistics["review"] == {"delete": 1, "keep": 1, "rename": 1}
    assert statistics["not reviewed"] == 15
    assert statistics["head"] == {"from": 4, "categories": 3, "regions": 16}
    assert statistics["share_of_picture"]["0.1..0.3"] == 17
    assert sum(sum(seconds.values()) for seconds in statistics["coarse"].values()) == 17
    assert statistics["coarse"]["food and beverages"]["fruits"] == 6
    card = (out / "README.md").read_text()
    assert "17 regions of 4 categories in 6 pictures" in card
    assert "m at http" in card
    for picture in ("long_tail.png", "coarse.png"):
        assert PIL.Image.open(out / picture).size[0] > 800
    # The same ledger gives the same files; people may correct the coarse classes.
    before = (out / "regions.jsonl").read_bytes()
    coarse = json.loads((out / "coarse.json").read_text())
    coarse["mug"] = ["humans", "humans"]
    (out / "coarse.json").write_text(json.dumps(coarse))
    RUN.invoke(app, ["benchmark", "rr7k", "export", str(out)], catch_exceptions=False)
    assert (out / "regions.jsonl").read_bytes() == before
    assert json.loads((out / "statistics.json").read_text())["coarse"]["humans"]["humans"] == 1
    only = RUN.invoke(app, ["benchmark", "rr7k", "export", str(out), "--reviewed-only"])
    assert "2 regions, 2 categories" in only.output


def test_five_kills_ask_nothing_twice_that_was_answered(tmp_path: Path) -> None:
    source, out = sa1b(tmp_path / "sa", 12), tmp_path / "out"
    threads, kills = 3, 5
    with FakeServer(lambda number: 0.05) as server:
        command = [
            sys.executable, "-m", "anymask", "benchmark", "rr7k", "build", str(source), "-o",
            str(out), "--server", server.url, "--model", "m", "--min-share", "0.01", "--threads",
            str(threads),
        ]  # fmt: skip
        for kill in range(kills):
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
            until = time.monotonic() + 60
            while sum(server.answered.values()) < 5 * (kill + 1) and time.monotonic() < until:
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        recorded = len(Ledger(out / "pairs.jsonl").stage("name"))
        assert 5 * kills - threads * kills <= recorded < 36
        # What the dead process had sent may still arrive; then the rest is asked exactly once.
        asked_before = -1
        while asked_before != sum(server.asked.values()):
            asked_before = sum(server.asked.values())
            time.sleep(0.5)
        assert asked_before <= recorded + threads * kills
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert sum(server.asked.values()) <= 36 + threads * kills
        assert sum(server.asked.values()) - asked_before <= 36 - recorded
    names = Counter(row["name"] for row in Ledger(out / "pairs.jsonl").stage("name").values())
    assert names == dict.fromkeys(NAMES, 12)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (500, "status 500"),
        (b"{}", "no answer of a chat model"),
        (b"not json at all", "no answer of a chat model"),
        (json.dumps({"choices": [{"message": {"content": 7}}]}).encode(), "no text"),
        (b"x" * (1 << 20) + b"xx", "does not end"),
        ("drip", "took too long"),
        (1.5, "took too long"),
    ],
    ids=["error", "lie", "garbage", "number", "endless", "drip", "stall"],
)
def test_a_bad_server_costs_time_only(tmp_path: Path, how: Any, message: str) -> None:
    """Each of its failures is tried again; when the server recovers, so does the run."""
    source, out = sa1b(tmp_path / "sa", 1), tmp_path / "out"
    with FakeServer(lambda number: how if number % 2 else None) as server:
        options = ["--timeout", "0.5", "--threads", "1"]
        result = build(source, out, server.url, *options)
        assert result.exit_code == 0, result.output
        assert ledger_names(out) == dict.fromkeys(NAMES, 1)
    # Alone, it says what was wrong.
    vision = VisionServer("http://127.0.0.1:9/v1", "m", timeout=0.3, tries=1)
    with FakeServer(lambda number: how) as server:
        vision.url = server.url
        began = time.monotonic()
        with pytest.raises(ServerError, match=message):
            vision.ask(Image(np.zeros((8, 8, 3), np.uint8)), "What?")
        assert time.monotonic() - began < 3


def test_a_dead_server_stops_the_run_and_keeps_what_is_there(tmp_path: Path) -> None:
    source, out = sa1b(tmp_path / "sa"), tmp_path / "out"
    with FakeServer(lambda number: None if number <= 4 else 503) as server:
        options = ["--tries", "1", "--threads", "1"]
        result = build(source, out, server.url, *options)
        assert isinstance(result.exception, ServerError)
        assert "4 of 18 are answered and kept" in str(result.exception)
        assert server.number == 4 + stages.PATIENCE
    gone = build(source, out, server.url, *options)  # nobody listens any more
    assert isinstance(gone.exception, ServerError)
    with FakeServer() as server:
        assert build(source, out, server.url).exit_code == 0
        assert server.number == 14 + 18
    assert ledger_names(out) == dict.fromkeys(NAMES, 6)


def test_a_request_that_is_wrong_is_not_repeated(tmp_path: Path) -> None:
    source, out = sa1b(tmp_path / "sa", 1), tmp_path / "out"
    with FakeServer(lambda number: 400 if number == 2 else None) as server:
        result = build(source, out, server.url, "--threads", "1")
        assert isinstance(result.exception, PartialFailure)
        assert "status 400" in str(result.exception)
        assert server.number == 3  # a head needs four regions: nothing to verify
        assert build(source, out, server.url).exit_code == 0
        assert server.number == 4


def test_a_broken_picture_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    source, out = sa1b(tmp_path / "sa", 3), tmp_path / "out"
    (source / "sa_1.jpg").write_bytes(b"no picture")
    with FakeServer() as server:
        result = build(source, out, server.url)
    assert isinstance(result.exception, PartialFailure)
    assert "sa_1" in str(result.exception)
    assert ledger_names(out) == dict.fromkeys(NAMES, 2)


def test_the_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with FakeServer() as server:
        vision = VisionServer(server.url, "m")
        vision.ask(Image(np.full((8, 8, 3), (40, 40, 220), np.uint8)), "What?")
        assert server.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(vision) + vision.identity


# ---------------------------------------------------------------------------------- the parts


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("A Blue-Cup.", "blue cup"),
        ("the dining_table", "dining table"),
        ("'Lemon'", "lemon"),
        ("I'm sorry, I cannot see it", ""),
        ("unclear", ""),
        ("it is a very long answer", ""),
        ("one two three four five six seven", ""),
        ("", ""),
        ("none", ""),
        ("!?", ""),
        ("nonesuch", "nonesuch"),
        ("a", "a"),
        ("iguana", "iguana"),
    ],
)
def test_answers_become_names(answer: str, name: str) -> None:
    assert stages.name_of(answer) == name


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [("Yes.", "yes"), ("No, it is a yes-man", "no"), ("I know", "unknown"), ("", "unknown"),
     ("Well, YES", "yes")],
)  # fmt: skip
def test_verdicts(answer: str, verdict: str) -> None:
    assert stages.verdict_of(answer) == verdict


def test_only_frequent_names_are_verified(tmp_path: Path) -> None:
    candidates = read_candidates(sa1b(tmp_path / "sa", 2), min_share=0.01)
    ledger = Ledger(tmp_path / "pairs.jsonl")
    for one, name in zip(candidates, ["a", "a", "b", "a", "b", ""], strict=True):
        ledger.add(one.key, "name", {"name": name})
    pairs = stages.unverified(candidates, ledger, 3)
    assert [(one.key, name) for one, name in pairs] == [
        ("sa_0/0", "a"), ("sa_0/1", "a"), ("sa_1/0", "a"),
    ]  # fmt: skip
    ledger.add("sa_0/0", "verify", {"name": "a", "verdict": "no"})
    review = Review(candidates, ledger)
    review.say("sa_0/1", "keep")
    assert [one.key for one, _ in stages.unverified(candidates, ledger, 3)] == ["sa_1/0"]
    review.say("sa_0/1", "undo")
    assert len(stages.unverified(candidates, ledger, 3)) == 2
    assert "sa_0/0" not in review.shown()  # the verifier said no


def test_a_ledger_survives_a_cut_line_and_refuses_a_damaged_one(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    ledger = Ledger(path)
    ledger.add("a/0", "name", {"name": "x"})
    ledger.add("a/0", "name", {"name": "y"})
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"region": "a/1", "st')
    again = Ledger(path)
    assert path.read_bytes() == whole
    assert again.stage("name")["a/0"]["name"] == "y"
    again.add("b/0", "name", {"name": "z"})
    assert set(Ledger(path).stage("name")) == {"a/0", "b/0"}
    path.write_bytes(b"rubbish\n" + whole)
    with pytest.raises(DataError, match=r"pairs\.jsonl:1"):
        Ledger(path)


def test_candidates_of_every_source(tmp_path: Path) -> None:
    source = sa1b(tmp_path / "sa", 2)
    from_sa = read_candidates(source, min_share=0.01)
    assert [one.key for one in from_sa] == [f"sa_{k}/{m}" for k in (0, 1) for m in (0, 1, 2)]
    assert from_sa[0].share == pytest.approx(30 * 25 / (60 * 90))
    assert len(read_candidates(source)) == 6  # one pixel of 5400 is too small by default
    assert len(read_candidates(source, min_share=0.0)) == 8
    with pytest.raises(DataError, match="--min-share"):
        read_candidates(source, min_share=0.9)
    rle = to_coco_str(from_sa[0].rle)
    coco = {
        "images": [{"id": 3, "height": 60, "width": 90, "file_name": "sa_0.jpg"}],
        "annotations": [
            {"id": k, "image_id": 3, "category_id": 1, "segmentation": rle} for k in (1, 2)
        ],
        "categories": [{"id": 1, "name": "object"}],
    }
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(coco))
    assert [one.key for one in read_candidates(path, source)] == ["3/0", "3/1"]
    assert [one.key for one in read_candidates(path, source, duplicates=0.9)] == ["3/0"]
    (source / "sa_9.json").write_text("{}")
    with pytest.raises(DataError, match=r"sa_9\.json"):
        read_candidates(source)


def test_another_choice_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    source, out = sa1b(tmp_path / "sa", 1), tmp_path / "out"
    dry = build(source, out, "http://127.0.0.1:9/v1", "--dry-run")
    assert "3 questions" in dry.output
    assert not (out / "settings.json").exists()
    with FakeServer() as server:
        assert build(source, out, server.url).exit_code == 0
        other = build(source, out, server.url, "--max-share", "0.5")
    assert "another max_share" in str(other.exception)
    assert isinstance(build(source, out, "ftp://x", "--limit", "1").exception, InputError)


def test_hierarchy_has_seven_primary_classes() -> None:
    assert len(COARSE) == 7
    assert [len(seconds) for seconds in COARSE.values()] == [6, 1, 16, 10, 13, 12, 5]


# ----------------------------------------------------------------------------------- the page


def test_the_review_page(tmp_path: Path) -> None:
    candidates = read_candidates(sa1b(tmp_path / "sa", 2), min_share=0.01)
    ledger = Ledger(tmp_path / "pairs.jsonl")
    for one in candidates:
        ledger.add(one.key, "name", {"name": NAMES[int(one.key[-1])]})
    review = Review(candidates, ledger)
    with serve(review, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_port}"

        def get(path: str) -> Any:
            with urllib.request.urlopen(base + path) as answer:
                return answer.read()

        def say(headers: dict[str, str], **row: str) -> Any:
            body = json.dumps(row).encode()
            request = urllib.request.Request(base + "/verdict", body, headers)
            with urllib.request.urlopen(request) as answer:
                return json.loads(answer.read())

        page = get("/").decode()
        assert "<title>anymask: review</title>" in page
        assert "http://" not in page  # no network needed
        assert json.loads(get("/classes"))[0] == {"name": "blue cup", "count": 2, "seen": 0}
        rows = json.loads(get("/class?name=blue%20cup"))
        assert [row["region"] for row in rows] == ["sa_0/0", "sa_1/0"]
        picture = PIL.Image.open(io.BytesIO(get("/picture?region=sa_0/0")))
        assert picture.format == "JPEG"
        ours = {"X-Anymask": "review", "Content-Type": "application/json"}
        assert say(ours, region="sa_0/0", verdict="delete", reviewer="me") == {"verdict": "delete"}
        assert json.loads(get("/classes"))[0]["seen"] == 1
        assert say(ours, region="sa_0/0", verdict="undo") == {"verdict": ""}
        assert say(ours, region="sa_0/0", verdict="rename", name="a Mug")["verdict"] == "rename"
        for headers, row, status in (
            ({}, {"region": "sa_0/0", "verdict": "keep"}, 403),  # another site's page
            (ours, {"region": "nowhere", "verdict": "keep"}, 400),
            (ours, {"region": "sa_0/0", "verdict": "burn"}, 400),
            (ours, {"region": "sa_0/0", "verdict": "rename", "name": "!"}, 400),
        ):
            with pytest.raises(urllib.error.HTTPError) as caught:
                say(headers, **row)
            assert caught.value.code == status
        with pytest.raises(urllib.error.HTTPError):
            get("/picture?region=x")
        server.shutdown()
    assert Ledger(tmp_path / "pairs.jsonl").stage("review")["sa_0/0"]["name"] == "mug"
