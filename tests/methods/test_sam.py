"""SAM and SAM-HQ behind the same call as SAM 2: the same masks as Hugging Face's own steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import SamConfig, SamHQConfig, SamHQModel, SamModel
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from typer.testing import CliRunner

import anymask
from anymask.cli.app import app
from anymask.errors import InputError
from anymask.image import Image
from anymask.loading import load_finder
from anymask.methods.sam.automatic import SamClicker
from anymask.methods.sam.prompting import SamPrompter
from anymask.methods.sam2.automatic import OSM_SETTINGS, AutomaticMasks, settings_of

SIDE = 64


def tiny(kind: str) -> Any:
    torch.manual_seed(0)
    sizes = {
        "vision_config": {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE,
            "patch_size": 16, "output_channels": 32, "global_attn_indexes": [1], "window_size": 2,
            "mlp_dim": 32, "num_pos_feats": 16,
        },
        "prompt_encoder_config": {
            "hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4,
            "image_embedding_size": 4,
        },
        "mask_decoder_config": {
            "hidden_size": 32, "mlp_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
            "iou_head_hidden_dim": 16, **({"vit_dim": 32} if kind == "sam_hq" else {}),
        },
    }  # fmt: skip
    model = SamHQModel(SamHQConfig(**sizes)) if kind == "sam_hq" else SamModel(SamConfig(**sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def picture() -> Image:
    rng = np.random.default_rng(0)
    return Image(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["sam", "sam_hq"])
@pytest.mark.parametrize("ask", ["boxes", "points"])
def test_equals_the_stock_steps(kind: str, ask: str) -> None:
    model = tiny(kind)
    prompts: dict[str, Any] = {
        "boxes": {"boxes": [[3, 4, 30, 30], [10, 2, 50, 39], [0, 0, 9, 9]]},
        "points": {"points": [[[5, 6], [20, 20]], [[40, 30], [41, 30]]],
                   "point_labels": [[1, 0], [1, 1]]},
    }[ask]  # fmt: skip
    found = SamPrompter(model, "cpu")(picture(), **prompts)
    processor = SamImageProcessorPil(
        size={"longest_edge": SIDE}, pad_size={"height": SIDE, "width": SIDE}
    )
    given = processor(picture().pixels, return_tensors="pt")
    scale = SIDE / 56
    height = given["reshaped_input_sizes"][0][0] / 40
    factor = torch.tensor([scale, float(height)])
    if ask == "boxes":
        asked = {"input_boxes": torch.tensor(prompts["boxes"])[None] * factor.repeat(2)}
    else:
        asked = {
            "input_points": torch.tensor(prompts["points"])[None] * factor,
            "input_labels": torch.tensor(prompts["point_labels"])[None],
        }
    with torch.no_grad():
        stock = model(pixel_values=given["pixel_values"], multimask_output=False, **asked)
    masks = processor.post_process_masks(
        [stock.pred_masks[0]], given["original_sizes"], given["reshaped_input_sizes"]
    )[0][:, 0]
    assert len(found) == len(masks)
    for row in range(len(found)):
        np.testing.assert_array_equal(found.mask(row), masks[row].numpy())
    np.testing.assert_allclose(found.scores, stock.iou_scores.flatten(), atol=1e-5)


def test_in_the_library(tmp_path: Path) -> None:
    tiny("sam").save_pretrained(tmp_path / "sam")
    tiny("sam_hq").save_pretrained(tmp_path / "hq")
    for name in ("sam", "hq"):
        finder = load_finder(tmp_path / name, "cpu")
        found = anymask.find(picture(), boxes=[3, 4, 30, 30], model=finder)
        assert len(found) == 1
        three = anymask.find(picture(), points=[[5, 5]], model=finder, multimask=True)
        assert len(three) == 3
    with pytest.raises(InputError, match="SAM 2 takes more"):
        finder(picture())
    with pytest.raises(InputError, match="boxes are"):
        finder(picture(), boxes=[[1, 2, 3]])
    with pytest.raises(InputError, match="point_labels are"):
        finder(picture(), points=[[1, 2]], point_labels=[1, 1])


def test_automatic_masks(tmp_path: Path) -> None:
    """Every click of the grid answers as a click asked alone, and the command takes a SAM."""
    prompter = SamPrompter(tiny("sam"), "cpu")
    clicker = SamClicker(prompter)
    image = picture()
    clicker.look(image, (0, 0, image.width, image.height))
    points = np.array([[5.0, 6.0], [40.0, 30.0], [20.0, 11.0]])
    found = clicker.click(points, True, -10.0)
    alone = prompter(image, points=points[:, None], multimask=True)
    assert found.points.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    np.testing.assert_allclose(found.iou.numpy(), alone.scores, atol=1e-6)
    large = torch.nn.functional.interpolate(
        found.logits[None], image.size, mode="bilinear", align_corners=False
    )[0]
    for k in range(9):
        assert (large[k].numpy() > 0).tolist() == alone.mask(k).tolist()
    best = float(np.median(alone.scores))
    assert (clicker.click(points, True, best).iou >= best).all()
    with pytest.raises(InputError, match="use_m2m"):
        clicker.refine(points, found.logits)


def test_settings_and_scaled_pictures() -> None:
    assert settings_of("osm") == OSM_SETTINGS
    own = settings_of("osm,long_side=48, crop_n_layers=1,exact=true")
    assert (own.long_side, own.crop_n_layers, own.exact) == (48, 1, True)
    assert own.min_mask_region_area == 800
    for text in ("nothing=1", "long_side=x", "", "osm=3"):
        with pytest.raises(InputError, match=r"automatic masks|give a number"):
            settings_of(text)
    loose = {"points_per_side": 3, "pred_iou_thresh": -1.0, "stability_score_thresh": 0.0}
    masks = AutomaticMasks(SamClicker(SamPrompter(tiny("sam"), "cpu")), long_side=30, **loose)
    found = masks(picture(), min_score=-10.0)
    assert len(found)
    assert found.size == picture().size
    small = AutomaticMasks(masks.clicker, **loose)(masks._scaled(picture()), min_score=-10.0)
    assert small.size == (21, 30)
    assert len(small) == len(found)
    for k in range(len(found)):  # the same shapes at another size
        assert found.areas[k] / (40 * 56) == pytest.approx(small.areas[k] / (21 * 30), abs=0.06)


def test_in_the_terminal(tmp_path: Path) -> None:
    tiny("sam").save_pretrained(tmp_path / "sam")
    picture().to_pil().save(tmp_path / "photo.png")
    arguments = ["discover", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out"), "--device",
                 "cpu", "--model", str(tmp_path / "sam"), "--min-score", "0"]  # fmt: skip
    options = "points_per_side=2,pred_iou_thresh=-1,stability_score_thresh=0"
    result = CliRunner().invoke(app, [*arguments, "--settings", options], catch_exceptions=False)
    assert result.exit_code == 0
    assert (tmp_path / "out" / "photo.json").is_file()
    with pytest.raises(InputError, match="belongs to a SAM"):
        CliRunner().invoke(
            app, ["discover", str(tmp_path / "photo.png"), "--settings", "osm"],
            catch_exceptions=False,
        )  # fmt: skip
