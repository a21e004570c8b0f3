"""BEiT-3's tokenizer: SentencePiece with XLM-R's numbers (``beit3.spm``).

``<s>`` = 0, ``<pad>`` = 1, ``</s>`` = 2, ``<unk>`` = 3; every other piece is its SentencePiece
number + 1.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.errors import CheckpointError, MissingExtraError

START, PAD, END, UNKNOWN = 0, 1, 2, 3
FILE = "beit3.spm"


class Beit3Tokenizer:
    """Texts -> numbers.

    Args:
        path: the ``.spm`` file, or a folder with ``beit3.spm`` or ``sentencepiece.bpe.model``.

    Raises:
        CheckpointError: there is no such file, or it is no SentencePiece model.
        MissingExtraError: sentencepiece is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            import sentencepiece
        except ImportError as error:
            raise MissingExtraError("Reading BEiT-3's tokenizer", "beit3") from error
        self.path = Path(path)
        if self.path.is_dir():
            names = (FILE, "sentencepiece.bpe.model", "spiece.model")
            there = [self.path / name for name in names if (self.path / name).is_file()]
            if not there:
                raise CheckpointError(
                    f"{path} has no tokenizer: copy {FILE} there, which lies beside the published "
                    "BEiT-3 weights"
                )
            self.path = there[0]
        try:
            self._model: Any = sentencepiece.SentencePieceProcessor(model_file=str(self.path))
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{self.path} is no SentencePiece model: {error}") from error

    @property
    def mask_id(self) -> int:
        """Number of ``<mask>``, which follows the last piece (64,001 in the published file)."""
        return int(self._model.get_piece_size()) + 1

    def ids(self, text: str, length: int) -> list[int]:
        """One text: ``<s> pieces </s>``, at most ``length`` numbers.

        A text that is too long loses its last pieces, never its end token. (DEVIATION: the
        released code cuts the end token off.)
        """
        pieces = self._model.encode(text)
        numbers = [UNKNOWN if piece == 0 else piece + 1 for piece in pieces]
        return [START, *numbers[: max(0, length - 2)], END]

    def __call__(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """(P, L) int64 numbers and (P, L) bool "is a word", L the longest text's."""
        rows = [self.ids(text, length) for text in texts]
        longest = max((len(row) for row in rows), default=0)
        table = torch.full((len(rows), longest), PAD, dtype=torch.int64)
        for slot, row in zip(table, rows, strict=True):
            slot[: len(row)] = torch.tensor(row)
        return table, table != PAD

    def save_pretrained(self, folder: str | Path) -> None:
        """Copy the file beside a model."""
        target = Path(folder) / FILE
        if target.resolve() != self.path.resolve():
            shutil.copyfile(self.path, target)
