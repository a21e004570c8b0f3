"""A run's samples are a pure function of their numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pictures import write_coco

from anymask.training.mixture import Augmentation, Mixture, Phase, Source


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("data"), count=4)


def mixture(truth: Path, **source: object) -> Mixture:
    return Mixture(
        [Source(truth, truth.parent, **source)],  # type: ignore[arg-type]
        [Phase(6, 32), Phase(4, 64)],
        Augmentation(scale=(0.8, 1.5), anchor="anywhere", color=0.3, copy_paste=0.5, min_area=9),
        seed=3,
    )


def test_sizes_follow_the_phases(truth: Path) -> None:
    data = mixture(truth)
    assert len(data) == 10
    assert [data[k]["image"].shape[0] for k in (0, 5, 6, 9)] == [32, 32, 64, 64]
    with pytest.raises(IndexError):
        data[10]


def test_samples_are_reproducible_and_differ(truth: Path) -> None:
    one, two = mixture(truth, donor=True), mixture(truth, donor=True)
    for index in (0, 3, 8):
        a, b = one[index], two[index]
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["masks"], b["masks"])
        assert a["seed"] == b["seed"]
    assert not torch.equal(one[0]["image"], one[1]["image"])


def test_unlabelled_is_not_negative_unless_the_source_is_exhaustive(truth: Path) -> None:
    federated, full = mixture(truth)[7], mixture(truth, exhaustive=True)[7]
    assert full["labelled"].all()
    assert not federated["labelled"].all()
    covered = federated["masks"].bool().any(0)
    assert federated["labelled"][covered].all()


def test_only_chosen_pictures_are_drawn(truth: Path) -> None:
    only = mixture(truth, image_ids=frozenset({2}))
    assert only._ids == [[2]]
