"""SAM 2: clicks, boxes, corrections and automatic masks against the stock code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openworldsam_tiny as tiny
import pytest
import torch
from torch.nn import functional as F

import anymask
from anymask.errors import InputError, SegmentsError
from anymask.image import Image
from anymask.methods.sam2 import AutomaticMasks, Sam2Prompter
from anymask.methods.sam2.automatic import Clicked
from anymask.nn.sam2 import square_pixels
from anymask.ops.point_grid import point_grid
from anymask.ops.rle import decode


@pytest.fixture(scope="module")
def sam() -> Any:
    return tiny.sam2()


def stock_answer(sam: Any, picture: Image, **prompts: Any) -> Any:
    """What the stock ``Sam2Model`` says, prompts in pixels of its square."""
    pixels = square_pixels(picture, tiny.SIDE)[None]
    with torch.no_grad():
        return sam.model(pixel_values=pixels, **prompts)


@pytest.mark.parametrize("multimask", [False, True])
def test_clicks_and_boxes_equal_the_stock_model(sam: Any, multimask: bool) -> None:
    picture = tiny.picture()
    height, width = picture.size
    scale = np.array([tiny.SIDE / width, tiny.SIDE / height])
    points = np.array([[[10.0, 8], [30, 20]], [[50, 40], [2, 3]]])
    labels = np.array([[1, 0], [1, 1]])
    boxes = np.array([[4.0, 5, 33, 40], [20, 10, 59, 47]])
    model_points = torch.from_numpy(points * scale)[None].float()
    model_boxes = torch.from_numpy(boxes * np.tile(scale, 2))[None].float()
    prompter = Sam2Prompter(sam)
    for given, stock in (
        ({"points": points, "point_labels": labels},
         {"input_points": model_points, "input_labels": torch.from_numpy(labels)[None]}),
        ({"boxes": boxes}, {"input_boxes": model_boxes}),
        ({"points": points, "point_labels": labels, "boxes": boxes},
         {"input_points": model_points, "input_labels": torch.from_numpy(labels)[None],
          "input_boxes": model_boxes}),
    ):  # fmt: skip
        wanted = stock_answer(sam, picture, multimask_output=multimask, **stock)
        found = prompter(picture, **given, multimask=multimask)
        scores = wanted.iou_scores.flatten().numpy()
        np.testing.assert_allclose(found.scores, scores, atol=1e-5)
        full = F.interpolate(wanted.pred_masks[0], picture.size, mode="bilinear").flatten(0, 1) > 0
        for rle, mask in zip(found.rles, full.numpy(), strict=True):
            assert (decode(rle) != mask).sum() <= 2


def test_a_mask_is_refined(sam: Any) -> None:
    picture = tiny.picture()
    prompter = Sam2Prompter(sam)
    first = prompter(picture, points=[[20, 20]])
    again = prompter(picture, masks=first)
    assert len(again) == 1
    clicked = prompter(picture, points=[[[20, 20]]], masks=first.masks)
    assert len(clicked) == 1
    several = prompter(picture, masks=np.zeros((11, *picture.size), bool))
    assert len(several) == 11


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "nothing was asked"),
        ({"points": [[1, 2, 3]]}, "shape"),
        ({"points": [[[1, 2]], [[3, 4], [5, 6]]]}, "points are x, y"),
        ({"points": [[1, float("nan")]]}, "NaN"),
        ({"points": [[1, 2]], "point_labels": [1, 1]}, "point_labels"),
        ({"points": [[1, 2]], "point_labels": [5]}, "point_labels"),
        ({"point_labels": [1]}, "need points"),
        ({"boxes": [1, 2, 3]}, "boxes are"),
        ({"boxes": [5, 5, 1, 9]}, "x2 < x1"),
        ({"points": [[1, 2]], "boxes": [[1, 2, 3, 4], [1, 2, 3, 4]]}, "equal numbers"),
    ],
)
def test_wrong_prompts_say_what_is_right(sam: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Sam2Prompter(sam)(tiny.picture(), **wrong)


def test_masks_of_another_picture_are_refused(sam: Any) -> None:
    with pytest.raises(SegmentsError, match="not"):
        Sam2Prompter(sam)(tiny.picture(), masks=np.ones((1, 5, 5), bool))


class StockClicker:
    """The stock model, one click after the other, nothing left out."""

    def __init__(self, sam: Any) -> None:
        self.sam = sam

    def look(self, image: Image, crop: Any) -> None:
        left, top, right, bottom = crop
        part = Image(np.ascontiguousarray(image.pixels[top:bottom, left:right]))
        self.pixels = square_pixels(part, tiny.SIDE)[None]
        self.scale = np.array([tiny.SIDE / (right - left), tiny.SIDE / (bottom - top)])

    def click(self, points: Any, multimask: bool, min_iou: float) -> Clicked:
        places = torch.from_numpy(points * self.scale).float()[None, :, None]
        with torch.no_grad():
            found = self.sam.model(
                pixel_values=self.pixels,
                input_points=places,
                input_labels=torch.ones(places.shape[:3], dtype=torch.int64),
                multimask_output=multimask,
            )
        each = found.iou_scores.shape[-1]
        which = torch.arange(len(points)).repeat_interleave(each)
        return Clicked(which, found.pred_masks[0].flatten(0, 1), found.iou_scores.flatten())

    def refine(self, points: Any, logits: Any) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("options", [{}, {"crop_n_layers": 1}, {"multimask_output": False}])
def test_automatic_masks_equal_the_stock_model_click_by_click(
    sam: Any, options: dict[str, Any]
) -> None:
    from anymask.methods.sam2.automatic import AutomaticSettings, masks_of, records

    settings = AutomaticSettings(
        points_per_side=5,
        pred_iou_thresh=0.4,
        stability_score_thresh=0.3,
        box_nms_thresh=0.97,
        crop_nms_thresh=0.97,
        exact=True,
        **options,
    )
    picture = tiny.picture(3, 66, 90)
    wanted = records(masks_of(picture, StockClicker(sam), settings))
    found = AutomaticMasks(sam, settings).generate(picture)
    assert len(found) == len(wanted) >= (2 if settings.multimask_output else 1)
    for ours, theirs in zip(found, wanted, strict=True):
        assert ours["point_coords"] == theirs["point_coords"]
        assert ours["bbox"] == theirs["bbox"]
        assert ours["predicted_iou"] == pytest.approx(theirs["predicted_iou"], abs=1e-5)


def test_small_masks_judge_nearly_as_large_ones(sam: Any) -> None:
    picture = tiny.picture(4, 66, 90)
    options = {"points_per_side": 6, "pred_iou_thresh": 0.3, "stability_score_thresh": 0.3}
    exact = AutomaticMasks(sam, exact=True, **options).generate(picture)
    quick = AutomaticMasks(sam, **options).generate(picture)
    assert quick
    there = {tuple(r["point_coords"][0]) for r in exact}
    both = [r for r in quick if tuple(r["point_coords"][0]) in there]
    assert len(both) >= 0.7 * min(len(quick), len(exact))


def test_refining_and_specks(sam: Any) -> None:
    picture = tiny.picture(5, 66, 90)
    options = {"points_per_side": 4, "pred_iou_thresh": 0.2, "stability_score_thresh": 0.0}
    refined = AutomaticMasks(sam, use_m2m=True, **options).generate(picture)
    assert refined
    clean = AutomaticMasks(sam, min_mask_region_area=30, **options).generate(picture)
    from scipy import ndimage

    for record in clean:
        mask = decode(record["segmentation"])
        regions, count = ndimage.label(mask, np.ones((3, 3)))
        sizes = np.bincount(regions.ravel())[1:]
        assert count <= 1 or sizes.min() >= 30
    assert AutomaticMasks(sam, pred_iou_thresh=1.5).generate(picture) == []
    assert AutomaticMasks(sam, pred_iou_thresh=1.5, crop_n_layers=1).generate(picture) == []


def test_half_precision_answers_too() -> None:
    half = tiny.sam2()
    half.model.to(torch.bfloat16)
    picture = tiny.picture(4, 66, 90)
    options = {"points_per_side": 4, "pred_iou_thresh": 0.2, "stability_score_thresh": 0.0}
    assert AutomaticMasks(half, use_m2m=True, **options).generate(picture)
    prompter = Sam2Prompter(half)
    first = prompter(picture, boxes=[[5, 5, 40, 40]])
    assert len(prompter(picture, points=[[[9, 9]]], masks=first)) == 1


def test_discover_takes_a_saved_sam2(sam: Any, tmp_path: Path) -> None:
    sam.model.save_pretrained(tmp_path)
    found = anymask.discover(tiny.picture(), model=tmp_path, max_segments=5)
    assert found.size == (48, 60)
    assert len(found) <= 5
    clicked = anymask.find(tiny.picture(), boxes=[5, 5, 40, 40], model=tmp_path)
    assert len(clicked) == 1
    assert clicked.labels == (None,)


def test_the_grid() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]


def test_prompts_outside_of_the_picture_are_refused(sam: Any) -> None:
    prompter = Sam2Prompter(sam)
    image = Image(np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(InputError, match=r"\(70, 5\) lies outside of the picture of 60 x 40"):
        prompter(image, points=[[[10, 5], [70, 5]]])
    with pytest.raises(InputError, match=r"the box .* lies outside"):
        prompter(image, boxes=[70, 5, 90, 20])
    # A corner, a box over the border and the place of a point that is none are fine.
    assert len(prompter(image, points=[[[60, 40], [999, 9]]], point_labels=[[1, -1]])) == 1
    assert len(prompter(image, boxes=[-5, -5, 90, 20])) == 1
