"""`match`: words to segments, in every way of asking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import ovsnet_tiny as tiny
import PIL.Image
import pytest
import torch
from pictures import ellipses
from safetensors.torch import save_file
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.cli.match import read_words
from anymask.data.formats.coco import write_coco_dataset
from anymask.errors import CheckpointError, InputError, SegmentsError, VocabularyError
from anymask.image import Image, read_image
from anymask.methods.ovsnet.inference import OVSNetMatcher, kinds_of
from anymask.methods.ovsnet.text import TextEncoder
from anymask.ops import mask_classification
from anymask.ops.rle import decode
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

WORDS = ["cat", ["dog", "hound"], "sky"]


def picture(seed: int = 2, height: int = 60, width: int = 90) -> Image:
    return read_image(ellipses(seed, height, width)[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("ovsnet"), training_words=(("cat",), ("grass",)))


@pytest.fixture
def matcher() -> OVSNetMatcher:
    return OVSNetMatcher(tiny.trained(classify_with="query"), tiny.tokenizer(), "cpu")


def test_semantic_covers_the_picture_once(matcher: OVSNetMatcher) -> None:
    found = anymask.match(picture(), WORDS, model=matcher)
    assert found.masks.sum(0).min() == found.masks.sum(0).max() == 1
    assert 2 <= len(found) <= 3
    assert set(found.labels) <= {"cat", "dog", "sky"}
    numbers = {"cat": 1, "dog": 2, "sky": 3}
    assert list(found.ids) == [numbers[str(label)] for label in found.labels]
    labels = matcher.label_map(picture(), Vocabulary.of(WORDS))
    for row, label in enumerate(found.labels):
        assert np.array_equal(labels == numbers[str(label)] - 1, found.mask(row))


def test_stripes_do_not_matter(matcher: OVSNetMatcher, monkeypatch: pytest.MonkeyPatch) -> None:
    vocabulary = Vocabulary.from_names([f"word {k}" for k in range(40)])
    whole = [matcher(picture(), vocabulary, task) for task in ("semantic", "panoptic")]  # type: ignore[arg-type]
    monkeypatch.setattr(mask_classification, "VALUES_AT_ONCE", 1)
    assert whole[0] == matcher(picture(), vocabulary, "semantic")
    assert whole[1] == matcher(picture(), vocabulary, "panoptic")


def test_void_pixels_belong_to_nothing(matcher: OVSNetMatcher) -> None:
    everything = anymask.match(picture(), WORDS, model=matcher)
    scores = mask_classification.semantic(
        matcher.encode(picture()).canvas,
        matcher.classify(matcher.encode(picture()), matcher.words(Vocabulary.of(WORDS))),
    )[1]
    middle = float(np.median(scores))
    some = anymask.match(picture(), WORDS, model=matcher, void_threshold=middle)
    assert 0 < some.masks.sum() < everything.masks.sum()
    nothing = anymask.match(picture(), WORDS, model=matcher, void_threshold=1e9)
    assert len(nothing) == 0


def test_panoptic_and_instances(matcher: OVSNetMatcher) -> None:
    matcher.model.config.overlap_threshold = 0.1
    found = anymask.match(picture(), WORDS, task="panoptic", model=matcher)
    assert found.masks.sum(0).max() <= 1
    assert list(found.labels).count("sky") <= 1  # stuff, as COCO says
    ranked = anymask.match(picture(), WORDS, task="instance", model=matcher)
    assert len(ranked)
    assert "sky" not in ranked.labels
    assert list(ranked.scores) == sorted(ranked.scores, reverse=True)
    assert (ranked.scores >= 0).all()
    assert (ranked.scores <= 1).all()
    best = anymask.match(picture(), WORDS, task="instance", model=matcher, min_score=0.9999)
    assert len(best) < len(ranked)


def test_what_is_a_thing() -> None:
    words = Vocabulary.of(["dog", "sky", "gadget"])
    assert kinds_of(words) == [True, False, True]
    path_like = Vocabulary(tuple(c for c in Vocabulary.builtin("coco-panoptic").categories[-3:]))
    assert kinds_of(path_like) == [False] * 3


def test_other_words_do_not_encode_the_picture_again(
    matcher: OVSNetMatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The paper's own demonstration: "building" becomes "opera house"."""
    calls: list[Any] = []
    forward = matcher.model.forward
    monkeypatch.setattr(
        matcher.model, "forward", lambda *a, **k: calls.append(1) or forward(*a, **k)
    )
    before = anymask.match(picture(), ["building", "sky"], model=matcher)
    after = anymask.match(picture(), ["opera house", "sky"], model=matcher)
    assert len(calls) == 1
    assert "building" not in after.labels
    assert "opera house" not in before.labels
    anymask.match(picture(1), ["building"], model=matcher)
    assert len(calls) == 2


def test_given_masks_are_labelled(matcher: OVSNetMatcher) -> None:
    pixels, masks = ellipses(3, 60, 90)
    segments = Segments.from_masks(masks)
    found = anymask.match(pixels, WORDS, segments=segments, model=matcher)
    assert found.rles == segments.rles
    assert set(found.labels) <= {"cat", "dog", "sky"}
    assert all(0 < score <= 1 for score in found.label_scores)
    # One pixel lies in no cell of its own on the coarse map, and still gets its word.
    dot = np.zeros((60, 90), bool)
    dot[30, 40] = True
    assert anymask.match(pixels, WORDS, segments=Segments.from_masks(dot[None]), model=matcher)
    with pytest.raises(SegmentsError, match="belong to a picture"):
        anymask.match(picture(1, 40, 40), WORDS, segments=segments, model=matcher)


def test_tiles(matcher: OVSNetMatcher) -> None:
    large = picture(5, 150, 200)
    found = anymask.match(large, WORDS, model=matcher, tile=96)
    assert found.size == (150, 200)
    assert found.masks.sum(0).min() == found.masks.sum(0).max() == 1
    ranked = anymask.match(large, WORDS, task="instance", model=matcher, tile=96)
    assert list(ranked.scores) == sorted(ranked.scores, reverse=True)
    with pytest.raises(InputError, match="not made in tiles"):
        anymask.match(large, WORDS, task="panoptic", model=matcher, tile=96)


def test_words_are_read_once(tmp_path: Path) -> None:
    model = tiny.model()
    encoder = TextEncoder(model.clip, tiny.tokenizer(), ("a photo of a {}.", "{}"), tmp_path)
    words = encoder.words(Vocabulary.of(WORDS), [["hound"], ["tree"]])
    assert words.counts == (1, 2, 1)
    assert words.seen.tolist() == [False, True, False]
    assert torch.allclose(words.rows.norm(dim=-1), torch.ones(4))
    # Another process: nothing is read aloud again.
    again = TextEncoder(model.clip, None, ("a photo of a {}.", "{}"), tmp_path)
    assert torch.equal(again.words(Vocabulary.of(WORDS)).rows, words.rows)
    # Another model's words are its own; a damaged file is made anew.
    other = tiny.model()
    with torch.no_grad():
        other.clip.text.text_projection.weight.add_(1.0)
    fresh = TextEncoder(other.clip, tiny.tokenizer(), ("a photo of a {}.", "{}"), tmp_path)
    assert not torch.equal(fresh.words(Vocabulary.of(WORDS)).rows, words.rows)
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(b"broken")
    repaired = TextEncoder(model.clip, tiny.tokenizer(), ("a photo of a {}.", "{}"), tmp_path)
    assert torch.allclose(repaired.words(Vocabulary.of(WORDS)).rows, words.rows)


def test_a_vocabulary_brings_its_own_templates() -> None:
    encoder = TextEncoder(tiny.model().clip, tiny.tokenizer(), ("a photo of a {}.",))
    plain = Vocabulary.of(["cat"])
    own = plain.with_templates(["a drawing of a {}."])
    assert not torch.equal(encoder.words(plain).rows, encoder.words(own).rows)


def test_padding_does_not_matter() -> None:
    """Words read alone equal words read beside a long sentence."""
    encoder = TextEncoder(tiny.model().clip, tiny.tokenizer(), ("{}",))
    alone = encoder.embed(["cat"])
    beside = encoder.embed(["cat", "a photo of an opera house beside a dog under the sky"])
    assert torch.allclose(alone[0], beside[0], atol=1e-6)


# ---------------------------------------------------------------------------------- terminal


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    PIL.Image.fromarray(ellipses(1, 60, 90)[0]).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(app, ["match", *map(str, arguments)])


def test_the_command(photo: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = invoke(photo, "--words", "cat,dog,sky", "--model", folder, "--out", out)
    assert done.exit_code == 0, done.output
    content = json.loads((out / "photo.json").read_text())
    assert {c["name"] for c in content["categories"]} <= {"cat", "dog", "sky"}
    overlay = PIL.Image.open(out / "photo.overlay.jpg")
    assert overlay.width == 90
    assert overlay.height > 60  # the legend
    again = invoke(photo, "--words", "cat,dog,sky", "--model", folder, "--out", out)
    assert "1 already done" in again.output
    other = invoke(photo, "--words", "cat,dog,grass", "--model", folder, "--out", out)
    assert "1 pictures done" in other.output


def test_words_of_the_command(tmp_path: Path) -> None:
    assert read_words("dog").names == ("dog",)
    assert read_words("dog, hot dog,").names == ("dog", "hot dog")
    assert len(read_words("voc-20")) == 20
    for typo in ("voc20", "words.txt", "lists/mine"):
        with pytest.raises(VocabularyError):
            read_words(typo)
    wrong = invoke(tmp_path, "--words", "cat", "--task", "x")
    assert "semantic, panoptic, instance" in str(wrong.exception)


def test_the_command_labels_given_masks(photo: Path, folder: Path, tmp_path: Path) -> None:
    masks = Segments.from_masks(ellipses(1, 60, 90)[1])
    write_coco_dataset(tmp_path / "masks.json", [({"file_name": "photo.png"}, masks)])
    out = tmp_path / "out"
    done = invoke(
        photo, "-w", "cat,dog", "--segments", tmp_path / "masks.json", "--model", folder, "-o", out
    )
    assert done.exit_code == 0, done.output
    assert len(json.loads((out / "photo.json").read_text())["annotations"]) == len(masks)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"task": "x"}, InputError, "semantic, panoptic"),
        ({"min_score": 2}, InputError, "between 0 and 1"),
        ({"tile": 3}, InputError, "at least 64"),
        ({"model": "segprompt-pocket"}, CheckpointError, "model for discover"),
        ({"model": "nonsense"}, CheckpointError, "takes no words"),
        ({"vocabulary": []}, InputError, "empty"),
        ({"vocabulary": "no such list"}, VocabularyError, "built in are"),
    ],
)
def test_what_cannot_be_asked(
    options: dict[str, Any],
    error: type[Exception],
    match: str,
    matcher: OVSNetMatcher,
) -> None:
    asked = {"vocabulary": WORDS, "model": matcher, **options}
    with pytest.raises(error, match=match):
        anymask.match(picture(), asked.pop("vocabulary"), **asked)


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="has no tokenizer"):
        anymask.match(picture(), WORDS, model=tmp_path)


def test_a_published_file_with_its_clip_and_tokenizer_beside_it(
    tmp_path: Path, folder: Path
) -> None:
    """FC-CLIP's layout at tiny size, CLIP in a file of its own."""
    shared = Path(__file__).parents[3] / "shared" / "golden" / "fcclip_model_linear"
    if not shared.is_dir():
        pytest.skip("../shared/golden/fcclip_model_linear is not there")
    from safetensors.torch import load_file

    state = {
        k.removeprefix("state."): v
        for k, v in load_file(shared / "fixture.safetensors").items()
        if k.startswith("state.")
    }
    prefix = "backbone.clip_model."
    rest = {k: v for k, v in state.items() if not k.startswith(prefix)}
    torch.save({"model": rest}, tmp_path / "fcclip.pth")
    with pytest.raises(CheckpointError, match="no CLIP in it"):
        anymask.match(picture(), WORDS, model=tmp_path / "fcclip.pth")
    clip = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    save_file(clip, tmp_path / "open_clip_model.safetensors")
    from anymask.nn.text_tokens import train_tokenizer

    train_tokenizer(["cat dog"], 300, 16).save_pretrained(tmp_path)
    # The fixture knows 128 tokens; what matters here is that everything is found and loaded.
    with pytest.raises((IndexError, CheckpointError, anymask.AnymaskError)):
        anymask.match(picture(), WORDS, model=tmp_path / "fcclip.pth")


def test_masks_survive_the_round_trip(matcher: OVSNetMatcher, tmp_path: Path) -> None:
    found = anymask.match(picture(), WORDS, model=matcher)
    write_coco_dataset(tmp_path / "all.json", [({"file_name": "a.png"}, found)])
    rows = json.loads((tmp_path / "all.json").read_text())["annotations"]
    back = Segments.from_coco(rows, found.size)
    assert back.labels == found.labels
    assert all(
        np.array_equal(decode(a), decode(b)) for a, b in zip(back.rles, found.rles, strict=True)
    )
