"""OSM's training: what a step is made of, its loss, its schedule, and that modes are learnt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import osm_tiny as tiny
import pytest
import torch
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.region_sources import read_meta
from anymask.errors import DataError, InputError
from anymask.methods.osm.collate import Collate
from anymask.methods.osm.files import save_texts
from anymask.methods.osm.inference import OSMNamer
from anymask.methods.osm.model import IGNORED, OSMModel, mixed_loss, text_loss
from anymask.methods.osm.templates import Texts, question
from anymask.segments import Segments
from anymask.training.mask_samples import MIN_PIXELS, MaskSamples
from anymask.training.recipe import Recipe, _factor, _optimizer, train
from anymask.training.recipes.osm import osm, shares_of

RUN = CliRunner()


def meta(folder: Path) -> Path:
    tiny.sources(folder)
    entries = {m: {"root": ".", "annotation": f"{m}.jsonl"} for m in ("coco", "lvis")}
    (folder / "meta.json").write_text(json.dumps(entries))
    return folder / "meta.json"


def saved(folder: Path) -> Path:
    tiny.model(torch.float32).save_pretrained(folder)
    save_texts(tiny.texts(), folder)
    return folder


def test_a_step(tmp_path: Path) -> None:
    run = MaskSamples(tiny.sources(tmp_path), [4, 2], 30, 56, seed=1)
    assert len(run) == 180
    for step in range(30):
        samples = [run[6 * step + k] for k in range(6)]
        assert [s["dataset"] for s in samples] == [0] * 4 + [1] * 2
        assert [s["agnostic"] for s in samples] == [False, False, True, True, False, True]
        for sample in samples:
            assert sample["canvas"].shape == (56, 56, 3)
            assert sample["mask"].sum() > MIN_PIXELS
            # The mask lies on its thing, whatever was scaled, mirrored and cut.
            bright = sample["canvas"][sample["mask"]].float().median()
            assert (bright > 200) == (sample["name"] in ("red cup", "blue ball"))
    assert run[7]["name"] == MaskSamples(tiny.sources(tmp_path), [4, 2], 30, 56, seed=1)[7]["name"]
    names = Counter(run[k]["name"] for k in range(180))
    assert set(names) == {"red cup", "dog", "blue ball", "cat"}
    boxes = MaskSamples(tiny.sources(tmp_path), [2, 2], 10, 56, boxes=1.0)
    sample = boxes[0]
    rows, columns = sample["mask"].any(1), sample["mask"].any(0)
    assert sample["box"]
    assert sample["mask"].sum() == rows.sum() * columns.sum()
    plain = MaskSamples(tiny.sources(tmp_path), [2, 2], 4, 56, augment=False)[0]
    assert plain["canvas"][42:].sum() == 0  # 64 x 48 on 56 x 56
    with pytest.raises(DataError, match="two samples a step"):
        MaskSamples(tiny.sources(tmp_path), [1, 2], 4, 56)
    with pytest.raises(DataError, match="no large mask"):
        MaskSamples(tiny.sources(tmp_path), [2, 2], 4, 7, augment=False)[0]


def test_o10_mixing() -> None:
    """Halves count alike however many tokens they have; data sets are summed."""
    torch.manual_seed(0)
    logits = torch.randn(6, 4 + 5, 11)
    labels = torch.randint(0, 11, (6, 5))
    labels[0, 3:] = IGNORED
    groups = torch.tensor([0, 0, 1, 1, 2, 3])
    means = [text_loss(logits[groups == g], labels[groups == g]) for g in range(4)]
    want = (means[0] + means[1]) / 2 + (means[2] + means[3]) / 2
    assert mixed_loss(logits, labels, groups).item() == pytest.approx(want.item(), rel=1e-5)
    alone = mixed_loss(logits[:2], labels[:2], groups[:2])
    assert alone.item() == pytest.approx(means[0].item(), rel=1e-5)


def test_shares(tmp_path: Path) -> None:
    sources = tiny.sources(tmp_path)
    assert shares_of(sources, "paper", None) == [32, 64]
    assert shares_of(sources, "paper", 12) == [4, 8]
    assert shares_of(sources, "equal", None) == [8, 8]
    assert shares_of(sources, "equal", 6) == [3, 3]
    with pytest.raises(InputError, match="less than two"):
        shares_of(sources, "paper", 3)


def test_the_papers_schedule(tmp_path: Path) -> None:
    recipe = osm(meta(tmp_path / "d"), saved(tmp_path / "m"))
    assert (recipe.batch_size, recipe.lr, recipe.clip, recipe.warmup) == (96, 4e-5, 1.0, 100)
    assert len(recipe.data()) == 6_000_000 // 96 * 96  # type: ignore[arg-type]
    assert _factor(recipe, 5050, 10_000) == pytest.approx(0.5)
    # Norms, biases and queries decay as well.
    groups = _optimizer(recipe, recipe.model()).param_groups
    assert [g["weight_decay"] for g in groups] == [0.05]
    broken = json.loads((tmp_path / "d" / "meta.json").read_text())
    broken["coco"]["mode"] = "nonsense"
    (tmp_path / "d" / "meta.json").write_text(json.dumps(broken))
    with pytest.raises(InputError, match='write one of them as "mode"'):
        osm(tmp_path / "d" / "meta.json", tmp_path / "m")


def taught_to_repeat(model: OSMModel, texts: Texts) -> None:
    """A language model that repeats the words in front of the question: like a real one it can be
    told by its prompt what to say, which random weights cannot."""
    torch.manual_seed(0)
    language, words = model.language_model.requires_grad_(True), texts.language
    names = ["red cup", "dog", "blue ball", "cat"]
    rows = texts.taught([question(0)] * 4, names, "answer_only")
    told = [words(f" {name}")["input_ids"] for name in names]
    told = torch.tensor([(ids * 5)[:5] for ids in told])
    optimizer = torch.optim.Adam(language.parameters(), 3e-3)
    for _ in range(80):
        ids = torch.cat([told, rows["input_ids"]], 1)
        keep = torch.cat([torch.ones_like(told).bool(), rows["attention_mask"]], 1)
        loss = text_loss(language(ids, attention_mask=keep.long()).logits, rows["labels"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


def test_modes_are_learnt(tmp_path: Path) -> None:
    """Two data sets with other words for the same things: each mode answers in its own."""
    sources = tiny.sources(tmp_path, 2)
    run = MaskSamples(sources, [4, 4], 60, 56, augment=False, templates=1)
    model = tiny.model(torch.float32, pos_init_std=0.02)
    taught_to_repeat(model, tiny.texts())
    recipe = Recipe(
        name="tiny",
        model=lambda: model,
        data=lambda: run,
        collate=Collate(model.config, tiny.texts()),
        batch_size=8,
        lr=5e-3,
        clip=1.0,
        warmup=5,
        decay_all=True,
    )
    train(recipe, tmp_path / "out", device="cpu", checkpoint_every=1000)
    namer = OSMNamer(model, tiny.texts(), "cpu")
    record, image = sources[0].file[0], sources[0].file.read_image(0)
    segments = Segments(record.size, record.rles)
    found = {mode: namer(image, segments, mode=mode).labels for mode in ("coco", "lvis")}
    assert found == {"coco": ("red cup", "dog"), "lvis": ("blue ball", "cat")}


def test_in_the_terminal(tmp_path: Path) -> None:
    data, start = meta(tmp_path / "d"), saved(tmp_path / "m")
    arguments = ["train", "osm", "--data", str(data), "--init", str(start), "-o",
                 str(tmp_path / "out"), "--samples", "8", "--batch-size", "4", "--mix", "equal",
                 "--device", "cpu"]  # fmt: skip
    result = RUN.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    from anymask.loading import load_namer

    again = load_namer(tmp_path / "out", "cpu")
    mask = np.zeros((45, 60), bool)
    mask[5:30, 5:30] = True
    assert len(again(tiny.picture(), Segments.from_masks([mask]), longest=2)) == 1
    for options, message in ((["--mix", "x"], "paper or equal"), (["--init", "nowhere"], "FOLDER")):
        broken = RUN.invoke(app, [*arguments, *options])
        assert message in str(broken.exception)


def test_which_masks_may_be_shown_as_boxes(tmp_path: Path) -> None:
    meta(tmp_path)
    entries = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "words.txt").write_text("red cup; thing\ndog; stuff\n")
    entries["coco"]["vocabulary"] = str(tmp_path / "words.txt")
    lines = {"root": ".", "annotation": "lvis.jsonl"}
    entries |= {"v3det": lines, "pascal_part": lines, "other": {**lines, "boxes": "never"}}
    (tmp_path / "meta.json").write_text(json.dumps(entries))
    sources = read_meta(tmp_path / "meta.json")
    run = MaskSamples(sources, [4] * 5, 20, 56, boxes=1.0)
    shown: dict[str, set[bool]] = {}
    for k in range(len(run)):
        sample = run[k]
        name = sources[sample["dataset"]].name
        shown.setdefault(f"{name} {sample['name']}" if name == "coco" else name, set()).add(
            sample["box"]
        )
    assert shown == {"coco red cup": {True}, "coco dog": {False}, "lvis": {True},
                     "v3det": {True}, "pascal_part": {False}, "other": {False}}  # fmt: skip
    assert not any(MaskSamples(sources[:2], [4] * 2, 20, 56)[k]["box"] for k in range(40))
    entries["lvis"]["boxes"] = "sometimes"
    (tmp_path / "meta.json").write_text(json.dumps(entries))
    with pytest.raises(DataError, match="drawn, always, never"):
        read_meta(tmp_path / "meta.json")
