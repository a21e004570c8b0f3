"""The class-agnostic model as a Hugging Face citizen, and its discoverer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pictures import ellipses
from transformers import AutoConfig, AutoImageProcessor, AutoModel, pipeline

from anymask.errors import InputError
from anymask.image import read_image
from anymask.methods.segprompt import (
    SegPromptConfig,
    SegPromptDiscoverer,
    SegPromptImageProcessor,
    SegPromptModel,
)
from anymask.methods.segprompt.processing import proposals
from anymask.ops.resize import resize_matrix, resized_rle
from anymask.ops.rle import decode

TINY = {
    "pocket_widths": (8, 16, 16, 32),
    "pocket_depths": (1, 1, 1, 1),
    "hidden_dim": 32,
    "mask_dim": 16,
    "num_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 32,
    "num_queries": 16,
    "image_long_side": 96,
}


@pytest.fixture(scope="module")
def model() -> SegPromptModel:
    torch.manual_seed(0)
    return SegPromptModel(SegPromptConfig.pocket(**TINY)).eval()


def test_saved_model_is_found_by_the_auto_classes(model: SegPromptModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    SegPromptImageProcessor.for_config(model.config).save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert isinstance(loaded, SegPromptModel)
    aside = {"_name_or_path", "architectures", "dtype"}
    before, after = model.config.to_dict(), AutoConfig.from_pretrained(tmp_path).to_dict()
    assert {k: v for k, v in after.items() if k not in aside} == {
        k: v for k, v in before.items() if k not in aside
    }
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=0, rtol=0, msg=name)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        one, two = model(pixels), loaded.eval()(pixels)
    torch.testing.assert_close(two.mask_logits, one.mask_logits, atol=0, rtol=0)
    processor = AutoImageProcessor.from_pretrained(tmp_path)
    assert isinstance(processor, SegPromptImageProcessor)
    assert processor.long_side == 96
    assert processor.short_side == 0
    half = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16


def test_pipeline(model: SegPromptModel, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    SegPromptImageProcessor.for_config(model.config).save_pretrained(tmp_path)
    find = pipeline("open-world-segmentation", model=str(tmp_path), device="cpu")
    image, _ = ellipses(0)
    found = find(read_image(image).to_pil(), min_score=0.0, max_segments=5)
    assert 1 <= len(found) <= 5
    assert found[0]["mask"].shape == image.shape[:2]
    assert found[0]["mask"].dtype == bool
    assert [f["score"] for f in found] == sorted((f["score"] for f in found), reverse=True)


def test_a_batch_answers_like_single_pictures(model: SegPromptModel) -> None:
    discover = SegPromptDiscoverer(model, device="cpu")
    sizes = [(72, 96), (96, 72), (40, 96), (300, 200), (72, 96)]
    images = [read_image(ellipses(k, *size)[0]) for k, size in enumerate(sizes)]
    together = discover.discover_batch(images)
    for image, found in zip(images, together, strict=True):
        alone = discover(image)
        assert found.size == image.size
        assert len(found) == len(alone)
        np.testing.assert_allclose(found.scores, alone.scores, atol=1e-6)
        assert found.rles == alone.rles


def test_answers_are_ranked_limited_and_filtered(model: SegPromptModel) -> None:
    discover = SegPromptDiscoverer(model, device="cpu")
    image = read_image(ellipses(3)[0])
    everything = discover(image)
    assert (np.diff(everything.scores) <= 0).all()
    assert ((everything.scores >= 0) & (everything.scores <= 1)).all()
    assert (everything.areas > 0).all()
    assert len(discover(image, max_segments=2)) == min(2, len(everything))
    cut = float(np.median(everything.scores))
    assert (discover(image, min_score=cut).scores >= cut).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_tiny_and_thin_pictures(model: SegPromptModel, size: tuple[int, int]) -> None:
    image = read_image(np.zeros((*size, 3), np.uint8))
    assert SegPromptDiscoverer(model, device="cpu")(image).size == size


def test_masks_are_resized_exactly_like_the_dense_way() -> None:
    generator = torch.Generator().manual_seed(0)
    for scaled, original in [((90, 60), (180, 131)), ((96, 64), (96, 64)), ((33, 61), (20, 37))]:
        logits = torch.randn(5, 24, 16, generator=generator)
        logits[4] = -1
        dense = torch.nn.functional.interpolate(
            logits[None], scale_factor=4, mode="bilinear", align_corners=False
        )[..., : scaled[0], : scaled[1]]
        dense = torch.nn.functional.interpolate(
            dense, size=original, mode="bilinear", align_corners=False
        )[0]
        rows = resize_matrix(24, scaled[0], original[0])
        columns = resize_matrix(16, scaled[1], original[1])
        for one, expected in zip(logits.numpy(), dense.numpy(), strict=True):
            rle, probability = resized_rle(one, rows, columns)
            certain = np.abs(expected) > 1e-5
            assert (decode(rle) == (expected > 0))[certain].all()
            inside = expected > 0
            mean = (1 / (1 + np.exp(-expected[inside]))).sum() / (inside.sum() + 1e-6)
            assert probability == pytest.approx(mean, abs=1e-4)


def test_score_of_the_specification() -> None:
    # Specification O10: p(object) 0.8, two pixels of probability 0.9 -> 0.72.
    class_logits = torch.tensor([[0.8, 0.2]]).log()
    mask_logits = torch.full((1, 1, 1), float(np.log(9.0)))
    found = proposals(class_logits, mask_logits, None, scaled_size=(1, 2), original_size=(1, 2))
    assert found.scores.tolist() == pytest.approx([0.8 * 1.8 / (2 + 1e-6)])


def test_suppression_keeps_the_better_of_two_equal_masks() -> None:
    class_logits = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    mask_logits = torch.full((2, 4, 4), -3.0)
    mask_logits[:, :2, :2] = 3.0
    sizes = {"scaled_size": (16, 16), "original_size": (16, 16)}
    both = proposals(class_logits, mask_logits, None, **sizes)
    one = proposals(class_logits, mask_logits, None, nms_iou=0.5, **sizes)
    assert len(both) == 2
    assert len(one) == 1
    assert one.scores[0] == both.scores[0]


def test_scaled_size_follows_the_short_side_up_to_the_long_one() -> None:
    paper = SegPromptImageProcessor(800, 1333)
    assert paper.scaled_size(480, 640) == (800, 1067)
    assert paper.scaled_size(300, 1200) == (333, 1333)
    pocket = SegPromptImageProcessor(0, 320)
    assert pocket.scaled_size(480, 640) == (240, 320)
    assert pocket.scaled_size(1, 20000) == (1, 320)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="deformable or pyramid"):
        SegPromptConfig(pixel_decoder="fpn")
    with pytest.raises(ValueError, match="square"):
        SegPromptConfig.pocket(num_queries=99)
    with pytest.raises(InputError, match="unknown device"):
        SegPromptDiscoverer(SegPromptModel(SegPromptConfig.pocket(**TINY)), device="quantum")


def test_learned_queries_and_all_masks_positive(model: SegPromptModel) -> None:
    config = SegPromptConfig.pocket(**TINY, queries="learned", quality_head=False)
    plain = SegPromptModel(config).eval()
    output = plain(torch.zeros(2, 3, 64, 96))
    assert output.mask_logits.shape == (2, 16, 16, 24)
    assert output.class_logits.shape == (2, 16, 2)
    assert output.quality_logits is None
