"""The matcher: a picture and a list of words in, labelled segments out.

A picture is encoded once; only the last step depends on the words, so other words cost
milliseconds (specification 5.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anymask.errors import InputError, SegmentsError
from anymask.image import Image
from anymask.methods.ovsnet.classification import Words
from anymask.methods.ovsnet.model import OVSNetModel, OVSNetOutput
from anymask.methods.ovsnet.text import TextEncoder, cache_folder
from anymask.nn.device import pick_device
from anymask.nn.picture_input import PictureInput, padded_batch
from anymask.nn.remembered import Remembered
from anymask.nn.text_tokens import load_tokenizer
from anymask.ops.kinds import kinds_of
from anymask.ops.mask_classification import TASKS, Canvas, instances, panoptic, semantic
from anymask.ops.rle import decode, encode_label_map
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

Task = Literal["semantic", "panoptic", "instance"]


@dataclass(frozen=True)
class Encoded:
    """A picture as the model sees it, before any word.

    Attributes:
        size: (H, W) of the picture.
        scaled_size: of the model's input, without padding.
        output: the model's, of this picture alone.
    """

    size: tuple[int, int]
    scaled_size: tuple[int, int]
    output: OVSNetOutput

    @property
    def canvas(self) -> Canvas:
        """Its masks."""
        assert self.output.mask_logits is not None
        return Canvas(self.output.mask_logits[0], self.scaled_size, self.size)


class OVSNetMatcher:
    """Matches pictures to any vocabulary.

    Args:
        model: moved to ``device`` and set to evaluation.
        tokenizer: of the model's CLIP.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        cache: folder where embedded words are kept; None = only in memory.
    """

    def __init__(
        self,
        model: OVSNetModel,
        tokenizer: Any,
        device: str | torch.device = "auto",
        cache: Path | None = None,
    ) -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        config = model.config
        self.input = PictureInput(
            config.image_short_side,
            config.image_long_side,
            config.clip.image_mean,
            config.clip.image_std,
        )
        self.text = TextEncoder(model.clip, tokenizer, config.templates, cache)
        self._seen = Remembered(self._encode)

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "auto", **kwargs: Any
    ) -> OVSNetMatcher:
        """Load a folder (or hub id) with model and tokenizer.

        Raises:
            CheckpointError: the tokenizer is missing.
        """
        model = OVSNetModel.from_pretrained(folder_or_id, **kwargs)
        return cls(model, load_tokenizer(folder_or_id, **kwargs), device, cache_folder())

    # ------------------------------------------------------------------------------ pictures

    def encode(self, image: Image) -> Encoded:
        """Masks and embeddings of a picture; the last few pictures are remembered."""
        return self._seen(image)

    @torch.inference_mode()
    def _encode(self, image: Image) -> Encoded:
        pixels = self.input.scale(image)
        output = self.model(padded_batch([pixels]).to(self.device))
        return Encoded(image.size, (pixels.shape[1], pixels.shape[2]), output)

    def words(self, vocabulary: Vocabulary) -> Words:
        """The text side of a vocabulary, from the cache when it was read before."""
        return self.text.words(vocabulary, self.model.config.training_words)

    @torch.inference_mode()
    def classify(self, encoded: Encoded, words: Words) -> Tensor:
        """(N, C + 1) probabilities of every mask, last column "no object"."""
        return self.model.classify(encoded.output, words)[0]

    # -------------------------------------------------------------------------------- answers

    def __call__(
        self,
        image: Image | Encoded,
        vocabulary: Vocabulary,
        task: Task = "semantic",
        *,
        min_score: float = 0.0,
        max_segments: int = 100,
        void_threshold: float | None = None,
    ) -> Segments:
        """Segment a picture with a list of words.

        Args:
            image: the picture, or what :meth:`encode` made of it.
            vocabulary: the words; what is a thing matters to the tasks below, and where the
                vocabulary does not say, common words are looked up in COCO's and ADE20K's lists
                and the rest count as things.
            task: ``"semantic"``: one segment a class; ``"panoptic"``: one a thing, one for all of
                a stuff, no overlap; ``"instance"``: things only, ranked, may overlap.
            min_score: segments below are dropped. A semantic segment's score is the mean over its
                pixels of the winning class's score, at most 1.
            max_segments: of instances: so many pairs of a mask and a class are looked at.
            void_threshold: in semantic results, pixels whose best score is below it (or below what
                says "no object") belong to no segment; None = every pixel belongs to a class.

        Returns:
            Labelled segments; ``ids`` are the vocabulary's own.
        """
        encoded = image if isinstance(image, Encoded) else self.encode(image)
        if not len(vocabulary):
            raise InputError("the vocabulary is empty: name at least one word")
        probabilities = self.classify(encoded, self.words(vocabulary))
        if task == "semantic":
            found = self._semantic(encoded, probabilities, vocabulary, void_threshold)
        elif task == "panoptic":
            found = self._panoptic(encoded, probabilities, vocabulary)
        elif task == "instance":
            found = self._instances(encoded, probabilities, vocabulary, max_segments)
        else:
            raise InputError(f"task is {task!r}: use one of {', '.join(TASKS)}")
        return found[found.scores >= min_score]

    def label_map(
        self,
        image: Image | Encoded,
        vocabulary: Vocabulary,
        void_threshold: float | None = None,
    ) -> NDArray[np.int64]:
        """(H, W) positions in the vocabulary, -1 where nothing is: what metrics take."""
        encoded = image if isinstance(image, Encoded) else self.encode(image)
        probabilities = self.classify(encoded, self.words(vocabulary))
        return semantic(encoded.canvas, probabilities, void_threshold)[0]

    def label(self, image: Image, segments: Segments, vocabulary: Vocabulary) -> Segments:
        """The same segments with the likeliest word each and its probability; see
        :meth:`shares`."""
        if not len(segments):
            return segments
        found = self.shares(image, segments, vocabulary)
        names = [vocabulary.names[k] for k in found.argmax(1).tolist()]
        return segments.with_labels(names, found.max(1), "ovsnet")

    @torch.inference_mode()
    def shares(
        self, image: Image, segments: Segments, vocabulary: Vocabulary
    ) -> NDArray[np.float32]:
        """Probabilities of a vocabulary's words for given masks, by CLIP alone.

        Args:
            image: the picture.
            segments: M masks from anywhere.
            vocabulary: C words.

        Returns:
            (M, C); rows sum to 1.

        Raises:
            SegmentsError: the masks belong to a picture of another size.
        """
        if segments.size != image.size:
            raise SegmentsError(
                f"the masks belong to a picture of {segments.size}, but this one has {image.size}"
            )
        if not len(segments):
            return np.zeros((0, len(vocabulary)), np.float32)
        pixels = self.input.scale(image)
        batch = padded_batch([pixels]).to(self.device)
        last = self.model.clip.maps(batch)[-1]
        shares = torch.stack([self._cells(rle, pixels, last) for rle in segments.rles])
        pooled = shares.to(last) @ last[0].flatten(1).T
        embeds = self.model.clip.embed_pooled(pooled)[None]
        words = self.words(vocabulary).to(self.device)
        clip_map = self.model.project(last) if self.model.text_transfer is not None else None
        logits = self.model.clip_logits(embeds, words, clip_map)[0, :, :-1]
        return np.asarray(logits.softmax(-1).float().cpu().numpy())

    def _cells(self, rle: Any, pixels: Tensor, last: Tensor) -> Tensor:
        """How much of a mask lies in each cell of CLIP's last map; sums to 1 (0 if empty).

        Shares, unlike FC-CLIP's cells of logit above 0, do not lose small masks.
        """
        mask = torch.from_numpy(decode(rle).astype(np.float32))[None, None]
        mask = F.interpolate(mask, pixels.shape[1:], mode="area")
        height, width = last.shape[-2] * 32, last.shape[-1] * 32
        mask = F.pad(mask, (0, width - mask.shape[-1], 0, height - mask.shape[-2]))
        cells = F.avg_pool2d(mask, 32).flatten()
        return cells / cells.sum().clamp(min=1e-12)

    # ---------------------------------------------------------------------------------- tasks

    def _semantic(
        self,
        encoded: Encoded,
        probabilities: Tensor,
        vocabulary: Vocabulary,
        void_threshold: float | None,
    ) -> Segments:
        classes, scores = semantic(encoded.canvas, probabilities, void_threshold)
        masks = encode_label_map(classes)
        masks.pop(-1, None)
        sums = np.bincount(classes[classes >= 0], scores[classes >= 0], len(vocabulary))
        counts = np.bincount(classes[classes >= 0], minlength=len(vocabulary))
        order = sorted(masks, key=lambda k: -int(counts[k]))
        means = np.array([min(1.0, sums[k] / counts[k]) for k in order], np.float32)
        return self._segments(
            encoded.size, [masks[k] for k in order], order, means, vocabulary, unique=True
        )

    def _panoptic(
        self, encoded: Encoded, probabilities: Tensor, vocabulary: Vocabulary
    ) -> Segments:
        config = self.model.config
        ids, found = panoptic(
            encoded.canvas,
            probabilities,
            kinds_of(vocabulary),
            config.object_threshold,
            config.overlap_threshold,
        )
        masks = encode_label_map(ids)
        kept = [one for one in found if one.id in masks]
        return self._segments(
            encoded.size,
            [masks[one.id] for one in kept],
            [one.category for one in kept],
            np.array([one.score for one in kept], np.float32),
            vocabulary,
        )

    def _instances(
        self, encoded: Encoded, probabilities: Tensor, vocabulary: Vocabulary, top: int
    ) -> Segments:
        found = instances(encoded.canvas, probabilities, kinds_of(vocabulary), top)
        return self._segments(
            encoded.size,
            [one.rle for one in found],
            [one.category for one in found],
            np.array([one.score for one in found], np.float32),
            vocabulary,
        )

    @staticmethod
    def _segments(
        size: tuple[int, int],
        rles: list[Any],
        categories: Sequence[int],
        scores: NDArray[np.float32],
        vocabulary: Vocabulary,
        unique: bool = False,
    ) -> Segments:
        return Segments(
            size,
            rles,
            scores=scores,
            labels=[vocabulary.names[k] for k in categories],
            label_scores=scores,
            label_sources=["ovsnet"] * len(rles),
            ids=[vocabulary.ids[k] for k in categories] if unique else None,
        )
