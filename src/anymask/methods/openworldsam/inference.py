"""The finder: a picture and phrases in, labelled segments out.

A picture is encoded once, however many phrases are asked. Phrases are answered a few at a time, so
hundreds of them need no more memory than twenty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from anymask.errors import InputError
from anymask.image import Image
from anymask.methods.openworldsam.model import OpenWorldSAMModel
from anymask.methods.openworldsam.results import (
    Answers,
    best_of_each,
    class_weight,
    instances,
    panoptic_map,
)
from anymask.methods.openworldsam.tokens import load_words
from anymask.methods.sam2.prompting import Sam2Prompter
from anymask.nn.device import pick_device
from anymask.nn.remembered import Remembered
from anymask.nn.sam2_decoder import Sam2Features
from anymask.ops.kinds import kinds_of
from anymask.ops.mask_classification import Canvas
from anymask.ops.rle import encode_label_map
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

Task = Literal["instance", "referring", "semantic", "panoptic"]
TASKS = ("instance", "referring", "semantic", "panoptic")
QUERIES_AT_ONCE = 160  # whose masks are in memory together
PHRASES_AT_ONCE = 16  # that the reader reads together
TOGETHER = 20  # phrases that meet in the released layout; its evaluation has the same limit
SOURCE = "openworldsam"


@dataclass(frozen=True)
class Looked:
    """A picture before any phrase.

    Attributes:
        size: (H, W).
        features: SAM 2's.
        reader_pixels: (1, 3, s, s) for the reader, or None.
        read: phrases that were read already, and their vectors.
    """

    size: tuple[int, int]
    features: Sam2Features
    reader_pixels: Tensor | None
    read: dict[str, Tensor] = field(default_factory=dict)


class PhraseFinder:
    """Finds what phrases describe, and answers clicks and boxes with the same SAM 2.

    Args:
        model: moved to ``device`` and set to evaluation.
        tokenizer: of the model's reader.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
    """

    def __init__(
        self, model: OpenWorldSAMModel, tokenizer: Any, device: str | torch.device = "auto"
    ) -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.prompts = Sam2Prompter(model.sam, model.config.antialias)
        self.look = Remembered(self._look)

    @classmethod
    def from_pretrained(
        cls, folder_or_id: str | Path, device: str | torch.device = "auto", **kwargs: Any
    ) -> PhraseFinder:
        """Load a folder (or hub id) with model and tokenizer.

        Raises:
            CheckpointError: the tokenizer is missing.
        """
        model = OpenWorldSAMModel.from_pretrained(folder_or_id, **kwargs)
        return cls(model, load_words(folder_or_id), device)

    @property
    def says_absent(self) -> bool:
        """Whether the weights were trained to say that a phrase means nothing in a picture."""
        return bool(self.model.config.presence_threshold > 0)

    # ------------------------------------------------------------------------------------ looking

    @torch.inference_mode()
    def _look(self, image: Image) -> Looked:
        reader = self.model.reader
        pixels = reader.pixels(image)[None].to(self.device) if reader.picture_size else None
        return Looked(image.size, self.prompts.look(image), pixels)

    @torch.inference_mode()
    def vectors(self, looked: Looked, phrases: Sequence[str]) -> Tensor:
        """(P, D) vectors of phrases about a picture; phrases read before are not read again."""
        new = [phrase for phrase in phrases if phrase not in looked.read]
        for start in range(0, len(new), PHRASES_AT_ONCE):
            part = new[start : start + PHRASES_AT_ONCE]
            words = self.model.reader.words(self.tokenizer, part)
            moved = {name: value.to(self.device) for name, value in words.items()}
            one = torch.zeros(len(part), dtype=torch.int64, device=self.device)
            read = self.model.read(looked.reader_pixels, moved, one)
            looked.read.update(zip(part, read, strict=True))
        return torch.stack([looked.read[phrase] for phrase in phrases])

    # ---------------------------------------------------------------------------------- answering

    @torch.inference_mode()
    def answers(
        self,
        looked: Looked,
        phrases: Sequence[str],
        *,
        min_iou: float | None = None,
        two_stage: float | None = None,
    ) -> Iterator[Answers]:
        """All queries of all phrases, some phrases at a time.

        Args:
            looked: a picture.
            phrases: what to ask.
            min_iou: queries that surely score below may be left out, which saves their drawing.
            two_stage: queries that score at least this are refined by feeding their masks back,
                and the others dropped (section 3.5; 0.7 in the paper); None = one stage.

        Yields:
            Answers whose labels count through all phrases, absent phrases left out.
        """
        config = self.model.config
        vectors = self.vectors(looked, phrases)
        each = self.model.adapter.queries_per_phrase
        pairs = (
            config.prompt_layout == "all_pairs" and self.model.adapter.soft_prompting is not None
        )
        group = TOGETHER if pairs else len(phrases)
        for first in range(0, len(phrases), group):
            mine = vectors[first : first + group]
            tokens = self.model.tokens(looked.features, mine[None])[0]
            step = max(1, QUERIES_AT_ONCE // each) * each
            for start in range(0, len(tokens), step):
                part = tokens[start : start + step]
                found = self.model.segment(looked.features, part[None], "best", min_iou)
                scores = found.iou[:, 0].float()
                labels = first + (start + found.rows) // each
                sure = found.object_logits.float().sigmoid()
                if self.says_absent:
                    scores = scores * sure
                    there = _present(labels, sure, len(phrases), config.presence_threshold)
                    kept = there[labels]
                else:
                    kept = torch.ones_like(labels, dtype=torch.bool)
                logits = found.logits[:, 0].float()
                if two_stage is not None:
                    kept = kept & (scores >= two_stage)
                    logits, scores = self._refined(looked, logits[kept], sure[kept])
                else:
                    logits, scores = logits[kept], scores[kept]
                canvas = Canvas(logits.cpu(), None, looked.size)
                yield Answers(canvas, scores.cpu(), labels[kept].cpu())

    def _refined(self, looked: Looked, logits: Tensor, sure: Tensor) -> tuple[Tensor, Tensor]:
        """Masks fed back, without any other prompt."""
        empty = self.model.sam.no_points(1, len(logits))[0]
        found = self.model.sam.ask(looked.features, empty, logits[:, None])
        scores = found.iou[:, 0].float()
        return found.logits[:, 0].float(), scores * sure if self.says_absent else scores

    def __call__(
        self,
        image: Image | Looked,
        phrases: Sequence[str],
        task: Task = "instance",
        *,
        min_score: float | None = None,
        max_segments: int = 100,
        two_stage: bool = False,
    ) -> Segments:
        """Find what phrases describe.

        Args:
            image: the picture, or what :attr:`look` made of it.
            phrases: words or sentences; the label of a segment is always one of them.
            task: ``"instance"``: everything each phrase means; ``"referring"``: the best segment
                of each; ``"semantic"``: every pixel to the phrase that fits best; ``"panoptic"``:
                pixels to at most one segment, stuff of one phrase in one piece.
            min_score: lowest score of an instance or a panoptic segment, in 0..1; None = the
                model's own. Referring and semantic results ask for none unless it is given.
            max_segments: of a phrase, best first.
            two_stage: refine masks by feeding them back.

        Returns:
            Labelled segments, best first; referring ones in the order of the phrases, semantic
            ones by falling area.

        Raises:
            InputError: no phrase, an empty one, or an unknown task.
        """
        asked = checked_phrases(phrases)
        looked = image if isinstance(image, Looked) else self.look(image)
        config = self.model.config
        lowest = config.score_threshold if min_score is None else min_score
        sifted = task in ("instance", "panoptic")
        options: dict[str, Any] = {"min_iou": lowest if sifted and not two_stage else None}
        if two_stage:
            options["two_stage"] = lowest if sifted or task == "semantic" else 0.0
        stream = self.answers(looked, asked, **options)
        if task == "semantic":
            found = self._semantic(looked, asked, stream)
        elif task == "referring":
            found = self._referring(looked, asked, stream)
        elif task == "panoptic":
            found = self._panoptic(looked, asked, stream, lowest)
        elif task == "instance":
            found = self._instances(looked, asked, stream, lowest, max_segments)
        else:
            raise InputError(f"task is {task!r}: use one of {', '.join(TASKS)}")
        return found if min_score is None else found[found.scores >= min_score]

    def _instances(
        self,
        looked: Looked,
        phrases: Sequence[str],
        stream: Iterator[Answers],
        lowest: float,
        most: int,
    ) -> Segments:
        config = self.model.config
        # Boxes of all phrases compete in the released code, masks of one phrase in ours.
        parts = [_joined(list(stream))] if config.instance_nms == "box" else stream
        result = Segments.empty(looked.size)
        for answers in parts:
            if answers is None or not len(answers):
                continue
            found = instances(answers, lowest, config.nms_iou, config.instance_nms)
            rows = torch.from_numpy(found.rows)
            segments = self._segments(
                looked, found.rles, answers.scores[rows], answers.labels[rows], phrases
            )
            result = result + segments[_best_of_each_label(segments, most)]
        return result.sorted_by_score()

    def _referring(
        self, looked: Looked, phrases: Sequence[str], stream: Iterator[Answers]
    ) -> Segments:
        result = Segments.empty(looked.size)
        for answers in stream:
            best = best_of_each(answers.scores, answers.labels)
            rles = [answers.canvas.rle(int(k))[0] for k in best]
            result = result + self._segments(
                looked, rles, answers.scores[best], answers.labels[best], phrases
            )
        return result

    def _semantic(
        self, looked: Looked, phrases: Sequence[str], stream: Iterator[Answers]
    ) -> Segments:
        """arg max over phrases of sum_n w(s_n) sigmoid(mask_n) (specification 4.1)."""
        height, width = looked.size
        best = np.zeros((height, width), np.float32)
        which = np.full((height, width), -1, np.int64)
        for answers in stream:
            weights = class_weight(answers.scores, len(phrases))
            for label in answers.labels.unique().tolist():
                rows = (answers.labels == label).nonzero()[:, 0]
                for columns, logits in answers.canvas.stripes(rows, 0):
                    score = (logits.sigmoid() @ weights[rows]).T.numpy()
                    better = score > best[:, columns]
                    best[:, columns][better] = score[better]
                    which[:, columns][better] = label
        masks = encode_label_map(which)
        masks.pop(-1, None)
        labels = sorted(masks)
        means = torch.tensor([min(1.0, float(best[which == label].mean())) for label in labels])
        rles = [masks[label] for label in labels]
        found = self._segments(looked, rles, means, torch.tensor(labels), phrases)
        return found[np.argsort(-found.areas, kind="stable")]

    def _panoptic(
        self, looked: Looked, phrases: Sequence[str], stream: Iterator[Answers], lowest: float
    ) -> Segments:
        parts = [answers[answers.scores > lowest] for answers in stream]
        answers = _joined(parts)
        if answers is None or not len(answers):
            return Segments.empty(looked.size)
        # One by one: phrases that only differ in their case are two phrases.
        kinds = [kinds_of(Vocabulary.from_names([phrase]))[0] for phrase in phrases]
        ids, segments = panoptic_map(answers, kinds, lowest, self.model.config.nms_iou)
        masks = encode_label_map(ids)
        kept = [one for one in segments if one.id in masks]
        return self._segments(
            looked,
            [masks[one.id] for one in kept],
            torch.tensor([one.score for one in kept]),
            torch.tensor([one.category for one in kept], dtype=torch.int64),
            phrases,
        )

    @staticmethod
    def _segments(
        looked: Looked, rles: Sequence[Any], scores: Tensor, labels: Tensor, phrases: Sequence[str]
    ) -> Segments:
        values = scores.numpy().astype(np.float32)
        return Segments(
            looked.size,
            list(rles),
            scores=values,
            labels=[phrases[k] for k in labels.tolist()],
            label_scores=values,
            label_sources=[SOURCE] * len(rles),
        )


def checked_phrases(phrases: Any) -> list[str]:
    """Phrases without doubles, in their order; one string is one phrase.

    Raises:
        InputError: none, an empty one, or something that is no text.
    """
    given = [phrases] if isinstance(phrases, str) else list(phrases)
    for phrase in given:
        if not isinstance(phrase, str) or not phrase.strip():
            raise InputError(f"{phrase!r} is no phrase: give words, such as 'red cup'")
    if not given:
        raise InputError("no phrase was given: say what to find, such as 'red cup'")
    return list(dict.fromkeys(phrase.strip() for phrase in given))


def _present(labels: Tensor, sure: Tensor, count: int, threshold: float) -> Tensor:
    """(P,) bool: some query of the phrase is sure enough that there is something."""
    best = sure.new_zeros(count).scatter_reduce(0, labels, sure, "amax")
    return best >= threshold


def _joined(parts: Sequence[Answers]) -> Answers | None:
    if not parts:
        return None
    canvas = parts[0].canvas
    logits = torch.cat([part.canvas.logits for part in parts])
    return Answers(
        Canvas(logits, canvas.scaled_size, canvas.size),
        torch.cat([part.scores for part in parts]),
        torch.cat([part.labels for part in parts]),
    )


def _best_of_each_label(segments: Segments, most: int) -> list[int]:
    seen: dict[str | None, int] = {}
    kept = []
    for row, label in enumerate(segments.labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] <= most:
            kept.append(row)
    return kept
