"""OpenBench, leakage, duplicates, distractors, and measuring dense predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from anymask.benchmarks.dense_protocols import (
    measure_panoptic,
    measure_semantic,
    predictions_from,
)
from anymask.benchmarks.distractors import distractor_curve, distractor_pool
from anymask.benchmarks.duplicates import find_duplicates, fine_share, plain
from anymask.benchmarks.openbench import Settings, build, read_built
from anymask.benchmarks.similarity import draw_distribution, draw_map, leakage, letters
from anymask.benchmarks.similarity import measure_similarity as compare
from anymask.cli.app import app
from anymask.data.dense import DenseDataset, DensePicture, by_value, label_folder
from anymask.data.formats.coco import write_coco_dataset
from anymask.data.scenes.files import World, write_scenes
from anymask.errors import DataError, InputError
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

# Oracle O11: how near each class is to the training words.
NEAR = {"oystercatcher": 0.62, "road": 0.90, "cat": 1.0, "sushi": 0.55, "tram": 0.78}


def oracle_embed(texts: Sequence[str]) -> np.ndarray:
    """Vectors whose cosine with the only training word, "cat", is as the oracle says."""
    rows = []
    for text in texts:
        name = next(n for n in NEAR if f" {n}." in text or text == n)
        rows.append([NEAR[name], (1 - NEAR[name] ** 2) ** 0.5])
    return np.array(rows)


def dataset(folder: Path, pictures: dict[str, list[int]], names: Sequence[str]) -> DenseDataset:
    folder.mkdir(parents=True, exist_ok=True)
    listed = []
    for name, values in pictures.items():
        PIL.Image.new("RGB", (len(values), 1)).save(folder / f"{name}.jpg")
        PIL.Image.fromarray(np.array([values], np.uint8)).save(folder / f"{name}.png")
        listed.append(DensePicture(name, folder / f"{name}.jpg", folder / f"{name}.png"))
    decode = by_value({k: k for k in range(len(names))}, ignore=[255])
    return DenseDataset("oracle", Vocabulary.from_names(names), listed, decode)


@pytest.fixture
def source(tmp_path: Path) -> DenseDataset:
    pictures = {"one": [0, 1, 255], "two": [2, 1, 1], "three": [3, 4, 4]}
    return dataset(tmp_path / "source", pictures, list(NEAR))


CAT = Vocabulary.from_names(["cat"], title="training")


def test_oracle_o11(source: DenseDataset, tmp_path: Path) -> None:
    out = tmp_path / "built"
    built = build([source], CAT, oracle_embed, out, Settings(0.70, 0.80))
    assert built.classes == ["oystercatcher", "sushi", "tram"]
    assert built.statistics["images"] == 2
    found = [built.statistics[k] for k in ("mean", "median", "min", "max")]
    assert found == pytest.approx([0.65, 0.62, 0.55, 0.78])
    images = json.loads((out / "images.json").read_text())
    assert [i["similarity"] for i in images] == pytest.approx([0.62, 0.55])
    assert images[0]["before"] == ["oystercatcher", "road"]
    assert images[0]["after"] == ["oystercatcher"]
    data = read_built(out)
    assert data.vocabulary.names == ("oystercatcher", "sushi", "tram", "others")
    assert data.others == 3
    labels = {p.name: data.labels(p).tolist() for p in data.pictures}
    assert labels == {"0_one": [[0, 3, -1]], "0_three": [[1, 2, 2]]}
    manifest = json.loads((out / "manifest.json").read_text())
    why = {d["name"]: d["why"] for d in manifest["dropped_classes"]}
    assert why == {"road": "sigma2", "cat": "sigma2"}


def test_equality_keeps(source: DenseDataset, tmp_path: Path) -> None:
    """Strictly above is dropped: S = sigma1 stays, s = sigma2 stays."""
    built = build([source], CAT, oracle_embed, tmp_path / "a", Settings(0.62, 0.90))
    assert built.statistics["images"] == 2
    assert built.classes == ["oystercatcher", "road", "sushi", "tram"]


def test_the_same_input_gives_the_same_bytes(source: DenseDataset, tmp_path: Path) -> None:
    for name in ("a", "b"):
        build([source], CAT, oracle_embed, tmp_path / name, Settings())
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) > 6
    for file in files:
        if file.suffix != ".npz":  # zip files carry the time
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_manual_step_is_resumed(source: DenseDataset, tmp_path: Path) -> None:
    out = tmp_path / "built"
    assert not build([source], CAT, oracle_embed, out).reviewed
    rules = json.loads((out / "rules.json").read_text())
    rules |= {"drop": ["tram"], "rename": {"sushi": "sushi"}, "reviewed": True}
    (out / "rules.json").write_text(json.dumps(rules))
    built = build([source], CAT, oracle_embed, out)
    assert built.reviewed
    assert built.classes == ["oystercatcher", "sushi"]
    rules["drop_images"] = ["three"]
    (out / "rules.json").write_text(json.dumps(rules))
    assert build([source], CAT, oracle_embed, out).classes == ["oystercatcher"]
    (out / "rules.json").write_text('{"dorp": []}')
    with pytest.raises(DataError, match="unknown entry 'dorp'"):
        build([source], CAT, oracle_embed, out)


def test_thresholds(source: DenseDataset, tmp_path: Path) -> None:
    built = build([source], CAT, oracle_embed, tmp_path / "q", Settings("q0.5", "q1"))
    assert "road" in built.classes
    for settings, match in (
        (Settings(0.9, 0.5), "is above sigma2"),
        (Settings("q7", 0.8), "no quantile"),
        (Settings("x", 0.8), "no threshold"),
        (Settings(0.1, 0.8), "nothing is left"),
    ):
        with pytest.raises(InputError, match=match):
            build([source], CAT, oracle_embed, tmp_path / "bad", settings)


# -------------------------------------------------------------------------------- duplicates


def test_oracle_o12() -> None:
    words = ["door", "double door", "wall", "walls", "brick wall", "dog", "hot dog"]
    vocabulary = Vocabulary.from_names(words)
    found = {(words[d.child], words[d.parent]): d for d in find_duplicates(vocabulary)}
    assert found["walls", "wall"].kind == "identical"
    assert found["double door", "door"].kind == "lexical parent"
    assert found["brick wall", "wall"].confirmed
    assert found["brick wall", "walls"].confirmed
    assert not found["hot dog", "dog"].confirmed
    assert len(found) == 5
    # The cosine takes a parent back that letters alone suggest.
    near = np.full((7, 7), 0.5)
    assert not any(
        d.confirmed for d in find_duplicates(vocabulary, near) if d.kind == "lexical parent"
    )
    near[5, 0] = near[0, 5] = 0.99
    kinds = [d.kind for d in find_duplicates(vocabulary, near)]
    assert kinds.count("near duplicate") == 1


def test_granularity_and_plain_words() -> None:
    assert plain("Brick-Walls") == "brick wall"
    assert plain("Glass") == "glass"
    reference = Vocabulary.from_names(["door", "bird"])
    assert fine_share(Vocabulary.from_names(["double door", "cat"]), reference) == 0.5


# ----------------------------------------------------------------------------------- leakage


def test_leakage_of_known_words() -> None:
    train = Vocabulary.from_names([["dog", "puppy"], "house"], title="train")
    test = Vocabulary.from_names(["puppy", "zeppelin"], title="test")
    found = compare(test, train, letters, name="letters")
    assert found.values[0] == pytest.approx(1.0)
    assert found.nearest[0] == "puppy"
    assert found.values[1] < 1
    report = leakage(test, train, found)
    assert report.metrics["identical_words"] == 1.0
    assert report.metrics["max"] == pytest.approx(1.0)
    assert report.protocol["text_model"] == "letters"
    centred = compare(test, train, letters, centred=True)
    assert centred.values[1] < found.values[1]


def test_pictures_of_words(tmp_path: Path) -> None:
    train, test = Vocabulary.from_names(["dog", "cat"]), Vocabulary.from_names(["emu", "cow"])
    draw_distribution({"test": compare(test, train, letters)}, tmp_path / "d.png")
    groups = {v: (list(w), letters(w)) for v, w in (("a", train.names), ("b", test.names))}
    draw_map(groups, tmp_path / "m.png")
    assert PIL.Image.open(tmp_path / "d.png").size[0] > 300
    assert PIL.Image.open(tmp_path / "m.png").size[0] > 300


# ------------------------------------------------------------------------------- distractors


def test_related_words_are_no_distractors() -> None:
    own = Vocabulary.from_names(["dog", "brick wall"])
    pool = Vocabulary.from_names(["Dogs", "guide dog", "wall", "emu"])
    assert [c.name for c in distractor_pool(own, pool)] == ["emu"]


def test_distractors_only_take_pixels_away(tmp_path: Path) -> None:
    """A matcher that gives pixel v the word number v modulo the length of the list."""
    data = dataset(tmp_path, {"a": [0, 1, 2, 0], "b": [1, 1, 2, 2]}, ["x", "y", "z"])
    pool = Vocabulary.from_names([f"word{k}" for k in range(9)])

    def match(picture: DensePicture, vocabulary: Vocabulary) -> np.ndarray:
        truth = data.labels(picture)
        if len(vocabulary) <= 3:
            names = [data.vocabulary.names[k] for k in truth.ravel().tolist()]
            return np.array([[vocabulary.names.index(n) for n in names]])
        out = truth.copy()
        out[:, : (len(vocabulary) - 3) // 3] = len(vocabulary) - 1  # a distractor
        return out

    curve = distractor_curve(data, match, pool, counts=(0, 3, 6, 100), seeds=2)
    assert curve.counts == (0, 3, 6)
    assert curve.oracle == 1.0
    assert curve.miou[:, 0].tolist() == [1.0, 1.0]
    assert (np.diff(curve.miou, axis=1) <= 0).all()
    assert curve.lost[0].tolist() == pytest.approx([0, 0.25, 0.5])
    with pytest.raises(InputError, match="only 9 irrelevant"):
        distractor_curve(data, match, pool, counts=(50,))


# --------------------------------------------------------------------------------- measuring


def test_others_in_three_ways(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"a": [0, 0, 1, 1]}, ["thing", "others"])
    data = DenseDataset(data.title, data.vocabulary, data.pictures, data.decode, others=1)

    def predict(picture: Any) -> np.ndarray:
        return np.array([[0, 1, 1, 0]])

    found = {m: measure_semantic(data, predict, others=m).metrics["mIoU"]
             for m in ("class", "scored", "ignore")}  # fmt: skip

    def silent(picture: Any) -> np.ndarray:
        return np.array([[0, -1, -1, 0]])

    assert measure_semantic(data, silent, others="void").metrics["mIoU"] == pytest.approx(1 / 3)
    assert measure_semantic(data, silent).metrics["mIoU"] == pytest.approx(1 / 6)
    assert found == pytest.approx({"class": 1 / 3, "scored": 1 / 3, "ignore": 0.5})
    with pytest.raises(InputError, match="class, scored, ignore"):
        measure_semantic(data, predict, others="x")
    report = measure_semantic(data, predict, training=Vocabulary.from_names(["thing"]))
    assert report.metrics["mIoU_seen"] == pytest.approx(1 / 3)
    assert report.protocol["vocabulary"] == "global"


def test_predictions_as_pictures_and_as_segments(tmp_path: Path) -> None:
    PIL.Image.new("RGB", (4, 1)).save(tmp_path / "p.jpg")
    folder, truth = tmp_path / "found", tmp_path / "truth"
    folder.mkdir()
    truth.mkdir()
    PIL.Image.fromarray(np.array([[1, 2, 2, 255]], np.uint8)).save(truth / "p.png")
    PIL.Image.fromarray(np.array([[1, 2, 1, 255]], np.uint8)).save(folder / "p.png")
    words = Vocabulary.from_names(["cat", "dog"])
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "p.jpg").rename(images / "p.jpg")
    data = label_folder(images, truth, words)
    by_pixels = measure_semantic(data, predictions_from(folder, words)).metrics
    assert by_pixels["mIoU"] == pytest.approx(0.5)
    masks = np.array([[[1, 0, 1, 0]], [[0, 1, 0, 0]]], bool)
    segments = Segments.from_masks(masks).with_labels(["cat", "dog"])
    write_coco_dataset(tmp_path / "found.json", [({"file_name": "p.jpg"}, segments)])
    by_segments = measure_semantic(data, predictions_from(tmp_path / "found.json", words)).metrics
    assert repr(by_segments) == repr(by_pixels)
    done = CliRunner().invoke(
        app,
        ["measure", "semantic", "--truth", str(truth), "--images", str(images), "--vocabulary",
         str(_words(tmp_path)), "--predictions", str(folder), "--out", str(tmp_path / "r.json"),
         "--training", "coco-panoptic", "--text-model", "letters"],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "mIoU_present_or_predicted" in done.output
    assert "mIoU_sim_0.9_1" in done.output
    (folder / "p.png").unlink()
    with pytest.raises(DataError, match="no label picture for p"):
        measure_semantic(data, predictions_from(folder, words))


def _words(folder: Path) -> Path:
    (folder / "words.txt").write_text("cat\ndog\n")
    return folder / "words.txt"


def test_panoptic_truth_of_scenes_is_perfect(tmp_path: Path) -> None:
    world = tmp_path / "world"
    list(write_scenes(world, World(3, seed=3, size=64, split="val")))
    truth = next(world.glob("panoptic*.json"))
    report = measure_panoptic(truth, truth)
    assert report.metrics["PQ"] == 1.0
    done = CliRunner().invoke(
        app, ["measure", "panoptic", "--truth", str(truth), "--predictions", str(truth)]
    )
    assert done.exit_code == 0, done.output
    content = json.loads(truth.read_text())
    content["annotations"] = content["annotations"][1:]
    (tmp_path / "less.json").write_text(json.dumps(content))
    (tmp_path / "less").symlink_to(truth.with_suffix(""))
    with pytest.raises(DataError, match="has nothing for the picture"):
        measure_panoptic(truth, tmp_path / "less.json")


# ---------------------------------------------------------------------------------- terminal


def test_building_from_the_terminal(tmp_path: Path) -> None:
    root = tmp_path / "camvid"
    (root / "test").mkdir(parents=True)
    (root / "testannot").mkdir()
    PIL.Image.new("RGB", (4, 1)).save(root / "test/a.png")
    PIL.Image.fromarray(np.array([[0, 1, 10, 11]], np.uint8)).save(root / "testannot/a.png")
    out = tmp_path / "built"
    words = tmp_path / "train.txt"
    words.write_text("sky\n")
    ask = ["benchmark", "openbench", "build", "--source", f"camvid-11={root}", "--out", str(out),
           "--training", str(words), "--text-model", "letters", "--sigma1", "0.99",
           "--sigma2", "0.999"]  # fmt: skip
    done = CliRunner().invoke(app, ask)
    assert done.exit_code == 0, done.output
    assert "published are 233" in done.output
    assert "rules.json" in done.output
    assert read_built(out).vocabulary.names[-1] == "others"
    wrong = CliRunner().invoke(app, [*ask[:3], "--source", "camvid-11", "--out", str(out)])
    assert "KIND=FOLDER" in str(wrong.exception)


def test_the_audit_from_the_terminal(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        app,
        ["measure", "leakage", "--train", "coco-panoptic", "--test", "voc-20", "--test",
         "ade20k-150", "--text-model", "letters", "--plot", str(tmp_path / "d.png"),
         "--out", str(tmp_path)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    voc = json.loads((tmp_path / "voc-20.json").read_text())["metrics"]
    ade = json.loads((tmp_path / "ade20k-150.json").read_text())["metrics"]
    assert voc["mean"] > ade["mean"]  # as in Table 1
    drawn = CliRunner().invoke(
        app,
        ["measure", "vocabulary-map", "--vocabulary", "voc-20", "--vocabulary", "cityscapes",
         "--text-model", "letters", "--proxies", "20", "--plot", str(tmp_path / "m.png")],
    )  # fmt: skip
    assert drawn.exit_code == 0, drawn.output
    assert (tmp_path / "m.png").is_file()
