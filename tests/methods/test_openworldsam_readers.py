"""Every reader of Table 10 that transformers has: 50 steps of the adapter halve the loss, and two
phrases give two masks."""

from __future__ import annotations

from typing import Any

import openworldsam_tiny as tiny
import pytest
import torch
from torch.nn import functional as F
from transformers import (
    Blip2Config,
    CLIPConfig,
    Florence2Config,
    Kosmos2Config,
    SiglipConfig,
)

from anymask.methods.openworldsam import OpenWorldSAMModel
from anymask.methods.openworldsam.collate import Collate
from anymask.methods.sam2.prompt_training import fresh_model

TEXT = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "vocab_size": 400, "max_position_embeddings": 20,
}  # fmt: skip
VISION = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip


def clip() -> CLIPConfig:
    text = {**TEXT, "bos_token_id": 398, "eos_token_id": 399, "pad_token_id": 399}
    return CLIPConfig(text_config=text, vision_config=VISION, projection_dim=24)


def siglip2() -> SiglipConfig:
    return SiglipConfig(text_config={**TEXT, "projection_size": 32}, vision_config=VISION)


def florence2() -> Florence2Config:
    text = {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48,
        "vocab_size": 400, "max_position_embeddings": 128,
    }  # fmt: skip
    vision = {
        "depths": [1, 1, 1, 1], "embed_dim": [8, 16, 16, 32], "num_heads": [2, 2, 2, 2],
        "num_groups": [2, 2, 2, 2], "projection_dim": 32, "window_size": 4,
    }  # fmt: skip
    return Florence2Config(text_config=text, vision_config=vision)


def blip2() -> Blip2Config:
    former = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 400, "encoder_hidden_size": 32,
        "max_position_embeddings": 20, "use_qformer_text_input": True,
    }  # fmt: skip
    return Blip2Config(
        vision_config=VISION, qformer_config=former, num_query_tokens=4,
        image_text_hidden_size=16, text_config={"model_type": "opt", "hidden_size": 16,
        "num_hidden_layers": 1, "num_attention_heads": 2, "ffn_dim": 16, "vocab_size": 400},
    )  # fmt: skip


def kosmos2() -> Kosmos2Config:
    text = {
        "embed_dim": 32, "layers": 2, "ffn_dim": 48, "attention_heads": 4, "vocab_size": 400,
        "max_position_embeddings": 64,
    }  # fmt: skip
    return Kosmos2Config(text_config=text, vision_config=VISION, latent_query_num=4)


READERS = {
    "beit3": (tiny.beit3_config, {}),
    "beit3 text only": (tiny.beit3_config, {"use_picture": False}),
    "beit3 late concat": (tiny.beit3_config, {"fusion": "concat"}),
    "clip": (clip, {}),
    "clip late concat": (clip, {"fusion": "concat"}),
    "clip cross attention": (clip, {"fusion": "cross_attention"}),
    "siglip2": (siglip2, {}),
    "siglip2 cross attention": (siglip2, {"fusion": "cross_attention"}),
    "florence2": (florence2, {"reader_picture_size": 64}),
    "blip2": (blip2, {}),
    "kosmos2": (kosmos2, {}),
}


def build(name: str) -> OpenWorldSAMModel:
    make, changes = READERS[name]
    torch.manual_seed(0)
    config = tiny.config(reader=name.split()[0], reader_config=make(), **changes)
    model = OpenWorldSAMModel(config)
    # A random decoder whose masks depend on the prompt more than on the picture.
    torch.manual_seed(2)
    answering = fresh_model(tiny.sam2_config())
    model.sam2.load_state_dict(answering.state_dict())
    tiny.noisy(model.sam2.mask_decoder, 0.2)
    tiny.noisy(model.reader, 0.15)
    with torch.no_grad():  # random masks are faint; with these a loss can become small
        for maker in model.sam2.mask_decoder.output_hypernetworks_mlps:
            maker.proj_out.weight.mul_(30)
            maker.proj_out.bias.mul_(30)
    return model


@pytest.mark.parametrize("name", READERS)
def test_a_reader_can_be_learnt_from(name: str) -> None:
    model = build(name).train()
    # What this SAM 2 can draw at all: of its own masks for many prompts the two that differ most.
    sam = model.sam
    source = torch.Generator().manual_seed(3)
    picture = tiny.picture()
    with torch.no_grad():
        prompts = torch.randn(40, 1, tiny.WIDTH, generator=source)
        features = sam.encode(sam.pixels(picture, antialias=False)[None])
        drawn = sam.ask(features, prompts, choice="first").logits[:, 0] > 0
        apart = (drawn[:, None] != drawn[None]).float().mean((-2, -1))
        pair = divmod(int(apart.argmax()), len(drawn))
        assert apart.max() > 0.2
        reached = drawn[list(pair)][:, None].float()
    wanted = F.interpolate(reached, picture.size, mode="nearest")[:, 0] > 0
    sample = {
        "image": torch.from_numpy(picture.pixels.copy()),
        "texts": ["red cup", "blue ball"],
        "instances": [wanted[:1], wanted[1:]],
    }
    batch: Any = Collate(model.config, tiny.tokenizer())([sample])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(trained, 1e-3)
    losses = []
    for _ in range(50):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < 0.5 * losses[0], (losses[0], losses[-1])
    model.eval()
    with torch.no_grad():
        logits = model(**batch, choice="first").mask_logits[0]
    assert (logits[0].amax(0) - logits[1].amax(0)).abs().mean() > 0.04 * logits.std()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_is_saved_with_its_model(name: str, tmp_path: Any) -> None:
    model = build(name).eval()
    model.save_pretrained(tmp_path)
    again = OpenWorldSAMModel.from_pretrained(tmp_path).eval()
    words = model.reader.words(tiny.tokenizer(), ["red cup", "dog"])
    size = model.reader.picture_size
    pixels = torch.randn(1, 3, size, size) if size else None
    picture = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        before, after = (m.read(pixels, words, picture) for m in (model, again))
    torch.testing.assert_close(after, before, atol=1e-6, rtol=1e-5)
    assert not torch.allclose(before[0], before[1], atol=1e-6)
