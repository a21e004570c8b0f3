"""The tokenizer that belongs to a saved OpenWorldSAM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anymask.nn.beit3_tokens import FILE, Beit3Tokenizer
from anymask.nn.text_tokens import load_tokenizer


def load_words(source: str | Path) -> Any:
    """BEiT-3's SentencePiece file where a folder has one, else a Hugging Face tokenizer.

    Args:
        source: a folder or hub id.

    Raises:
        CheckpointError: there is none.
    """
    folder = Path(source)
    if folder.is_dir():
        if (folder / FILE).is_file():
            return Beit3Tokenizer(folder)
        return load_tokenizer(folder, local_files_only=True)
    return load_tokenizer(source)
