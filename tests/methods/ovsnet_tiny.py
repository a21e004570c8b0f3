"""A tiny random OVSNet with a tokenizer, for tests."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pictures import ellipses

from anymask.methods.ovsnet import ClipConvNextConfig, OVSNetConfig, OVSNetModel
from anymask.methods.ovsnet.text import TextEncoder
from anymask.nn.targets import Targets
from anymask.nn.text_tokens import train_tokenizer
from anymask.vocabulary import Vocabulary

TINY: dict[str, Any] = {
    "pixel_decoder": "pyramid",
    "queries": "learned",
    "hidden_dim": 32,
    "mask_dim": 16,
    "num_heads": 4,
    "decoder_layers": 3,
    "decoder_ffn_dim": 32,
    "num_queries": 9,
    "num_points": 128,
    "image_short_side": 0,
    "image_long_side": 96,
}


def config(**changes: Any) -> OVSNetConfig:
    clip = ClipConvNextConfig.small(
        depths=(1, 1, 1, 1), widths=(8, 16, 16, 32), embed_dim=24, text_width=16, text_layers=1,
        text_heads=2, vocab_size=300, bos_token=298, eos_token=299,
    )  # fmt: skip
    return OVSNetConfig(**{**TINY, "clip_config": clip, **changes})


def model(**changes: Any) -> OVSNetModel:
    torch.manual_seed(0)
    made = OVSNetModel(config(**changes))
    # Noise on every parameter: masks are neither all empty nor all full, no bias is trivial.
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    made.logit_scale.data.fill_(3.0)
    return made.eval()


def tokenizer() -> Any:
    texts = ["a photo of a cat", "a photo of a dog", "sky", "grass", "opera house"]
    return train_tokenizer(texts, 300, 64)


@lru_cache(maxsize=1)
def _trained() -> OVSNetModel:
    """After a few seconds on four pictures: masks of several classes, none of them good."""
    made = model(aggregation="none")
    reader = TextEncoder(made.clip, tokenizer(), ("{}",))
    made.training_words = reader.words(Vocabulary.from_names(["cat", "dog", "sky"]))
    pictures, targets = [], []
    for seed in range(1, 5):
        pixels, masks = ellipses(seed, 64, 96)
        masks = np.concatenate([masks, ~masks.any(0, keepdims=True)])
        labels = torch.arange(len(masks)) % 2
        labels[-1] = 2
        pictures.append(torch.from_numpy(pixels).permute(2, 0, 1).float() / 128 - 1)
        targets.append(Targets(torch.from_numpy(masks), labels, seed=seed))
    optimizer = torch.optim.AdamW([p for p in made.parameters() if p.requires_grad], 5e-3)
    made.train()
    for _ in range(40):
        optimizer.zero_grad()
        made(torch.stack(pictures), targets).loss.backward()
        optimizer.step()
    return made.eval()


def trained(**changes: Any) -> OVSNetModel:
    """A copy of the trained model under other settings."""
    made = model(**changes)
    made.load_state_dict(_trained().state_dict())
    return made


def save(folder: Path, **changes: Any) -> Path:
    model(**changes).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder
