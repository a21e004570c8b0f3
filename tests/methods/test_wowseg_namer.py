"""Naming all masks at once equals naming them one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import wowseg_tiny as tiny

from anymask.errors import CheckpointError, InputError, SegmentsError
from anymask.image import Image
from anymask.methods.wowseg import inference
from anymask.methods.wowseg.cascade_attention_mask import branch_mask, branch_positions
from anymask.methods.wowseg.inference import WOWSegNamer
from anymask.methods.wowseg.packed import embeddings, packed_logits, region_tokens
from anymask.methods.wowseg.picture import prepare
from anymask.methods.wowseg.prompt import make_prompt
from anymask.segments import Segments


def picture() -> Image:
    rng = np.random.default_rng(1)
    return Image(rng.integers(0, 256, (50, 70, 3), dtype=np.uint8))


def masks() -> Segments:
    dense = np.zeros((5, 50, 70), bool)
    dense[0, 5:25, 5:30] = True
    dense[1, 20:45, 40:66] = True
    dense[2, 10:12, 30:60] = True
    dense[3, 30:48, 2:20] = True
    # 4 is empty
    return Segments.from_masks(dense, labels=["kept", None, None, None, "old"])


@pytest.fixture(scope="module")
def namer() -> WOWSegNamer:
    return WOWSegNamer(tiny.model(torch.float64), tiny.tokenizer(), "cpu", most_tiles=4)


def one_by_one(namer: WOWSegNamer, segments: Segments, longest: int) -> list[tuple[str, float]]:
    """The official way: one mask a call, everything read anew for every word."""
    found = []
    for row in range(len(segments)):
        seen = prepare(
            picture(), [segments.mask(row)], most_tiles=4, side=tiny.SIDE, grid=tiny.GRID
        )
        if not seen.rows:
            continue
        cells = tiny.GRID**2
        prompt = make_prompt(namer.tokenizer, len(seen.tiles) * cells)
        region = int(seen.selectors[0].sum())
        ids = [*prompt.prefix, *prompt.region(region), *prompt.suffix]
        both = namer._look(torch.cat([seen.tiles, seen.crops_of_masks]))
        crop = torch.tensor([False] * len(seen.tiles) + [True])
        visual = region_tokens(both, crop, seen.selectors)
        answer: list[int] = []
        total = 0.0
        with torch.inference_mode():
            for _ in range(longest):
                row_ids = torch.tensor([[*ids, *answer]])
                embeds = embeddings(namer.model, row_ids, visual)
                chances = namer.model(inputs_embeds=embeds).logits[0, -1].log_softmax(-1)
                number = int(chances.argmax())
                total += float(chances[number])
                if number == prompt.end or number in prompt.separators:
                    break
                answer.append(number)
        found.append((namer.tokenizer.decode(answer, skip_special_tokens=True).strip(), total))
    return found


def test_all_at_once_equals_one_by_one(namer: WOWSegNamer) -> None:
    segments = masks()
    wanted = one_by_one(namer, segments, 6)
    found = sorted(namer.names(picture(), segments, longest=6), key=lambda one: one.row)
    assert [one.status for one in found] == ["ok"] * 4 + ["empty_mask"]
    for one, (answer, log_probability) in zip(found[:4], wanted, strict=True):
        assert one.answer == answer
        assert one.log_probability == pytest.approx(log_probability, abs=1e-8)
    assert len({one.answer for one in found[:4]}) > 1


def test_a_name_does_not_depend_on_the_other_masks(namer: WOWSegNamer) -> None:
    segments = masks()
    whole = {one.row: one for one in namer.names(picture(), segments, longest=6)}
    alone = next(iter(namer.names(picture(), segments[1:2], longest=6)))
    assert alone.answer == whole[1].answer
    assert alone.log_probability == pytest.approx(whole[1].log_probability, abs=1e-10)


def test_chunks_change_nothing(namer: WOWSegNamer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(namer.names(picture(), masks(), longest=4))
    monkeypatch.setattr(inference, "CACHE_BYTES", 1)
    monkeypatch.setattr(inference, "CROPS_AT_ONCE", 1)
    parts = list(namer.names(picture(), masks(), longest=4))
    assert [one.answer for one in parts] == [one.answer for one in whole]
    assert [one.row for one in parts] == [one.row for one in whole]


@torch.inference_mode()
def test_the_packed_forward_gives_the_same_first_words(namer: WOWSegNamer) -> None:
    """Training's one forward: prefix, then a branch for every mask."""
    segments = masks()
    seen = prepare(
        picture(), [segments.mask(k) for k in range(4)],
        most_tiles=4, side=tiny.SIDE, grid=tiny.GRID,
    )  # fmt: skip
    prompt = make_prompt(namer.tokenizer, len(seen.tiles) * tiny.GRID**2)
    counts = seen.selectors.flatten(1).sum(1).tolist()
    ids, tags, ends = list(prompt.prefix), [0] * len(prompt.prefix), []
    for number, count in enumerate(counts, 1):
        branch = [*prompt.region(count), *prompt.suffix]
        ids += branch
        tags += [number] * len(branch)
        ends.append(len(ids) - 1)
    both = namer._look(torch.cat([seen.tiles, seen.crops_of_masks]))
    crop = torch.tensor([False] * len(seen.tiles) + [True] * len(counts))
    visual = region_tokens(both, crop, seen.selectors)
    branch_tags = torch.tensor([tags])
    logits = packed_logits(
        namer.model,
        embeddings(namer.model, torch.tensor([ids]), visual),
        branch_mask(branch_tags),
        branch_positions(branch_tags),
    )[0, ends]
    found = sorted(namer.names(picture(), segments[:4], longest=1), key=lambda one: one.row)
    for row, one in enumerate(found):
        best = logits[row].log_softmax(-1).max()
        assert one.log_probability == pytest.approx(float(best), abs=1e-8)


def test_eager_attention_gets_a_mask_it_can_add() -> None:
    """A bool mask would be added as 0 and 1 there, and everything would see everything."""
    plain, eager = tiny.model(torch.float64), tiny.model(torch.float64)
    eager.set_attn_implementation("eager")
    tags = torch.tensor([[0, 0, 0, 1, 1, 2, 2]])
    embeds = torch.randn(1, 7, 32, dtype=torch.float64)
    both = [
        packed_logits(m, embeds, branch_mask(tags), branch_positions(tags)) for m in (plain, eager)
    ]
    # The library's eager attention takes its softmax in float32.
    torch.testing.assert_close(both[0], both[1], atol=1e-5, rtol=1e-3)


def test_segments_come_back_named(namer: WOWSegNamer) -> None:
    segments = masks()
    found = namer(picture(), segments, longest=4)
    assert found.rles == segments.rles
    assert found.labels[4] == "old"  # nothing can be said of an empty mask
    for row in range(4):
        if found.label_sources[row] == "wowseg":
            assert 0 < found.label_scores[row] <= 1
    drawn = [
        [one.answer for one in namer.names(picture(), segments, longest=4, temperature=2.0, seed=s)]
        for s in (1, 1, 2)
    ]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("encoding", ["fore2token", "blur2token"])
def test_other_encodings_keep_all_tokens(encoding: Any) -> None:
    segments = masks()
    seen = prepare(picture(), [segments.mask(0)], side=tiny.SIDE, grid=tiny.GRID, encoding=encoding)
    plain = prepare(picture(), [segments.mask(0)], side=tiny.SIDE, grid=tiny.GRID)
    assert seen.selectors.all()
    assert not plain.selectors.all()
    assert (seen.crops - plain.crops).abs().max() > 0.1


def test_masks_share_windows() -> None:
    """A window is looked at once; with a share, masks use each other's if those hold them."""
    dense = np.zeros((4, 50, 70), bool)
    dense[0, 10:40, 10:50] = True
    dense[1, 15:38, 15:45] = True  # a part of it
    dense[2] = dense[0]
    dense[3, 2:6, 60:66] = True  # elsewhere, and small
    options = {"side": tiny.SIDE, "grid": tiny.GRID}
    plain = prepare(picture(), list(dense), **options)
    assert (len(plain.crops), plain.crop_of) == (3, (0, 1, 0, 2))
    shared = prepare(picture(), list(dense), share=1.75, **options)
    assert (len(shared.crops), shared.crop_of) == (2, (0, 0, 0, 1))
    assert shared.boxes[1] == plain.boxes[0]
    assert shared.selectors[1].any()
    assert torch.equal(shared.crops_of_masks[0], plain.crops_of_masks[0])
    own = prepare(picture(), list(dense), encoding="fore2token", share=1.75, **options)
    assert len(own.crops) == 4  # what is shown depends on the mask

    looked = []

    class Counting(WOWSegNamer):
        def _look(self, pictures: torch.Tensor) -> torch.Tensor:
            looked.append(len(pictures))
            return super()._look(pictures)

    model = tiny.model(torch.float64)
    segments = Segments.from_masks(dense)
    once = Counting(model, tiny.tokenizer(), "cpu", most_tiles=4)
    found = sorted(once.names(picture(), segments, longest=4), key=lambda one: one.row)
    assert looked[1:] == [3]
    assert found[0].answer == found[2].answer


def test_mistakes_are_explained(namer: WOWSegNamer) -> None:
    other = Segments.from_masks(np.ones((1, 5, 5), bool))
    with pytest.raises(SegmentsError, match="masks belong to a picture"):
        list(namer.names(picture(), other))
    with pytest.raises(InputError, match="places for visual tokens"):
        embeddings(namer.model, torch.tensor([[1, 2, 3]]), torch.zeros(2, 32))
    from anymask.nn.text_tokens import train_tokenizer

    with pytest.raises(CheckpointError, match="has no <"):
        make_prompt(train_tokenizer(["a b"], 300, 20), 4)


def test_names_are_asked_again(namer: WOWSegNamer) -> None:
    from anymask.methods.wowseg.verification import answer_tokens, marked, verify

    segments = masks().with_labels(["red cup", None, "dog", "cat", None], [np.nan] * 5, [None] * 5)
    sure = verify(namer, picture(), segments)
    assert np.isnan(sure[[1, 4]]).all()
    assert ((sure[[0, 2, 3]] > 0) & (sure[[0, 2, 3]] < 1)).all()
    assert len(set(sure[[0, 2, 3]].tolist())) == 3
    alone = verify(namer, picture(), segments[2:3])
    assert alone[0] == pytest.approx(sure[2], abs=1e-6)
    yes, no = answer_tokens(namer.tokenizer)
    assert not set(yes) & set(no)
    drawn = marked(picture(), segments.mask(0))
    assert tuple(drawn.pixels[5, 5]) == (255, 0, 0)
    outside = ~segments.mask(0)
    assert (drawn.pixels[outside] == picture().pixels[outside]).all()
