"""Prompts by name, kept in a file: what was shown once need not be shown again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from anymask.data.formats.atomic import atomic_write
from anymask.errors import DataError, InputError

FORMAT = "anymask-prompt-bank-1"


@dataclass(frozen=True, eq=False)
class PromptBank:
    """Prompts by name.

    Attributes:
        names: C different names.
        vectors: (C, D) float32, the mean over each name's examples.
        counts: (C,) examples behind each.
        checkpoint: digest of the model that made them; no other can use them.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.float32]
    counts: NDArray[np.int64]
    checkpoint: str

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise InputError("a prompt bank has every name once; merge banks to average them.")
        if len(self.names) != len(self.vectors) or len(self.names) != len(self.counts):
            raise InputError("a prompt bank has a vector and a count for every name.")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def digest(self) -> str:
        """SHA-256 of names and vectors, in hex."""
        sha = hashlib.sha256(json.dumps(self.names).encode())
        sha.update(np.ascontiguousarray(self.vectors).tobytes())
        return sha.hexdigest()

    def only(self, names: Sequence[str]) -> PromptBank:
        """Some of the names.

        Raises:
            InputError: there is no such name; the message lists those there are.
        """
        missing = [name for name in names if name not in self.names]
        if missing:
            raise InputError(f"no prompt for {missing[0]!r}: there are {', '.join(self.names)}.")
        rows = [self.names.index(name) for name in names]
        return PromptBank(tuple(names), self.vectors[rows], self.counts[rows], self.checkpoint)

    def merge(self, other: PromptBank) -> PromptBank:
        """Both banks in one; a name in both becomes the mean over all its examples.

        Raises:
            InputError: they come from different checkpoints.
        """
        if self.checkpoint != other.checkpoint:
            raise InputError(
                "these prompt banks come from different checkpoints: prompts of one model mean "
                "nothing to another. Make them again with one model."
            )
        names = tuple(dict.fromkeys([*self.names, *other.names]))
        sums = {name: np.zeros(self.vectors.shape[1]) for name in names}
        counts = dict.fromkeys(names, 0)
        for bank in (self, other):
            for name, vector, count in zip(bank.names, bank.vectors, bank.counts, strict=True):
                sums[name] += vector.astype(np.float64) * int(count)
                counts[name] += int(count)
        vectors = np.stack([sums[n] / counts[n] for n in names]).astype(np.float32)
        return PromptBank(names, vectors, np.array([counts[n] for n in names]), self.checkpoint)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file, whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        from safetensors.numpy import save

        about = {"format": FORMAT, "names": json.dumps(self.names), "checkpoint": self.checkpoint}
        data = save({"vectors": self.vectors, "counts": self.counts}, metadata=about)
        with atomic_write(path) as stream:
            stream.write(data)

    @classmethod
    def load(cls, path: str | Path) -> PromptBank:
        """Read a file that :meth:`save` wrote.

        Raises:
            DataError: the file is missing or is no prompt bank.
        """
        try:
            with safe_open(str(path), "np") as file:
                about = file.metadata() or {}
                if about.get("format") != FORMAT:
                    raise DataError(f"{path} is no prompt bank of this version of anymask.")
                names = tuple(json.loads(about["names"]))
                vectors, counts = file.get_tensor("vectors"), file.get_tensor("counts")
                return cls(names, vectors, counts, about["checkpoint"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise DataError(f"{path} cannot be read as a prompt bank: {error}") from error
