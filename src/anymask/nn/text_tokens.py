"""Texts -> token numbers, with any Hugging Face tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from anymask.errors import CheckpointError

START, END = "<|startoftext|>", "<|endoftext|>"


def tokenize(tokenizer: Any, texts: Sequence[str], context: int) -> Tensor:
    """(P, L) int64, L the longest text (never more than ``context``), padded behind the end token.

    CLIP pads every text to 77 tokens; cutting the padding gives the same embeddings six times
    faster.
    """
    found = tokenizer(
        list(texts), padding=True, truncation=True, max_length=context, return_tensors="pt"
    )
    return found["input_ids"]  # type: ignore[no-any-return]


def padded_rows(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Token numbers of texts, filled up behind to the longest: (R, L) int64."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])


def load_tokenizer(source: str | Path, **kwargs: Any) -> Any:
    """The Hugging Face tokenizer of a folder or hub id.

    Args:
        source: where it lies.
        kwargs: what ``from_pretrained`` takes (``local_files_only``, ``revision``, ...).

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    try:
        return AutoTokenizer.from_pretrained(source, **kwargs)
    except Exception as error:  # a missing or damaged file raises almost anything
        raise CheckpointError(
            f"{source} has no tokenizer: put tokenizer.json (or vocab.json and merges.txt) of the "
            f"CLIP there ({error})"
        ) from error


def train_tokenizer(texts: Iterable[str], size: int, context: int) -> PreTrainedTokenizerFast:
    """A small byte-level tokenizer in CLIP's manner: lower case, start, end, padded with the end.

    Bytes can spell any word, so nothing is unknown. The last two of ``size`` numbers are the start
    and the end.

    Args:
        texts: to learn frequent pieces from.
        size: tokens altogether.
        context: tokens of the longest text.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    filler = [f"<|unused{k}|>" for k in range(size - 2 - tokenizer.get_vocab_size())]
    tokenizer.add_special_tokens([*filler, START, END])
    numbers = [(word, tokenizer.token_to_id(word)) for word in (START, END)]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=numbers
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=context,
    )
