"""A tiny random InternVL with a tokenizer, for tests."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast

from anymask.methods.wowseg.prompt import CONTEXT, END, IMAGE_END, IMAGE_START, START

SIDE, GRID = 32, 4  # pixels of a tile, tokens a side


def tokenizer() -> Any:
    """Bytes, and the special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: k for k, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<|endoftext|>")
    fast.add_special_tokens(
        {"additional_special_tokens": [START, END, IMAGE_START, IMAGE_END, CONTEXT]}
    )
    return fast


def model(dtype: torch.dtype = torch.float32, **text: Any) -> Any:
    torch.manual_seed(0)
    words = tokenizer()
    config = InternVLConfig(
        vision_config={
            "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32,
            "num_hidden_layers": 2, "image_size": [SIDE, SIDE], "patch_size": [4, 4],
        },
        text_config={
            "model_type": "qwen2", "vocab_size": len(words), "hidden_size": 32,
            "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "tie_word_embeddings": False, **text,
        },
        image_token_id=words.convert_tokens_to_ids(CONTEXT),
        image_seq_length=GRID * GRID,
        tie_word_embeddings=False,
    )  # fmt: skip
    made = InternVLForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return made.to(dtype).eval()
