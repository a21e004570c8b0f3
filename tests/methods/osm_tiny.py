"""A tiny random OSM with tokenizers, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from transformers import InstructBlipConfig

from anymask.data.region_sources import RegionSource
from anymask.data.regions import RegionFile, RegionRecord, write_regions
from anymask.image import Image
from anymask.methods.osm.configuration import OSMConfig
from anymask.methods.osm.model import OSMModel
from anymask.methods.osm.templates import Texts
from anymask.nn.text_tokens import train_tokenizer
from anymask.ops.rle import encode

WORDS = ["what is in the segmentation mask? assistant: red cup", "dog", "blue ball", "cat"]
MODES = ["coco", "lvis", "any"]


def tokenizer(size: int = 320) -> Any:
    made = train_tokenizer(WORDS, size, 64)
    made.add_special_tokens({"pad_token": "[PAD]"})
    made.backend_tokenizer.post_processor = None  # no end behind a question
    return made


def texts() -> Texts:
    language, qformer = tokenizer(), tokenizer(300)
    return Texts(language, qformer, language.pad_token_id, language.eos_token_id)


def base() -> InstructBlipConfig:
    said = texts()
    return InstructBlipConfig(
        vision_config={
            "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 3, "image_size": 28, "patch_size": 7, "layer_norm_eps": 1e-6,
        },
        qformer_config={
            "vocab_size": len(said.qformer), "hidden_size": 32, "num_hidden_layers": 3,
            "num_attention_heads": 4, "intermediate_size": 48, "encoder_hidden_size": 24,
            "cross_attention_frequency": 2, "max_position_embeddings": 64,
            "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
        },
        text_config={
            "model_type": "llama", "vocab_size": len(said.language), "hidden_size": 40,
            "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "tie_word_embeddings": False, "max_position_embeddings": 256,
        },
        num_query_tokens=4,
    )  # fmt: skip


def model(dtype: torch.dtype = torch.float64, **changes: Any) -> OSMModel:
    torch.manual_seed(0)
    settings = {"canvas": 56, "stride": 28, "modes": MODES, "pos_init_std": 0.5, **changes}
    made = OSMModel(OSMConfig(base_config=base(), **settings))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.to(dtype).eval()


def picture() -> Image:
    rng = np.random.default_rng(2)
    return Image(rng.integers(0, 256, (45, 60, 3), dtype=np.uint8))


def sources(folder: Path, pictures: int = 4) -> list[RegionSource]:
    """Two data sets that call the same things by other words; the brighter thing is the first."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for mode, names in (("coco", ("red cup", "dog")), ("lvis", ("blue ball", "cat"))):
        records = []
        for k in range(pictures):
            pixels = np.full((48, 64, 3), 90, np.uint8)
            masks = np.zeros((2, 48, 64), bool)
            masks[0, 4 + k : 40, 4:30] = True
            masks[1, 6:44, 34 + k : 60] = True
            pixels[masks[0]], pixels[masks[1]] = 240, 10
            file = f"{mode}{k}.png"
            PIL.Image.fromarray(pixels).save(folder / file)
            rles = tuple(encode(mask) for mask in masks)
            records.append(RegionRecord(str(k), file, (48, 64), rles, names))
        write_regions(records, folder / f"{mode}.jsonl")
        found.append(RegionSource(mode, RegionFile.read(folder / f"{mode}.jsonl"), mode=mode))
    return found
