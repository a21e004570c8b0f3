"""Running a discoverer over a data set, and scoring files of results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pictures import write_coco
from skimage import data as pictures_of_skimage

from anymask.data.coco import CocoDataset
from anymask.errors import DataError
from anymask.evaluation import evaluate_discoverer, evaluate_results
from anymask.image import Image, read_image
from anymask.methods.felzenszwalb import Felzenszwalb
from anymask.segments import Segments


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> CocoDataset:
    truth = write_coco(tmp_path_factory.mktemp("data"), count=4)
    content = json.loads(truth.read_text())
    for record in content["images"]:
        record["source"] = "odd" if record["id"] % 2 else "even"
    truth.write_text(json.dumps(content))
    return CocoDataset.read(truth)


def oracle(dataset: CocoDataset):
    by_path = {dataset.image_path(i): i for i in dataset.image_ids}

    def discover(image: Image) -> Segments:
        return dataset.annotations_of(by_path[image.path]).with_scores(
            np.ones(len(dataset.annotations_of(by_path[image.path])))
        )

    return discover


def test_the_truth_itself_scores_one(dataset: CocoDataset) -> None:
    calls = []
    report = evaluate_discoverer(
        oracle(dataset),
        dataset,
        by="source",
        progress=lambda done, total: calls.append((done, total)),
    )
    assert report["AR@100"] == report["AP"] == 1.0
    assert report["source=even: AR@100"] == 1.0
    assert calls[-1] == (4, 4)
    assert report.protocol["images"] == 4
    assert report.data == {"truth.json": dataset.digest()}
    assert "AR@100" in report.table()


def test_a_failing_picture_counts_as_empty_and_is_named(
    dataset: CocoDataset, tmp_path: Path
) -> None:
    broken = write_coco(tmp_path, count=3)
    (tmp_path / "picture2.png").write_bytes(b"not a picture")
    data = CocoDataset.read(broken)
    report = evaluate_discoverer(oracle(data), data)
    assert list(report.protocol["failed"]) == ["2"]
    share = len(data.records_of(2)) / data.num_annotations
    assert report["AR@100"] == pytest.approx(1 - share)


def test_results_of_other_tools(dataset: CocoDataset, tmp_path: Path) -> None:
    records = [
        {**record, "score": 0.5, "category_id": 7}
        for i in dataset.image_ids
        for record in dataset.annotations_of(i).to_coco(image_id=i)
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps(records))
    assert evaluate_results(file, dataset)["AR@100"] == 1.0
    file.write_text("[]")
    assert evaluate_results(file, dataset)["AR@100"] == 0.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not the expected JSON"),
        ('{"annotations": []}', "not a list"),
        ('[{"image_id": 1}]', "needs the keys"),
        ('[{"image_id": 99, "segmentation": [], "score": 1}]', "does not have"),
        (
            '[{"image_id": 1, "segmentation": {"size": [2, 2], "counts": "4"}, "score": 1}]',
            "image 1",
        ),
        (
            '[{"image_id": 1, "segmentation": [[1, 1, 5, 1, 5, 5]], "score": "high"}]',
            "finite number",
        ),
    ],
)
def test_broken_results_are_refused(
    dataset: CocoDataset, tmp_path: Path, content: str, message: str
) -> None:
    file = tmp_path / "results.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        evaluate_results(file, dataset)


def test_an_unknown_field_is_refused(dataset: CocoDataset) -> None:
    with pytest.raises(DataError, match="no field 'colour'"):
        evaluate_discoverer(oracle(dataset), dataset, by="colour")


def test_the_classical_baseline_on_a_photograph() -> None:
    image = read_image(pictures_of_skimage.coffee()[::2, ::2])
    found = Felzenszwalb()(image)
    assert 10 < len(found) <= 100
    assert (np.diff(found.scores) <= 0).all()
    assert (found.areas >= 60).all()
    np.testing.assert_allclose(found.scores, found.areas / (image.height * image.width), rtol=1e-6)
    assert len({rle["counts"] for rle in found.rles}) == len(found)
    assert len(Felzenszwalb()(image, max_segments=3)) == 3
