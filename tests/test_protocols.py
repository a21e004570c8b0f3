"""`measure`: any tool's results under four protocols, and what is wrong with broken ones."""

from __future__ import annotations

import gzip
import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from anymask.benchmarks.frequency_plot import draw_by_frequency
from anymask.benchmarks.protocols import PROTOCOLS, frequencies, measure
from anymask.cli.app import app
from anymask.data.coco import CocoDataset
from anymask.data.scenes.files import World, write_scenes
from anymask.errors import DataError, InputError
from anymask.ops.rle import encode, to_coco_str
from anymask.predictions import read_predictions
from anymask.report import Report


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured") / "world"
    list(write_scenes(folder, World(25, seed=6, size=96, split="val")))
    return folder


@pytest.fixture(scope="module")
def perfect(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The truth as results."""
    rows = json.loads((world / "instances.json").read_text())["annotations"]
    keys = ("image_id", "category_id", "segmentation")
    results = [{**{k: row[k] for k in keys}, "score": 0.9} for row in rows]
    path = tmp_path_factory.mktemp("results") / "perfect.json"
    path.write_text(json.dumps(results))
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_truth_scores_one(world: Path, perfect: Path, protocol: str) -> None:
    file = "lvis.json" if protocol == "lvis" else "instances.json"
    if protocol == "lvis":  # only what the federated file has is truth there
        rows = json.loads((world / file).read_text())["annotations"]
        kept = [{**row, "score": 0.5} for row in rows]
        perfect = perfect.with_name("federated.json")
        perfect.write_text(json.dumps(kept))
    report = measure(world / file, perfect, protocol)
    name = {"lvis-ow": "AR", "recall": "AR@100"}.get(protocol, "AP")
    assert report[name] == pytest.approx(1)
    assert report.protocol["protocol"] == protocol
    assert (set(report.data), set(report.checkpoint)) == ({file}, {perfect.name})
    if protocol == "lvis-ow":
        assert all(report[f"AR_{g}"] == pytest.approx(1) for g in ("known", "seen", "unseen"))
        assert report["per_class/car"] == pytest.approx(1)


def test_groups_tell_what_was_missed(world: Path, perfect: Path, tmp_path: Path) -> None:
    content = json.loads((world / "instances.json").read_text())
    group = {row["id"]: row["group"] for row in content["categories"]}
    results = json.loads(perfect.read_text())
    known = [row for row in results if group[row["category_id"]] == "known"]
    path = tmp_path / "known.json"
    path.write_text(json.dumps(known))
    report = measure(world / "instances.json", path, "lvis-ow")
    assert report["AR_known"] == pytest.approx(1)
    assert report["AR_unseen"] == pytest.approx(0)
    # The mean over classes with truth is the weighted mean of the groups (O9).
    per_class = [v for v in report.metrics["per_class"].values() if not np.isnan(v)]
    assert report["AR"] == pytest.approx(np.mean(per_class))


def test_forms_of_predictions_agree(world: Path, perfect: Path, tmp_path: Path) -> None:
    truth = world / "instances.json"
    expected = measure(truth, perfect, "recall")
    packed = tmp_path / "perfect.json.gz"
    packed.write_bytes(gzip.compress(perfect.read_bytes()))
    content = json.loads(truth.read_text())
    # A COCO file with ids of its own: pictures are found by name.
    renumbered = {
        "images": [{**image, "id": image["id"] + 5000} for image in content["images"]],
        "annotations": [
            {**row, "image_id": row["image_id"] + 5000, "score": 0.9}
            for row in content["annotations"]
        ],
    }
    own = tmp_path / "own.json"
    own.write_text(json.dumps(renumbered))
    for path in (packed, own):
        found = measure(truth, path, "recall").metrics
        assert found == pytest.approx(dict(expected.metrics), nan_ok=True)


BROKEN = [
    ({"image_id": 10**6}, "image 1000000, which"),
    ({"score": float("nan")}, "has the score nan"),
    ({"score": "high"}, "has the score 'high'"),
    ({"category_id": 999}, "category 999"),
    ({"segmentation": {"size": [10, 10], "counts": "PP1"}}, r"\(image 1\)"),
    ({"segmentation": "mask"}, r"\(image 1\)"),
]


@pytest.mark.parametrize(("change", "match"), BROKEN, ids=[m for _, m in BROKEN])
def test_a_broken_record_is_named(
    world: Path, perfect: Path, tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    results = json.loads(perfect.read_text())
    results[0] = {**results[0], "image_id": 1, **change}
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(results))
    with pytest.raises(DataError, match=f"result 0.*{match}"):
        measure(world / "instances.json", path, "coco")


def test_broken_files(world: Path, tmp_path: Path) -> None:
    truth = CocoDataset.read(world / "instances.json")
    path = tmp_path / "p.json"
    for text, match in [
        ("{", "not the expected JSON at byte 1"),
        ("3", "not a list"),
        ("[1]", "result 0 needs the keys"),
        ('[{"image_id": 1}]', "result 0 needs the keys"),
        ('{"annotations": [], "images": [{"id": 1, "file_name": "z"}]}', "has the picture z"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=match):
            read_predictions(path, truth)
    path.write_bytes(b"\x1f\x8bnonsense")
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_predictions(path, truth)
    with pytest.raises(DataError, match="cannot be opened"):
        read_predictions(tmp_path / "none.json", truth)


def test_the_truth_may_be_gzipped(world: Path, perfect: Path, tmp_path: Path) -> None:
    packed = tmp_path / "truth.json.gz"
    packed.write_bytes(gzip.compress((world / "instances.json").read_bytes()))
    plain = measure(world / "instances.json", perfect, "coco")
    assert repr(measure(packed, perfect, "coco").metrics) == repr(plain.metrics)  # NaN too
    data = CocoDataset.read(packed)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.records_of(data.image_ids[0]) == data.records_of(data.image_ids[0])


def test_predictions_stay_in_their_file(world: Path, tmp_path: Path) -> None:
    """What is held of a prediction are four numbers; masks are parsed a picture at a time."""
    truth = CocoDataset.read(world / "instances.json")
    size = [truth.images[0]["height"], truth.images[0]["width"]]
    mask = to_coco_str(encode(np.random.default_rng(0).random(size) > 0.5))
    count = 2000
    path = tmp_path / "many.json"
    rows = [{"image_id": truth.image_ids[0], "score": k / count, "segmentation": mask}
            for k in range(count)]  # fmt: skip
    path.write_text(json.dumps(rows))
    tracemalloc.start()
    found = read_predictions(path, truth)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert path.stat().st_size > 2000 * count
    assert held < 200 * count
    assert len(found[truth.image_ids[0]].rles) == count


def as_coco(world: Path, path: Path) -> dict[str, Any]:
    """The truth as another tool's COCO file: pictures and categories have other numbers there."""
    content = json.loads((world / "instances.json").read_text())
    last = max(c["id"] for c in content["categories"]) + 1
    found = {
        "images": [{**r, "id": r["id"] + 900} for r in content["images"]],
        "categories": [{**c, "id": last - c["id"]} for c in content["categories"]],
        "annotations": [
            {**r, "image_id": r["image_id"] + 900, "category_id": last - r["category_id"],
             "score": 0.5}
            for r in content["annotations"]
        ],
    }  # fmt: skip
    path.write_text(json.dumps(found))
    return found


def test_coco_files_fit_by_name(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    content = as_coco(world, path)
    assert measure(world / "instances.json", path, "coco")["AP"] == pytest.approx(1)
    category = content["annotations"][0]["category_id"]
    for row in content["categories"]:
        row["name"] = "frob" if row["id"] == category else row["name"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"result 0 has the category .* whose name"):
        measure(world / "instances.json", path, "coco")
    assert measure(world / "instances.json", path, "recall")["AR@100"] == pytest.approx(1)


def test_pictures_fit_by_address_and_by_the_end_of_their_name(world: Path, tmp_path: Path) -> None:
    """LVIS has addresses instead of names, and tools leave folders out or put them before."""
    path, truth = tmp_path / "found.json", tmp_path / "truth.json"
    content = as_coco(world, path)
    true = json.loads((world / "instances.json").read_text())
    for record in true["images"]:
        record["coco_url"] = f"http://x.org/train/{record.pop('file_name')}"
    truth.write_text(json.dumps(true))
    for above in ("", "train/", "photos/train/"):
        for record, named in zip(content["images"], true["images"], strict=True):
            record["file_name"] = above + named["coco_url"].rsplit("/", 1)[1]
        path.write_text(json.dumps(content))
        assert measure(truth, path, "recall")["AR@100"] == pytest.approx(1)
    content["images"][1]["file_name"] = "other/" + content["images"][0]["file_name"]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="two pictures"):
        measure(truth, path, "recall")


def test_nothing_found_is_zero(world: Path, tmp_path: Path) -> None:
    path = tmp_path / "empty.json"
    path.write_text("[]")
    assert measure(world / "instances.json", path, "lvis-ow")["AR"] == 0
    assert measure(world / "instances.json", path, "recall")["AR@100"] == 0


def test_protocols_need_what_they_need(world: Path, perfect: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are recall, coco"):
        measure(world / "instances.json", perfect, "accuracy")
    with pytest.raises(DataError, match="not an LVIS-style file"):
        measure(world / "instances.json", perfect, "lvis")
    content = json.loads((world / "instances.json").read_text())
    for number, category in enumerate(content["categories"]):
        category.pop("group")
        category["id"] += 5000
        content["annotations"] = content["annotations"] if number else []
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(content))
    path = tmp_path / "empty.json"
    path.write_text("[]")
    with pytest.raises(InputError, match="--groups FILE"):
        measure(bare, path, "lvis-ow")


def test_the_commands(world: Path, perfect: Path, tmp_path: Path) -> None:
    common = ["--truth", str(world / "instances.json"), "--predictions", str(perfect)]
    for protocol in ("recall", "coco"):
        result = CliRunner().invoke(app, ["measure", protocol, *common])
        assert result.exit_code == 0, result.output
        assert "AP " in result.output
    out, plot = tmp_path / "r.json", tmp_path / "p.png"
    more = ["--out", str(out), "--plot", str(plot)]
    result = CliRunner().invoke(app, ["measure", "lvis-ow", *common, *more])
    assert result.exit_code == 0, result.output
    assert "AR_unseen" in result.output
    assert "per_class" not in result.output
    assert Report.from_json(out)["per_class/tree"] == pytest.approx(1)
    assert plot.read_bytes().startswith(b"\x89PNG")
    groups = ["--groups", str(world / "vocabulary.json"), "--max-dets", "1"]
    result = CliRunner().invoke(app, ["measure", "lvis-ow", *common, *groups])
    assert result.exit_code == 0, result.output
    assert "max_dets = 1" in result.output
    federated = ["--truth", str(world / "lvis.json"), "--predictions", str(perfect)]
    result = CliRunner().invoke(app, ["measure", "lvis", *federated, "--plot", str(plot)])
    assert result.exit_code == 0, result.output
    assert "APr" in result.output


def test_frequency_is_counted_or_read(world: Path, perfect: Path, tmp_path: Path) -> None:
    data = CocoDataset.read(world / "instances.json")
    rows = json.loads((world / "instances.json").read_text())["annotations"]
    cars = {r["image_id"] for r in rows if data.names[r["category_id"]] == "car"}
    assert frequencies(data)["car"] == len(cars)
    lvis = CocoDataset.read(world / "lvis.json")
    stated = {c["name"]: c["image_count"] for c in lvis.categories}
    assert frequencies(lvis) == stated
    recall = measure(world / "instances.json", perfect, "recall")
    with pytest.raises(InputError, match="no metric by class"):
        draw_by_frequency(recall, data, tmp_path / "p.png")


def test_pictures_without_predictions_are_counted(
    world: Path, perfect: Path, tmp_path: Path
) -> None:
    rows = json.loads(perfect.read_text())
    first = min(row["image_id"] for row in rows)
    few = tmp_path / "few.json"
    few.write_text(json.dumps([row for row in rows if row["image_id"] == first]))
    one, all_of = (measure(world / "instances.json", p, "recall") for p in (few, perfect))
    missing = len({row["image_id"] for row in rows}) - 1
    assert f"{missing:,} of" in one.notes[0]
    assert one.notes[0] in one.table()
    one.to_json(tmp_path / "one.json")
    assert Report.from_json(tmp_path / "one.json") == one
    # What a tool left out is no other protocol: the two may still be compared.
    assert all_of.diff(one).comparable


def test_two_tools_are_compared_on_one_truth(world: Path, perfect: Path, tmp_path: Path) -> None:
    rows = json.loads(perfect.read_text())
    half = tmp_path / "half.json"
    half.write_text(json.dumps(rows[: len(rows) // 2]))
    theirs = measure(world / "instances.json", half, "lvis-ow")
    ours = measure(world / "instances.json", perfect, "lvis-ow")
    assert "AR" in str(theirs.diff(ours))
    assert ours.checkpoint != theirs.checkpoint
    theirs.to_json(tmp_path / "theirs.json")
    ours.to_json(tmp_path / "ours.json")
    files = [str(tmp_path / "theirs.json"), str(tmp_path / "ours.json")]
    shown = CliRunner().invoke(app, ["measure", "diff", *files])
    assert shown.exit_code == 0
    assert "AR_unseen" in shown.output
