"""Words as CLIP reads them: templates, synonyms, and a cache in memory and on disk.

Specification 2.7: every word in every template, unit vectors, their mean, unit again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.nn import functional as F

from anymask.data.formats.atomic import atomic_write
from anymask.methods.ovsnet.classification import Words
from anymask.nn.clip_convnext import ClipConvNext
from anymask.nn.text_tokens import tokenize
from anymask.nn.weights_digest import weights_digest
from anymask.vocabulary import Vocabulary

PLAIN = ("{}",)  # the templates of a vocabulary that names none
CHUNK = 256  # sentences that are read at a time


def cache_folder() -> Path:
    """Where embedded words are kept: ``$ANYMASK_CACHE`` or ``~/.cache/anymask``."""
    return Path(os.environ.get("ANYMASK_CACHE", Path.home() / ".cache" / "anymask")) / "words"


class TextEncoder:
    """Embeds words with a CLIP's text side.

    Args:
        clip: the model.
        tokenizer: its Hugging Face tokenizer.
        templates: sentences with one ``{}``, for vocabularies that bring none.
        cache: folder for embedded words, which survive the process; None = only in memory.

    Attributes:
        progress: called with (done, total) sentences while words are read that are in no cache.
    """

    def __init__(
        self,
        clip: ClipConvNext,
        tokenizer: Any,
        templates: Sequence[str],
        cache: Path | None = None,
    ) -> None:
        self.clip = clip
        self.tokenizer = tokenizer
        self.templates = tuple(templates)
        self.cache = cache
        self.progress: Callable[[int, int], None] | None = None
        self._memory: dict[str, Tensor] = {}
        self._model: str | None = None

    def words(self, vocabulary: Vocabulary, training_words: Sequence[Sequence[str]] = ()) -> Words:
        """The text side of a vocabulary.

        Args:
            vocabulary: names and synonyms; its own templates count when it has any.
            training_words: words of the classes of training; a class that shares one, letter by
                letter, is seen.
        """
        listed = [category.words for category in vocabulary.categories]
        templates = self.templates if vocabulary.templates == PLAIN else vocabulary.templates
        known = {word for words in training_words for word in words}
        return Words(
            self.embed([word for words in listed for word in words], templates),
            tuple(len(words) for words in listed),
            torch.tensor([not known.isdisjoint(words) for words in listed]),
        )

    def embed(self, words: Sequence[str], templates: Sequence[str] | None = None) -> Tensor:
        """Unit vectors of words: (S, D) float32 on the CPU."""
        used = self.templates if templates is None else tuple(templates)
        key = self._key(words, used)
        if key not in self._memory:
            stored = self._stored(key)
            if stored is None:
                stored = self._read_aloud(words, used)
                self._store(key, stored)
            self._memory[key] = stored
        return self._memory[key]

    @torch.inference_mode()
    def _read_aloud(self, words: Sequence[str], templates: Sequence[str]) -> Tensor:
        sentences = [t.replace("{}", word) for word in words for t in templates]
        device = self.clip.logit_scale.device
        # Sentences of one length together: nothing is padded, and each is read once.
        order = sorted(range(len(sentences)), key=lambda k: len(sentences[k]))
        rows: Tensor | None = None
        for start in range(0, len(order), CHUNK):
            chosen = order[start : start + CHUNK]
            tokens = tokenize(
                self.tokenizer, [sentences[k] for k in chosen], self.clip.config.context
            )
            found = self.clip.embed_texts(tokens.to(device)).float().cpu()
            if rows is None:
                rows = torch.empty(len(sentences), found.shape[1])
            rows[chosen] = found
            if self.progress is not None:
                self.progress(start + len(chosen), len(order))
        if rows is None:
            return torch.zeros(0, self.clip.config.embed_dim)
        return average_templates(rows, len(templates))

    # --------------------------------------------------------------------------------- cache

    def _key(self, words: Sequence[str], templates: Sequence[str]) -> str:
        sha = hashlib.sha256(self._fingerprint().encode())
        for part in (*words, "", *templates):
            sha.update(part.encode() + b"\0")
        return sha.hexdigest()

    def _fingerprint(self) -> str:
        """Digest of the text side's weights, so that no other model's words are taken."""
        if self._model is None:
            self._model = weights_digest(self.clip.text)
        return self._model

    def _stored(self, key: str) -> Tensor | None:
        if self.cache is None:
            return None
        try:
            return load_file(self.cache / f"{key}.safetensors")["words"]
        except (OSError, KeyError, SafetensorError):
            return None  # not there, or damaged: embedded again

    def _store(self, key: str, rows: Tensor) -> None:
        if self.cache is None:
            return
        # A folder that cannot be written only costs time.
        with (
            contextlib.suppress(OSError),
            atomic_write(self.cache / f"{key}.safetensors") as stream,
        ):
            stream.write(save({"words": rows.contiguous()}))


def average_templates(embeds: Tensor, templates: int) -> Tensor:
    """Sentences, word by word, (S * templates, D) of any length -> (S, D) unit vectors."""
    unit = F.normalize(embeds, dim=-1)
    return F.normalize(unit.unflatten(0, (-1, templates)).mean(1), dim=-1)
