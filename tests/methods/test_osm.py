"""OSM: oracles of its specification, what must hold for any model, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import osm_tiny as tiny
import pytest
import torch
from transformers import InstructBlipForConditionalGeneration

import anymask
from anymask.errors import CheckpointError, InputError, SegmentsError
from anymask.loading import load_namer
from anymask.methods.osm import inference
from anymask.methods.osm.canvas import canvas_pixels, mask_canvas, picture_canvas
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.convert import convert_osm, load_osm
from anymask.methods.osm.decoding import Written
from anymask.methods.osm.files import config_of_osm, save_texts
from anymask.methods.osm.inference import OSMNamer
from anymask.methods.osm.model import IGNORED, OSMModel, text_loss
from anymask.methods.osm.regions import context_masks, visible_tokens
from anymask.methods.osm.templates import TEMPLATES, Texts, box_template, labels_of, question
from anymask.methods.osm.windows import starts, windowed
from anymask.metrics.open_naming import OpenNames
from anymask.ops.merging import merged
from anymask.ops.resize import long_side_size
from anymask.ops.word_forms import accepted
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

# ------------------------------------------------------------- oracles (specification 10)


@pytest.mark.parametrize(
    ("side", "stride", "want", "tokens"),
    [
        (224, 224, [0], 257),
        (448, 224, [0, 224], 1028),
        (896, 224, [0, 224, 448, 672], 4112),
        (896, 168, [0, 168, 336, 504, 672], 4121),
        (1120, 224, [0, 224, 448, 672, 896], 6425),
        (1120, 168, [0, 168, 336, 504, 672, 840, 896], 6449),
    ],
)
def test_o1_windows(side: int, stride: int, want: list[int], tokens: int) -> None:
    found = starts(side, 224, stride)
    assert found == want
    assert len(found) ** 2 + (side // 14) ** 2 == tokens
    assert len(starts(896, 224, 112)) ** 2 + 64**2 == 4145
    assert len(starts(1120, 224, 112)) ** 2 + 80**2 == 6481


def test_o2_order() -> None:
    canvas = torch.arange(16.0).reshape(1, 1, 4, 4).expand(1, 3, 4, 4)

    def eye(crops: torch.Tensor) -> torch.Tensor:
        patches = crops[:, :1].flatten(2).transpose(1, 2)
        return torch.cat([patches.mean(1, keepdim=True), patches], 1)

    found = windowed(canvas, eye, 2, 2, 1, at_once=3)[0, :, 0]
    assert found.tolist() == [2.5, 4.5, 10.5, 12.5, *range(16)]


def test_o3_overlap() -> None:
    counter = iter(range(9))

    def eye(crops: torch.Tensor) -> torch.Tensor:
        numbers = torch.tensor([float(next(counter)) for _ in crops])
        return numbers[:, None, None].expand(-1, 5, 1)

    found = windowed(torch.zeros(1, 3, 4, 4), eye, 2, 1, 1, at_once=4)[0, :, 0]
    assert found[:9].tolist() == list(range(9))
    rows = [[0, 0.5, 1.5, 2], [1.5, 2, 3, 3.5], [4.5, 5, 6, 6.5], [6, 6.5, 7.5, 8]]
    assert found[9:].reshape(4, 4).tolist() == rows


def test_o4_masks_on_the_grid() -> None:
    mask = torch.zeros(2, 28, 28, dtype=torch.bool)
    mask[0, 5:21, 10:28] = True
    mask[1, 1:14, 1:14] = True
    assert visible_tokens(mask, 14, 1).int().tolist() == [[1, 0, 0, 0, 1], [1, 0, 0, 0, 0]]
    assert visible_tokens(mask, 14, 4)[0].int().tolist() == [1, 1, 1, 1, 0, 0, 0, 1]
    # Ours: a mask that no patch's pixel hits may keep the patch of its middle.
    assert visible_tokens(mask, 14, 1, "centroid")[1].int().tolist() == [1, 1, 0, 0, 0]


def test_o5_context() -> None:
    mask = torch.zeros(1, 10, 10, dtype=torch.bool)
    mask[0, 4:7, 2:4] = True
    wide = context_masks(mask, 0.5)[0]
    assert wide.sum() == 24
    assert wide[2:8, 1:5].all()
    assert torch.equal(context_masks(mask, 0.0), mask)
    assert context_masks(mask, -1.0).all()
    corner = torch.zeros(1, 10, 10, dtype=torch.bool)
    corner[0, 0, 9] = True
    assert context_masks(corner, 0.5)[0].nonzero().tolist() == [[0, 8], [0, 9]]


def test_o6_acc_and_niv() -> None:
    words = Vocabulary.builtin("coco-panoptic")
    ids = dict(zip(words.names, words.ids, strict=True))
    said = ["Traffic Lights", "woman", "chair", "monitor", "knife"]
    truth = [ids[n] for n in ("traffic light", "person", "couch", "tv", "knife")]
    judge = OpenNames(words)
    found = judge.summary(said, truth)
    assert found == {"accuracy": 0.6, "not_in_vocabulary": 0.4, "instances": 5.0}
    verdict = judge.judge("dog.", ids["dog"])
    assert (verdict.correct, verdict.not_in_vocabulary) == (False, True)
    assert judge.classes("Traffic Lights") == [ids["traffic light"]]
    assert judge.classes("nonsense") == []
    with pytest.raises(InputError, match="no class"):
        judge.judge("dog", 4711)
    with pytest.raises(InputError, match="names for"):
        judge.summary(["a"], [])


@pytest.mark.parametrize(
    ("word", "forms"),
    [
        ("leaf", "leaf leafs leafes leaves"),
        ("knives", "knives knive kniv knif knife knivess kniveses"),
        ("berries", "berries berrie berri berry berriess berrieses"),
        ("bus", "bus bu buss buses"),
        ("knife", "knife knifes knifees knives"),
    ],
)
def test_o7_forms(word: str, forms: str) -> None:
    assert accepted([word]) == frozenset(forms.split())


def test_o8_labels() -> None:
    ids = torch.tensor([[2, 11, 12, 13, 21, 2, 32000, 32000]])
    assert labels_of(ids, 32000).tolist() == [[-100, 11, 12, 13, 21, 2, -100, -100]]
    logits = torch.zeros(1, 41, 32001)
    assert text_loss(logits, labels_of(ids, 32000)).item() == pytest.approx(np.log(32001))


@pytest.mark.parametrize(
    ("size", "want"),
    [
        ((640, 480), (1120, 840)), ((427, 640), (747, 1120)), ((2048, 1024), (1120, 560)),
        ((640, 426), (1120, 745)), ((500, 500), (1120, 1120)), ((1000, 1001), (1119, 1120)),
        ((1000, 998), (1120, 1118)),
    ],
)  # fmt: skip
def test_o9_resizing(size: tuple[int, int], want: tuple[int, int]) -> None:
    assert long_side_size(*size, 1120) == want
    assert min(long_side_size(2000, 2, 240)) == 1


def test_o12_confidence() -> None:
    found = Written([[5, 6]], [[0.9, 0.8]], torch.zeros(1, 0, 0))
    assert found.confidence(0) == pytest.approx(0.72)


def test_o13_merging() -> None:
    line = np.arange(400)
    spans = ((0, 200), (150, 350), (190, 400), (0, 400))
    masks = [((a <= line) & (line < b))[None] for a, b in spans]
    found, kept = merged(masks, [0.9, 0.8, 0.5, 0.1])
    assert kept == [0, 2]
    assert [int((found == k).sum()) for k in (0, 1, 2)] == [0, 200, 200]


# ------------------------------------------------------ what must hold (specification 10, 17)


def inputs(model: OSMModel, count: int = 2) -> dict[str, Any]:
    torch.manual_seed(1)
    masks = torch.zeros(count, 56, 56, dtype=torch.bool)
    for k in range(count):
        masks[k, 20 * k : 20 * k + 12, 14:35] = True
    asked = torch.randint(5, 200, (1, 6)).expand(count, -1)
    return {
        "features": torch.randn(1, model.num_tokens, 24, dtype=torch.float64),
        "masks": masks,
        "ids": asked,
        "keep": torch.ones_like(asked, dtype=torch.bool),
        "context": context_masks(masks, 0.3),
    }


def test_o17_what_queries_see() -> None:
    model = tiny.model()
    given = inputs(model)
    before = model.look(**given)
    seen = visible_tokens(given["masks"], 7, model.num_windows)
    wide = visible_tokens(given["context"], 7, model.num_windows)

    def after(token: int) -> torch.Tensor:
        features = given["features"].clone()
        features[0, token] += 1
        return (model.look(**{**given, "features": features}) - before).abs().amax((1, 2))

    hidden = int((~wide.any(0)).nonzero()[0])
    assert after(hidden).tolist() == [0, 0]
    context_only = int((wide[0] & ~seen[0] & ~wide[1]).nonzero()[0])
    assert after(context_only)[0] > 1e-9  # through self-attention, in a later layer
    assert after(context_only)[1] == 0
    assert after(0).min() > 1e-9  # class tokens are seen by all


def test_o17_modes() -> None:
    model = tiny.model()
    given = inputs(model)
    ids = torch.randint(5, 200, (2, 5))
    keep = torch.ones_like(ids, dtype=torch.bool)

    def logits(mode: str) -> torch.Tensor:
        looked = model.look(**given, mode=mode)
        return model.read(model.prompt(looked, mode), ids, keep)

    assert torch.equal(logits("coco"), logits("coco"))
    assert (logits("coco") - logits("any")).abs().max() > 1e-6
    before, told = model.look(**given, mode="coco"), logits("coco")
    with torch.no_grad():
        model.qformer_mode_query["coco"].mul_(2)  # a layer norm comes first
    torch.testing.assert_close(model.look(**given, mode="coco"), before, atol=1e-6, rtol=1e-6)
    with torch.no_grad():
        model.mode_query["coco"].mul_(2)
    assert (logits("coco") - told).abs().max() > 1e-3
    with pytest.raises(InputError, match="known are coco, lvis, any"):
        model.look(**given, mode="x")


def test_o17_queries_alike_answer_alike() -> None:
    model = tiny.model()
    given = inputs(model)
    everything = torch.ones_like(given["masks"])
    with torch.no_grad():
        model.mask_query.copy_(model.query_tokens)
    found = model.look(**{**given, "masks": everything, "context": everything})
    with torch.no_grad():
        model.mask_query.add_(0.1)
    assert not torch.allclose(model.look(**given), found)


def test_masks_of_one_picture_share_it() -> None:
    """One row of features for all masks equals a row a mask."""
    model = tiny.model()
    given = inputs(model, 3)
    alone = model.look(**{**given, "features": given["features"].expand(3, -1, -1)})
    torch.testing.assert_close(model.look(**given), alone, atol=1e-10, rtol=0)


def test_o17_gradients() -> None:
    model = tiny.model().train()
    words, names = tiny.texts(), ["red cup", "dog"]
    texts = words.taught([question(0), question(4)], names, "answer_only")
    masks = inputs(model)["masks"]
    pixels = torch.randn(2, 3, 56, 56, dtype=torch.float64)
    arguments = {
        k: texts[k] for k in ("input_ids", "attention_mask", "qformer_ids", "qformer_mask")
    }
    output = model(pixels, masks, mode="coco", labels=texts["labels"], **arguments)
    output.loss.backward()
    for name, value in model.named_parameters():
        frozen = name.startswith(("vision_model.", "language_model."))
        if frozen:
            assert value.grad is None, name
        elif "mode_query" in name and "coco" not in name:
            assert not value.grad.any(), name
        elif name in ("window_pos_embed", "mask_query", "query_tokens", "mode_query.coco",
                      "qformer_mode_query.coco", "language_projection.weight"):  # fmt: skip
            assert value.grad.abs().max() > 0, name
    # Only the name and its end are taught; the released way teaches the question too.
    taught = texts["labels"][0] != IGNORED
    language = words.language
    assert language.decode(texts["labels"][0][taught]).strip() == "red cup" + language.eos_token
    everything = words.taught([question(0)], ["red cup"], "full_text")
    assert (everything["labels"] != IGNORED).sum() == everything["input_ids"].numel() - 1


def test_global_positions_cover_the_canvas() -> None:
    whole = tiny.model(windows=False)
    assert whole.num_windows == 1
    pixels = torch.randn(1, 3, 56, 56, dtype=torch.float64)
    assert whole.encode(pixels).shape == (1, 1 + 64, 24)
    plain = tiny.model(modes=[])
    given = inputs(plain)
    assert plain.prompt(plain.look(**given, mode=None), None).shape == (2, 4, 40)
    with pytest.raises(ValueError, match="multiple of the patch"):
        OSMConfig(base_config=tiny.base(), canvas=50, stride=28)
    with pytest.raises(ValueError, match="smaller than a window"):
        OSMConfig(base_config=tiny.base(), canvas=14, stride=14)
    with pytest.raises(ValueError, match="loss_on"):
        OSMConfig(base_config=tiny.base(), canvas=56, stride=28, loss_on="x")


def test_full_size() -> None:
    with torch.device("meta"):
        model = OSMModel(OSMConfig())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 197_954_176
    assert model.num_tokens == 6425


def test_templates() -> None:
    assert len(set(TEMPLATES)) == 19
    assert question() == "What is in the segmentation mask? Assistant:"
    assert box_template(TEMPLATES[17]) == "Let me know what you can perceive in the box region."
    assert all("segmentation mask" not in box_template(t) for t in TEMPLATES)
    said = tiny.texts()
    with pytest.raises(CheckpointError, match="pads with its end"):
        Texts(said.language, said.qformer, 5, 5)
    with pytest.raises(CheckpointError, match="begins texts with token"):
        Texts(said.language, said.qformer, 5, 6, first=99_999)


# ---------------------------------------------------------------------------------- the namer


def masks() -> Segments:
    dense = np.zeros((4, 45, 60), bool)
    dense[0, 4:30, 4:30] = True
    dense[1, 20:44, 30:59] = True
    dense[2, 2:4, 2:4] = True  # between the patches' pixels
    return Segments.from_masks(dense, labels=["kept", None, None, "old"])


@pytest.fixture(scope="module")
def namer() -> OSMNamer:
    return OSMNamer(tiny.model(), tiny.texts(), "cpu")


def test_a_model_without_modes_is_asked_for_none() -> None:
    plain = OSMNamer(tiny.model(modes=[]), tiny.texts(), "cpu")
    assert plain.mode is None
    assert len(list(plain.names(tiny.picture(), masks(), longest=2))) == len(masks())
    assert OSMNamer(tiny.model(), tiny.texts(), "cpu").mode == "any"


def test_all_masks_equal_one_at_a_time(namer: OSMNamer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedy names by a loop over whole forwards, a mask and a word at a time."""
    model, said = namer.model, namer.texts
    found = {one.row: one for one in namer.names(tiny.picture(), masks(), longest=4)}
    assert found[3].status == "empty_mask"
    pixels = canvas_pixels(picture_canvas(tiny.picture(), 56))[None].double()
    laid = torch.from_numpy(mask_canvas(masks().masks, 56))
    language, qformer = said.asked(question())
    with torch.inference_mode():
        features = model.encode(pixels)
        for row in range(3):
            keep = torch.ones_like(qformer).bool()
            mask = laid[row : row + 1]
            looked = model.look(features, mask, qformer, keep, "any", lost="centroid")
            prompt = model.prompt(looked, "any")
            answer: list[int] = []
            total = 0.0
            for _ in range(4):
                ids = torch.cat([language, torch.tensor([answer], dtype=torch.int64)], 1)
                last = model.read(prompt, ids, torch.ones_like(ids).bool())[0, -1].log_softmax(-1)
                if int(last.argmax()) == said.end:
                    break
                answer.append(int(last.argmax()))
                total += float(last.max())
            text = said.language.decode(answer, skip_special_tokens=True).strip()
            assert found[row].name == text
            assert found[row].log_probability == pytest.approx(total, abs=1e-8)
    monkeypatch.setattr(inference, "AT_ONCE", 1)
    again = {one.row: one for one in namer.names(tiny.picture(), masks(), longest=4)}
    for row in range(3):
        assert again[row].name == found[row].name
        assert again[row].log_probability == pytest.approx(found[row].log_probability, abs=1e-8)


def test_a_given_vocabulary_is_weighed(namer: OSMNamer) -> None:
    words = Vocabulary.from_names([("red cup", "cup"), "dog", "blue ball"])
    shares = namer.score(tiny.picture(), masks(), words)
    assert shares.shape == (4, 3)
    np.testing.assert_allclose(shares[:3].sum(1), 1, atol=1e-6)
    assert np.isnan(shares[3]).all()
    # By hand: mean log-probability of a word's tokens and its end, in one forward.
    said, model = namer.texts, namer.model
    language, qformer = said.asked(question())
    laid = torch.from_numpy(mask_canvas(masks().masks[:1], 56))
    pixels = canvas_pixels(picture_canvas(tiny.picture(), 56))[None].double()
    best = []
    with torch.inference_mode():
        keep = torch.ones_like(qformer).bool()
        looked = model.look(model.encode(pixels), laid, qformer, keep, "any", lost="centroid")
        prompt = model.prompt(looked, "any")
        for category in words.categories:
            scores = []
            for word in category.words:
                whole = said.language(f"{question()} {word}")["input_ids"]
                ids = torch.tensor([[*whole, said.end]])
                logits = model.read(prompt, ids, torch.ones_like(ids).bool())
                gained = logits[:, prompt.shape[1] - 1 : -1].log_softmax(-1)
                each = gained.gather(2, ids[..., None])[0, language.shape[1] :, 0]
                scores.append(float(each.mean()))
            best.append(max(scores))
    want = torch.tensor(best, dtype=torch.float64).softmax(0)
    np.testing.assert_allclose(shares[0], want.numpy(), atol=1e-6)


def test_in_the_library(namer: OSMNamer, tmp_path: Path) -> None:
    named = anymask.name(tiny.picture(), masks(), model=namer, longest=3, mode="coco")
    assert named.labels[3] == "old"
    assert set(named.label_sources[:3]) <= {"osm", None}
    chosen = anymask.name(tiny.picture(), masks(), model=namer, vocabulary=["dog", "cat"],
                          by="likelihood")  # fmt: skip
    assert set(chosen.labels[:3]) <= {"dog", "cat"}
    assert (chosen.label_scores[:3] >= 0.5).all()
    for options, message in (
        ({"verify": True}, "neither verifies"),
        ({"by": "likelihood"}, "needs a vocabulary"),
        ({"by": "luck"}, "meaning, word, likelihood"),
        ({"mode": "x"}, "no mode"),
    ):
        with pytest.raises(InputError, match=message):
            anymask.name(tiny.picture(), masks(), model=namer, **options)  # type: ignore[arg-type]
    with pytest.raises(SegmentsError, match="masks belong"):
        anymask.name(tiny.picture(), np.ones((1, 3, 3), bool), model=namer)
    folder = tmp_path / "osm"
    tiny.model(torch.float32).save_pretrained(folder)
    save_texts(tiny.texts(), folder)
    again = load_namer(folder, "cpu")
    assert isinstance(again, OSMNamer)
    before = OSMNamer(tiny.model(torch.float32), tiny.texts(), "cpu")
    assert (
        again(tiny.picture(), masks(), longest=3).labels
        == before(tiny.picture(), masks(), longest=3).labels
    )


def test_published_files(tmp_path: Path) -> None:
    """The trained part as its authors save it, beside InstructBLIP's own folder."""
    whole = tiny.model(torch.float32)
    base = InstructBlipForConditionalGeneration(tiny.base())
    mine = {k: v for k, v in whole.state_dict().items() if k in base.state_dict()}
    base.load_state_dict(mine, strict=False)
    base.save_pretrained(tmp_path)
    save_texts(tiny.texts(), tmp_path)
    trained = {
        k: v
        for k, v in whole.state_dict().items()
        if not k.startswith(("vision_model.", "language_model."))
    }
    own = ("mask_query", "window_pos_embed", "mode_query.", "qformer_mode_query.")
    theirs = {
        f"module.{k}" if k.startswith(own) else f"module.base_model.{k}": v
        for k, v in trained.items()
    }
    theirs["module.context_query"] = trained["query_tokens"].clone()
    torch.save({"epoch": 3, "model_state_dict": theirs}, tmp_path / "osm_final.pt")
    found = load_namer(tmp_path / "osm_final.pt", "cpu")
    assert isinstance(found, OSMNamer)
    assert (found.model.config.canvas, found.model.config.stride) == (56, 28)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, msg=name)
    other = dict(theirs)
    other["module.context_query"] = trained["query_tokens"] + 1
    with pytest.raises(CheckpointError, match="differ"):
        convert_osm(other)
    del theirs["module.mask_query"]
    with pytest.raises(CheckpointError, match="missing: mask_query"):
        load_osm(tiny.model(torch.float32), theirs)
    with pytest.raises(CheckpointError, match="no canvas"):
        config_of_osm(tiny.base(), {"window_pos_embed": torch.zeros(1, 3, 24)})
    (tmp_path / "alone").mkdir()
    torch.save({"module.window_pos_embed": torch.zeros(1)}, tmp_path / "alone" / "x.pt")
    with pytest.raises(CheckpointError, match="beside the files"):
        load_namer(tmp_path / "alone" / "x.pt", "cpu")
