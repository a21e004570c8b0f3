"""Finding things like those in example masks (SegPrompt, section 5.4).

An example's prompt is the last state of an example query that looked at its mask. Prompts of one
name are averaged; the candidates made of them search a picture, several names at once. Models that
learnt to compare prompts (``likeness``) then ask every mask that was found for its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from anymask.data.formats.atomic import atomic_write
from anymask.errors import CheckpointError, InputError
from anymask.image import Image
from anymask.methods.segprompt.model import SegPromptModel
from anymask.methods.segprompt.processing import (
    SegPromptImageProcessor,
    certainty,
    dense_iou,
    proposals,
)
from anymask.methods.segprompt.prompt_bank import PromptBank
from anymask.methods.segprompt.prompt_learning import PromptLearningConfig, PromptLearningModel
from anymask.methods.segprompt.text_prompts import ClipTexts
from anymask.nn.device import pick_device
from anymask.nn.picture_input import padded
from anymask.nn.weights_digest import weights_digest
from anymask.ops.mask_classification import Canvas
from anymask.ops.masks import greedy_nms
from anymask.ops.rle import RLE
from anymask.segments import Segments

UNNAMED = "object"
BESIDE = "examples.safetensors"  # beside a segmenter: what compares its prompts
SAME_MASK = 0.9  # IoU of masks that are compared with the examples only once
AT_ONCE = 32  # examples of one decoder pass; those of a pass see each other unless isolated


COMPARES: dict[str, Any] = {
    "prompt_classes": 1,
    "use_class_embedding": False,
    "queries_per_class": 0,
    "likeness_weight": 1.0,
    "isolated_examples": True,
    "freeze_segmenter": True,
}


def save_beside(model: PromptLearningModel, segmenter: Path, min_score: float) -> None:
    """Write what compares examples beside the segmenter that it was trained on, in half precision.

    Args:
        model: trained with ``freeze_segmenter``.
        segmenter: folder of the plain segmenter.
        min_score: below which finds are left out by default.

    Raises:
        CheckpointError: the segmenter is another one.
    """
    assert model.branches is not None
    assert model.branches.likeness is not None
    digest = weights_digest(SegPromptModel.from_pretrained(segmenter))
    if weights_digest(model.segmenter) != digest:
        raise CheckpointError(f"{segmenter} is not the segmenter that these examples were made by")
    weights = {
        name: value.half().contiguous()
        for name, value in model.branches.likeness.state_dict().items()
    }
    about = {"format": "pt", "segmenter": digest, "example_min_score": str(min_score)}
    with atomic_write(segmenter / BESIDE) as stream:
        stream.write(save_tensors(weights, metadata=about))


class SegPromptFinder:
    """Finds things like given examples with a :class:`PromptLearningModel`.

    Args:
        model: with prompt branches; it is moved to ``device`` and set to evaluation.
        device: ``"auto"`` (CUDA, then MPS, then CPU) or a torch device.
        isolated: examples do not see each other, so that a prompt depends on its own mask alone;
            False lets the examples of one picture see each other, as in training.
        nms_iou: drop a find whose mask IoU with a better one of the same name exceeds this.

    Raises:
        CheckpointError: the model has no prompt branches.
    """

    def __init__(
        self,
        model: PromptLearningModel,
        device: str | torch.device = "auto",
        isolated: bool = True,
        nms_iou: float = 0.7,
    ) -> None:
        if model.branches is None:
            raise CheckpointError(
                "this model was trained without prompt branches, so it cannot take examples: give "
                "one trained with prompt learning (auxiliary='segprompt')."
            )
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.branches = model.branches
        self.processor = SegPromptImageProcessor.for_config(model.config)
        self.isolated, self.nms_iou = isolated, nms_iou
        self._digest: str | None = None
        self._encode_words: ClipTexts | None = None

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "auto"
    ) -> SegPromptFinder:
        """Load a model saved with ``save_pretrained``."""
        return cls(PromptLearningModel.from_pretrained(folder_or_id), device)

    @classmethod
    def beside(cls, folder: Path, device: str | torch.device = "auto") -> SegPromptFinder:
        """Load a plain segmenter beside which lies what compares its prompts (:func:`save_beside`).

        Raises:
            CheckpointError: the file is damaged or belongs to another segmenter.
        """
        segmenter = SegPromptModel.from_pretrained(folder)
        config = PromptLearningConfig(**segmenter.config.settings(), **COMPARES)
        try:
            with safe_open(str(folder / BESIDE), "pt") as file:
                about = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            config.example_min_score = float(about["example_min_score"])
            model = PromptLearningModel(config)
            model.segmenter = segmenter
            assert model.branches is not None
            assert model.branches.likeness is not None
            model.branches.likeness.load_state_dict(weights)
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder / BESIDE} cannot be used: {error}") from error
        finder = cls(model, device)
        if about.get("segmenter") != finder.checkpoint:
            raise CheckpointError(
                f"{folder / BESIDE} was made for another segmenter than the one beside it: train "
                "it again (anymask train segprompt-pocket-examples)"
            )
        return finder

    @property
    def checkpoint(self) -> str:
        """SHA-256 of the weights that prompts depend on, in hex."""
        if self._digest is None:
            self._digest = weights_digest(self.model.segmenter)
        return self._digest

    # ------------------------------------------------------------------------------- prompts

    @torch.inference_mode()
    def extract(self, image: Image, segments: Segments) -> NDArray[np.float32]:
        """Prompts (n, D) of the regions of a picture, one each.

        Raises:
            InputError: the regions belong to a picture of another size, or one is empty.
        """
        if segments.size != image.size:
            raise InputError(
                f"the example masks are for a picture of {segments.size} (height, width), but the "
                f"picture has {image.size}."
            )
        if not len(segments):
            return np.zeros((0, self.model.config.hidden_dim), np.float32)
        if not segments.areas.all():
            raise InputError("an example mask is empty: every example needs at least one pixel.")
        pixels = self.processor.scale(image)
        height, width = pixels.shape[1:]
        mask_features, levels = self._encode(pixels)
        found = []
        for first in range(0, len(segments), AT_ONCE):
            masks = torch.from_numpy(segments[first : first + AT_ONCE].masks)[None].float()
            scaled = torch.nn.functional.interpolate(masks, (height, width), mode="area")
            # A mask that vanishes in scaling keeps the cell where most of it lies.
            best = scaled.flatten(2).amax(-1)[..., None, None]
            scaled = (scaled >= 0.5 * best.clamp(max=1.0)).float()
            canvas = torch.zeros(masks.shape[1], padded(height), padded(width))
            canvas[:, :height, :width] = scaled[0]
            prompts = self._examined(levels, mask_features, canvas.to(self.device))
            found.append(prompts.float().cpu().numpy())
        return np.concatenate(found)

    def prompts(self, examples: Sequence[tuple[Image, Segments]]) -> PromptBank:
        """The prompt bank of examples; regions without a label count as "object".

        Raises:
            InputError: there is no region, or masks do not fit their picture.
        """
        by_name: dict[str, list[NDArray[np.float32]]] = {}
        for image, segments in examples:
            vectors = self.extract(image, segments)
            for label, vector in zip(segments.labels, vectors, strict=True):
                by_name.setdefault(UNNAMED if label is None else label, []).append(vector)
        if not by_name:
            raise InputError("there is no example mask: give at least one.")
        return PromptBank(
            tuple(by_name),
            np.stack([np.mean(vectors, 0) for vectors in by_name.values()]),
            np.array([len(vectors) for vectors in by_name.values()]),
            self.checkpoint,
        )

    def learned(self, rows: Mapping[str, int]) -> PromptBank:
        """The prompts that training left in the cache, by name.

        Args:
            rows: name -> row of the cache.

        Raises:
            InputError: a row was never seen in training.
        """
        cache = self.branches.cache
        unseen = [name for name, row in rows.items() if not cache.initialised[row]]
        if unseen:
            raise InputError(f"the cache has no prompt for {unseen[0]!r}: it never saw one.")
        vectors = cache.vectors[list(rows.values())].float().cpu().numpy()
        return PromptBank(tuple(rows), vectors, np.ones(len(rows), np.int64), self.checkpoint)

    def of_words(self, names: Sequence[str]) -> PromptBank:
        """The prompt bank of words, encoded as in training (see :meth:`from_text`).

        Raises:
            InputError: the model takes no text, or does not say who encoded its words.
            CheckpointError: that encoder cannot be loaded.
        """
        source = self.model.config.text_encoder
        if self.branches.text is None or not source:
            raise InputError(
                "this model was trained without text: give example masks, or for phrases an "
                "OpenWorldSAM"
            )
        if self._encode_words is None:
            self._encode_words = ClipTexts.from_pretrained(source)
        different = list(dict.fromkeys(names))
        return self.from_text(different, self._encode_words(different))

    @torch.inference_mode()
    def from_text(self, names: Sequence[str], embeddings: NDArray[np.float32]) -> PromptBank:
        """The prompt bank of words (section 5.4), for a model trained with text prompts.

        Args:
            names: C different names.
            embeddings: (C, text_dim), by the encoder that the model was trained with.

        Raises:
            InputError: the model takes no text, or the shapes do not fit.
        """
        text = self.branches.text
        if text is None:
            raise InputError("this model was trained without text: give example masks.")
        if embeddings.shape != (len(names), text.in_features):
            raise InputError(
                f"embeddings are {embeddings.shape}; {text.in_features} numbers for each of the "
                f"{len(names)} names are needed."
            )
        vectors = text(torch.from_numpy(embeddings).to(self.device).float())
        counts = np.ones(len(names), np.int64)
        return PromptBank(tuple(names), vectors.cpu().numpy(), counts, self.checkpoint)

    # --------------------------------------------------------------------------------- finding

    @torch.inference_mode()
    def find(
        self,
        image: Image,
        bank: PromptBank,
        *,
        min_score: float | None = None,
        max_segments: int = 100,
    ) -> Segments:
        """What a picture has of every name in the bank: labelled segments, best first.

        Args:
            image: the picture.
            bank: made by this model.
            min_score: finds below are dropped; a score is p(object) x mean mask probability, and
                of models that compare times the probability of being alike. None = the model's.
            max_segments: at most so many of every name.

        Raises:
            InputError: the bank comes from another checkpoint.
        """
        if bank.checkpoint != self.checkpoint:
            raise InputError(
                "this prompt bank was made with other weights: prompts of one model mean nothing "
                "to another. Make it again with this model."
            )
        lowest = self.model.config.example_min_score if min_score is None else min_score
        pixels = self.processor.scale(image)
        size = (pixels.shape[1], pixels.shape[2])
        mask_features, levels = self._encode(pixels)
        agnostic = self.model.segmenter.queries(levels[-1])
        vectors = torch.from_numpy(bank.vectors)[None].to(agnostic[0])
        source = torch.Generator().manual_seed(0)
        borrowed = self.branches.borrow(agnostic[0].shape[1], len(bank), source)
        # New names have no class embedding s: their prompt alone speaks for them.
        candidates = self.branches.candidates(vectors, None, agnostic, borrowed)
        no_examples = mask_features.new_zeros(1, 0, 1, 1)
        packed = self.model.packed(levels, mask_features, agnostic, candidates, no_examples)
        agnostic_states, states = packed.states[-1][0], packed.states[-1][1]
        logits, masks = self.model.heads(states)[0], packed.masks[-1][1][0]
        if self.branches.likeness is not None and self.branches.text is None:
            # Whatever any query found may be what any name means.
            logits = torch.cat([self.model.segmenter.class_head(agnostic_states)[0], logits])
            masks = torch.cat([packed.masks[-1][0][0], masks])
            rank = (1 - logits.float().softmax(-1)[:, -1]) * certainty(masks.float())
            order = rank.argsort(descending=True, stable=True)
            order = order[greedy_nms(dense_iou(masks[order] > 0), SAME_MASK)]
            logits, masks = logits[order], masks[order]
            alike = self._likeness(levels, mask_features, masks, vectors[0])
            found = _of_any_name(
                logits, masks, alike, bank.names, size, image.size, lowest, max_segments,
                self.nms_iou,
            )  # fmt: skip
            return found.sorted_by_score()
        slots = self.model.config.queries_per_class
        found = Segments.empty(image.size)
        for number, name in enumerate(bank.names):
            mine = slice(number * slots, (number + 1) * slots)
            segments = proposals(
                logits[mine],
                masks[mine],
                None,
                scaled_size=size,
                original_size=image.size,
                min_score=lowest,
                max_segments=max_segments,
                nms_iou=self.nms_iou,
            )
            found = found + segments.with_labels([name] * len(segments))
        return found.sorted_by_score()

    def _likeness(
        self, levels: list[Tensor], mask_features: Tensor, masks: Tensor, bank: Tensor
    ) -> Tensor:
        """Logits (N, C) of masks (N, h, w) showing what the prompts (C, D) of a bank mean."""
        assert self.branches.likeness is not None
        prompts = self._examined(levels, mask_features, (masks > 0).float())
        return self.branches.likeness(prompts, bank)  # type: ignore[no-any-return]

    def _examined(self, levels: list[Tensor], mask_features: Tensor, masks: Tensor) -> Tensor:
        """Prompts (N, D) of masks (N, H, W) float of an encoded picture."""
        agnostic = self.model.segmenter.queries(levels[-1])
        nothing = (agnostic[0][:, :0], agnostic[1][:, :0])
        found = []
        for some in masks.split(AT_ONCE):
            packed = self.model.packed(
                levels, mask_features, nothing, nothing, some[None], isolated=self.isolated
            )
            found.append(packed.examples[0])
        return torch.cat(found)

    def _encode(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        height, width = pixels.shape[1:]
        batch = torch.zeros(1, 3, padded(height), padded(width))
        batch[0, :, :height, :width] = pixels
        return self.model.segmenter.encode(batch.to(self.device))


@torch.no_grad()
def _of_any_name(
    class_logits: Tensor,
    masks: Tensor,
    alike: Tensor,
    names: Sequence[str],
    scaled_size: tuple[int, int],
    original_size: tuple[int, int],
    min_score: float,
    max_segments: int,
    nms_iou: float,
) -> Segments:
    """What ``processing.proposals`` finds for every name among the same masks, each of which is
    brought to the picture's size once.

    Args:
        class_logits, masks: (N, 2) and (N, h, w).
        alike: (N, C) logits of showing what a name means.
        names: C.
        scaled_size, original_size, min_score, max_segments, nms_iou: as there.
    """
    masks = masks.float()
    objectness = 1 - class_logits.float().softmax(-1)[:, -1]
    most = (objectness[:, None] * alike.float().sigmoid()).cpu().numpy()  # no score is above it
    rank = most * certainty(masks).cpu().numpy()[:, None]
    overlaps = dense_iou(masks > 0)
    canvas = Canvas(masks.cpu(), scaled_size, original_size)
    outlines: dict[int, tuple[RLE, float]] = {}
    rles: list[RLE] = []
    scores: list[float] = []
    labels: list[str] = []
    for column, name in enumerate(names):
        order = np.argsort(-rank[:, column], kind="stable")
        order = order[most[order, column] >= min_score]
        order = order[greedy_nms(overlaps[np.ix_(order, order)], nms_iou)]
        count = 0
        for row in order.tolist():
            if count == max_segments:
                break
            if row not in outlines:
                outlines[row] = canvas.rle(row)
            rle, inside = outlines[row]
            score = float(most[row, column]) * inside
            if inside > 0 and score >= min_score:
                rles.append(rle)
                scores.append(score)
                labels.append(name)
                count += 1
    return Segments(original_size, rles, scores=np.array(scores, np.float32), labels=labels)
