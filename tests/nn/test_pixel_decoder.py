from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoder

from anymask.methods.segprompt.convert import HUGGING_FACE
from anymask.nn.pixel_decoder import DeformablePixelDecoder
from anymask.nn.published import rename

CHANNELS = [8, 12, 16, 20]


def maps(dtype: torch.dtype = torch.float32, batch: int = 2) -> list[Tensor]:
    # Sides that are no powers of two, and levels that do not halve exactly.
    sizes = [(22, 31), (11, 16), (6, 8), (3, 4)]
    return [torch.randn(batch, c, *s, dtype=dtype) for c, s in zip(CHANNELS, sizes, strict=True)]


def pair() -> tuple[DeformablePixelDecoder, Mask2FormerPixelDecoder]:
    torch.manual_seed(0)
    config = Mask2FormerConfig(
        feature_size=32,
        mask_feature_size=24,
        encoder_layers=2,
        num_attention_heads=4,
        encoder_feedforward_dim=48,
    )
    theirs = Mask2FormerPixelDecoder(config, CHANNELS).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.copy_(0.2 * torch.randn_like(parameter))
    state = {f"model.pixel_level_module.decoder.{k}": v for k, v in theirs.state_dict().items()}
    ours = DeformablePixelDecoder(CHANNELS, 32, 24, encoder_layers=2, heads=4, ffn_dim=48).eval()
    ours.load_state_dict(
        {k.removeprefix("pixel_decoder."): v for k, v in rename(state, HUGGING_FACE).items()}
    )
    return ours, theirs


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.float64, 1e-9)], ids=["single", "double"]
)
def test_equals_hugging_face(dtype: torch.dtype, atol: float) -> None:
    ours, theirs = (decoder.to(dtype) for decoder in pair())
    features = maps(dtype)
    with torch.inference_mode():
        mask_features, levels = ours(features)
        wanted = theirs(features, output_hidden_states=False, output_attentions=False)
    torch.testing.assert_close(mask_features, wanted.mask_features, rtol=0, atol=atol)
    for level, other in zip(levels, wanted.multi_scale_features, strict=True):
        torch.testing.assert_close(level, other, rtol=0, atol=atol)


def test_runs_in_full_precision_under_autocast() -> None:
    ours, _ = pair()
    features = maps()
    wanted, _ = ours(features)
    with torch.autocast("cpu", torch.bfloat16):
        mask_features, levels = ours(features)
    assert mask_features.dtype == torch.float32
    assert all(level.dtype == torch.float32 for level in levels)
    torch.testing.assert_close(mask_features, wanted)


def test_every_weight_learns() -> None:
    ours = DeformablePixelDecoder(CHANNELS, 32, 24, encoder_layers=2, heads=4, ffn_dim=48)
    with torch.no_grad():  # past the start, at which the attention weights are even
        for parameter in ours.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    mask_features, levels = ours(maps())
    (mask_features.square().sum() + sum(level.square().sum() for level in levels)).backward()
    silent = [n for n, p in ours.named_parameters() if p.grad is None or not p.grad.any()]
    # A constant added before a group normalisation that averages it away has no effect.
    assert not silent


def test_pictures_of_a_batch_do_not_meet() -> None:
    ours, _ = pair()
    features = maps()
    both, _ = ours(features)
    alone, _ = ours([f[1:] for f in features])
    torch.testing.assert_close(both[1:], alone, rtol=1e-5, atol=1e-5)


def test_refuses_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="four maps"):
        DeformablePixelDecoder([8, 16, 32], 32, 32)
    with pytest.raises(ValueError, match="multiple of 32"):
        DeformablePixelDecoder(CHANNELS, 48, 32)
