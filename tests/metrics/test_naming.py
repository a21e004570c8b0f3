"""Semantic similarity and semantic IoU of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anymask.errors import CheckpointError, InputError
from anymask.metrics.naming import naming_scores, naming_summary, prepared, semantic_iou
from anymask.nn import sentence_encoder
from anymask.nn.sentence_encoder import load_sentence_encoder, packaged_folder


def letters(texts: list[str]) -> np.ndarray:
    rows = np.array(
        [[text.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for text in texts]
    )
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(norm, 1e-9)


def test_semantic_iou_by_hand() -> None:
    assert semantic_iou("red car", "Car") == 0.5
    assert semantic_iou("red red car", "car") == 0.5
    assert semantic_iou("person.", "person") == 0
    assert semantic_iou("", "") == 0


def test_the_two_scorers_prepare_differently() -> None:
    assert prepared("trash_can:lid", "bow_(decorative)") == ("trash can lid", "bow")
    assert prepared("It is: a bow, red.", "bow_(x)", "osprey") == (" a bow  red ", "bow (x)")
    with pytest.raises(InputError, match="wowseg or osprey"):
        prepared("a", "b", "other")  # type: ignore[arg-type]


def test_scores_and_means() -> None:
    similarity, overlap = naming_scores(["dog", "cat"], ["dog", "act"], letters)
    np.testing.assert_allclose(similarity, [1, 1])
    assert overlap.tolist() == [1, 0]
    found = naming_summary(similarity, overlap)
    assert found["semantic_iou"] == 0.5
    assert np.isnan(naming_summary(np.zeros(0), np.zeros(0))["semantic_iou"])
    with pytest.raises(InputError, match="2 names"):
        naming_scores(["a", "b"], ["a"], letters)


def test_the_packaged_encoder_is_the_original() -> None:
    if packaged_folder() is None:
        pytest.skip("needs the extra offline")
    encode = load_sentence_encoder()
    vectors = encode(["a dog", "a puppy", "a stock market crash", "a dog"])
    assert vectors.shape == (4, 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert vectors[0] @ vectors[1] > 0.6 > vectors[0] @ vectors[2]
    assert encode([]).shape == (0, 384)


def test_another_file_under_its_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    if packaged_folder() is None:
        pytest.skip("needs the extra offline")
    monkeypatch.setitem(sentence_encoder.DIGESTS, "config.json", "0" * 64)
    with pytest.raises(CheckpointError, match="not the original"):
        packaged_folder()


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_sentence_encoder(tmp_path)
