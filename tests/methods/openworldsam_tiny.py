"""Tiny random parts of OpenWorldSAM, for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import Sam2Config, Sam2Model

from anymask.image import Image
from anymask.methods.openworldsam import Beit3Config, OpenWorldSAMConfig, OpenWorldSAMModel
from anymask.methods.sam2.prompt_training import fresh_model
from anymask.nn.sam2 import Sam2
from anymask.nn.text_tokens import train_tokenizer

SIDE, WIDTH = 64, 32


def sam2_config() -> Sam2Config:
    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [8, 4, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [4, 4],
    }
    return Sam2Config(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": backbone,
            "backbone_channel_list": [64, 32, 16, 8],
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
            "fpn_hidden_size": WIDTH,
        },
        prompt_encoder_config={"hidden_size": WIDTH, "image_size": SIDE},
        mask_decoder_config={
            "hidden_size": WIDTH,
            "mlp_dim": 64,
            "iou_head_hidden_dim": 48,
            "num_attention_heads": 4,
        },
    )


def noisy(model: Any, amount: float = 0.1) -> Any:
    """Noise on every parameter: masks are neither all empty nor all full, no bias is trivial."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn_like(parameter))
    return model


def sam2(seed: int = 0) -> Sam2:
    torch.manual_seed(seed)
    made = noisy(fresh_model(sam2_config()), 0.2).eval()
    plain = Sam2Model(sam2_config())
    plain.load_state_dict(made.state_dict())
    return Sam2(plain.eval())


def beit3_config(**changes: Any) -> Beit3Config:
    sizes = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
        "intermediate_size": 40, "vocab_size": 400, "image_size": 32, "patch_size": 16,
        "max_position_embeddings": 20,
    }  # fmt: skip
    return Beit3Config(**{**sizes, **changes})


def config(**changes: Any) -> OpenWorldSAMConfig:
    settings = {
        "sam2_config": sam2_config(),
        "reader_config": beit3_config(),
        "num_tie_breakers": 3,
        "num_heads": 4,
        "dropout": 0.0,
        "score_threshold": 0.0,
    }
    return OpenWorldSAMConfig(**{**settings, **changes})


def model(**changes: Any) -> OpenWorldSAMModel:
    torch.manual_seed(0)
    made = OpenWorldSAMModel(config(**changes))
    made.sam2.load_state_dict(sam2().model.state_dict())
    noisy(made.reader)
    return made.eval()


def tokenizer() -> Any:
    return train_tokenizer(["red cup", "blue ball", "the dog left of the cup"], 400, 18)


def picture(seed: int = 0, height: int = 48, width: int = 60) -> Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    return Image(np.kron(noise, np.ones((6, 6, 1), np.uint8)))
