"""WOW-Seg's training: rows as the released collator's, training equals answering, it learns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
import wowseg_tiny as tiny
from tokenizers import AddedToken
from transformers import InternVLForConditionalGeneration
from typer.testing import CliRunner

from anymask.cli.app import app
from anymask.data.region_sources import RegionSource
from anymask.data.regions import RegionFile, RegionRecord, write_regions
from anymask.errors import InputError
from anymask.methods.wowseg.cascade_attention_mask import (
    SegmentIds,
    cascade_attention_mask,
    parse_segments,
    tags_of,
)
from anymask.methods.wowseg.collate import Collate
from anymask.methods.wowseg.inference import WOWSegNamer
from anymask.methods.wowseg.packed import (
    IGNORED,
    embeddings,
    fitting_mask,
    packed_logits,
    region_tokens,
    visual_tokens,
)
from anymask.methods.wowseg.prompt import IMAGE_END, IMAGE_START
from anymask.methods.wowseg.training import WOWSegTraining
from anymask.ops.rle import encode
from anymask.segments import Segments
from anymask.training.recipe import _factor, train
from anymask.training.recipes.wowseg import wowseg
from anymask.training.region_samples import RegionSamples

RUN = CliRunner()
NAMES = ["red cup", "dog", "t"]


def sample(count: int = 3, **more: Any) -> dict[str, Any]:
    rng = np.random.default_rng(count)
    masks = torch.zeros(count, 40, 60, dtype=torch.bool)
    for k in range(count):
        masks[k, 5 + 8 * k : 18 + 8 * k, 4 + 15 * k : 20 + 15 * k] = True
    image = torch.from_numpy(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
    return {"image": image, "masks": masks, "names": NAMES[:count], **more}


def words() -> Any:
    """The tiny tokenizer, whose separator is one token as in Qwen's."""
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens([AddedToken(" ,", normalized=False)])
    return tokenizer


def collate(**settings: Any) -> Collate:
    return Collate(tiny.model().config, words(), **settings)


@pytest.mark.parametrize("rules", [(True, True), (True, False), (False, True), (False, False)])
def test_released_rows_are_what_the_released_collator_finds(rules: tuple[bool, bool]) -> None:
    made = collate(layout="released", region_rule=rules[0], output_rule=rules[1])
    batch = made([sample(3), sample(1)])
    tokenizer = made.tokenizer
    known = SegmentIds(
        *tokenizer.convert_tokens_to_ids([IMAGE_START, IMAGE_END]),
        tokenizer("\n", add_special_tokens=False)["input_ids"][0],
        tokenizer(" ,", add_special_tokens=False)["input_ids"][0],
        pad=-1,
    )
    for row, count in ((0, 3), (1, 1)):
        keep = batch["allowed"][row, 0].any(0)
        ids = batch["input_ids"][row][keep]
        segments = parse_segments(ids.tolist(), known)
        assert len(segments.regions) == len(segments.outputs) == count
        region, output = tags_of(segments, len(ids))
        want = cascade_attention_mask(
            region[None], output[None], region_rule=rules[0], output_rule=rules[1]
        )[0, 0]
        length = len(ids)
        assert torch.equal(batch["allowed"][row, 0, :length, :length], want)
        # Taught: names, separators and the end; not the newline behind it.
        taught = batch["labels"][row][:length] != IGNORED
        answer = tokenizer.decode(ids[taught])
        assert answer == " , ".join(NAMES[:count]) + "<|im_end|>"
        assert tokenizer.decode(ids[-1:]) == "\n"
    assert torch.equal(batch["position_ids"][0], torch.arange(batch["input_ids"].shape[1]))


def chances_of_names(model: Any, batch: dict[str, Any]) -> list[float]:
    """Log-probability of every name of a batch of one row."""
    with torch.no_grad():
        tokens = visual_tokens(model, batch["pixel_values"].double())
        visual = region_tokens(tokens, batch["is_crop"], batch["selectors"])
        embeds = embeddings(model, batch["input_ids"], visual)
        logits = packed_logits(model, embeds, batch["allowed"], batch["position_ids"])
    taught = batch["labels"][0, 1:] != IGNORED
    begins = taught & (batch["labels"][0, :-1] == IGNORED)
    gained = logits[0, :-1].log_softmax(-1).gather(1, batch["input_ids"][0, 1:, None])[:, 0]
    number = begins.cumsum(0)
    return [float(gained[taught & (number == k)].sum()) for k in range(1, int(number.max()) + 1)]


def test_branches_are_taught_what_answering_asks() -> None:
    """A name's probability does not depend on the other masks and is that of a plain causal row,
    which is how masks are answered."""
    model = tiny.model(torch.float64)
    made = Collate(model.config, tiny.tokenizer(), most_tiles=4)
    given = sample(3)
    together = chances_of_names(model, made([given]))
    for k, want in enumerate(together):
        alone = made([{**given, "masks": given["masks"][k : k + 1], "names": [NAMES[k]]}])
        length = alone["input_ids"].shape[1]
        assert torch.equal(alone["position_ids"][0], torch.arange(length))
        assert torch.equal(alone["allowed"][0, 0], torch.ones(length, length).tril().bool())
        assert chances_of_names(model, alone) == [pytest.approx(want, abs=1e-8)]
    # In the released layout they do depend on each other (specification 3.6).
    released = Collate(model.config, tiny.tokenizer(), most_tiles=4, layout="released")
    before = chances_of_names(model, released([given]))
    changed = {**given, "masks": given["masks"].clone()}
    changed["masks"][1] = changed["masks"][1].roll(3, 1)
    after = chances_of_names(model, released([changed]))
    assert abs(after[0] - before[0]) > 1e-6


def test_a_step_is_the_packed_loss() -> None:
    model = tiny.model()
    batch = collate()([sample(3), sample(1)])
    reference = torch.nn.functional.cross_entropy
    training = WOWSegTraining(model.config).eval()
    training.load_state_dict(model.state_dict())
    assert len(words()) <= model.config.text_config.vocab_size + 1
    with torch.no_grad():
        output = training(**batch)
        tokens = training.get_image_features(
            batch["pixel_values"], vision_feature_layer=-1, vision_feature_select_strategy="default"
        ).pooler_output
        visual = region_tokens(tokens, batch["is_crop"], batch["selectors"])
        embeds = embeddings(model, batch["input_ids"], visual)
        logits = packed_logits(model, embeds, batch["allowed"], batch["position_ids"])
    want = reference(
        logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED
    )
    assert float(output.loss) == pytest.approx(float(want), rel=1e-5)
    model.set_attn_implementation("eager")
    training.set_attn_implementation("eager")
    with torch.no_grad():
        assert float(training(**batch).loss) == pytest.approx(float(want), rel=1e-5)


def test_empty_masks_go_with_their_names() -> None:
    given = sample(3)
    given["masks"][1] = False
    batch = collate()([given])
    taught = batch["input_ids"][batch["labels"] != IGNORED]
    assert collate().tokenizer.decode(taught) == "red cup<|im_end|>t<|im_end|>"
    given["masks"][:] = False
    nothing = collate()([given])
    assert (nothing["labels"] == IGNORED).all()
    training = WOWSegTraining(tiny.model().config)
    assert training(**nothing).loss.item() == 0.0


def test_jpeg_changes_pixels_a_little_and_the_same_each_time() -> None:
    plain, first, again = (
        collate()([sample(2, jpeg=seed)])["pixel_values"] for seed in (None, 5, 5)
    )
    assert torch.equal(first, again)
    assert 0 < (plain - first).abs().mean() < 1.0


def region_files(folder: Path, pictures: int = 6) -> RegionFile:
    rng = np.random.default_rng(0)
    records = []
    for k in range(pictures):
        pixels = rng.integers(200, 256, (30, 40, 3), dtype=np.uint8)
        masks = np.zeros((k + 1, 30, 40), bool)
        for m in range(k + 1):
            masks[m, 2 + m : 12 + m, 6 * m : 6 * m + 6] = True
            pixels[masks[m]] = 40 * m
        PIL.Image.fromarray(pixels).save(folder / f"{k}.png")
        names = tuple(f"thing {m}" for m in range(k + 1))
        records.append(
            RegionRecord(str(k), f"{k}.png", (30, 40), tuple(encode(m) for m in masks), names)
        )
    write_regions(records, folder / "regions.jsonl")
    return RegionFile.read(folder / "regions.jsonl")


def test_samples_of_a_run(tmp_path: Path) -> None:
    source = RegionSource("x", region_files(tmp_path), jpeg=True)
    run = RegionSamples([source], epochs=2, batch_size=2, masks=4)
    assert len(run) == 12
    for epoch in range(2):
        seen = [run[6 * epoch + k] for k in range(6)]
        assert sorted(len(s["names"]) for s in seen) == [1, 2, 3, 4, 4, 4]
        # Pictures with about as many masks share a batch.
        pairs = [abs(len(seen[k]["names"]) - len(seen[k + 1]["names"])) for k in (0, 2, 4)]
        assert max(pairs) <= 1
    again = RegionSamples([source], epochs=2, batch_size=2, masks=4)
    assert again[7]["names"] == run[7]["names"]
    assert again[7]["jpeg"] == run[7]["jpeg"] is not None
    assert [run[k]["names"] for k in range(6)] != [run[k]["names"] for k in range(6, 12)]
    single = RegionSamples([source], masks=1)
    assert {len(single[k]["names"]) for k in range(6)} == {1}


def saved(folder: Path) -> Path:
    folder.mkdir()
    tiny.model().save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def test_the_papers_schedule(tmp_path: Path) -> None:
    region_files(tmp_path)
    recipe = wowseg(tmp_path / "regions.jsonl", saved(tmp_path / "m"), batch_size=2, samples=400)
    assert (recipe.lr, recipe.weight_decay, recipe.decay, recipe.warmup) == (
        1e-5,
        0.05,
        "cosine",
        6,
    )
    assert _factor(recipe, 0, 200) == pytest.approx(1 / 6)
    assert _factor(recipe, 6, 200) == pytest.approx(1.0)
    assert _factor(recipe, 103, 200) == pytest.approx(0.5)
    assert _factor(recipe, 200, 200) == pytest.approx(0.0)
    paper = wowseg(tmp_path / "regions.jsonl", tmp_path / "m", batch_size=2)
    released = wowseg(tmp_path / "regions.jsonl", tmp_path / "m", batch_size=2, schedule="released")
    assert (len(paper.data()), len(released.data())) == (12, 6)  # type: ignore[arg-type]


def test_names_are_learnt_and_saved_as_an_internvl(tmp_path: Path) -> None:
    """A few pictures by heart, in the terminal; the result names them in the terminal as well."""
    file = region_files(tmp_path, 3)
    start, out = saved(tmp_path / "start"), tmp_path / "trained"
    arguments = ["train", "wowseg", "--data", str(file.path), "--init", str(start), "-o", str(out),
                 "--samples", "4", "--batch-size", "2", "--device", "cpu"]  # fmt: skip
    result = RUN.invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    # Everything is loaded on the way in and on the way out, the output head too.
    before, after = (
        InternVLForConditionalGeneration.from_pretrained(f).state_dict() for f in (start, out)
    )
    assert set(before) == set(after)
    assert max(float((before[k] - after[k]).abs().max()) for k in before) < 1e-3
    # The paper's rate moves nothing in three steps; with a higher one the names are learnt.
    asked = {"question": "<image> is", "system": "s", "most_tiles": 1}
    recipe = wowseg(file.path, out, batch_size=3, samples=180, **asked)
    train(replace(recipe, lr=5e-3), tmp_path / "more", device="cpu", checkpoint_every=1000)
    history = json.loads((tmp_path / "more" / "history.json").read_text())
    losses = [row["loss_names"] for row in history if "loss_names" in row]
    assert losses[-1] < 0.3 * losses[0], losses
    model = InternVLForConditionalGeneration.from_pretrained(tmp_path / "more")
    namer = WOWSegNamer(model, tiny.tokenizer(), "cpu", **asked)
    record = file[2]
    found = namer(file.read_image(2), Segments(record.size, record.rles))
    assert list(found.labels) == list(record.names)


def test_flash_attention_is_refused() -> None:
    model = tiny.model()
    model.config._attn_implementation = "flash_attention_2"
    with pytest.raises(InputError, match="sdpa"):
        fitting_mask(model, torch.ones(1, 1, 2, 2, dtype=torch.bool), torch.float32)


def test_wrong_arguments_say_what_to_give(tmp_path: Path) -> None:
    region_files(tmp_path)
    for options, message in (
        (["--init", str(tmp_path)], "folder"),
        (["--layout", "x"], "branch or released"),
        (["--schedule", "x"], "paper or released"),
    ):
        result = RUN.invoke(
            app,
            ["train", "wowseg", "--data", str(tmp_path / "regions.jsonl"), "-o", "o", *options],
        )
        assert message.lower() in str(result.exception).lower()
