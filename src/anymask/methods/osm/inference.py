"""The namer of OSM: a picture is encoded once, all masks are asked about together.

Shape legend: M masks, S side of the canvas, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anymask.errors import SegmentsError
from anymask.image import Image
from anymask.methods.named import Named, labelled
from anymask.methods.osm.canvas import canvas_pixels, mask_canvas, picture_canvas
from anymask.methods.osm.decoding import likelihoods, write
from anymask.methods.osm.ensemble import geometric
from anymask.methods.osm.model import OSMModel
from anymask.methods.osm.templates import Texts, question
from anymask.nn.device import pick_device
from anymask.nn.remembered import Remembered
from anymask.ops.rle import decode
from anymask.segments import Segments
from anymask.vocabulary import Vocabulary

SOURCE = "osm"
Opinion = Callable[[Image, Segments, Vocabulary], NDArray[np.float32]]
AT_ONCE = 16  # masks: bounds the attention masks and the language model's memory


class OSMNamer:
    """Names masks with an OSM.

    Args:
        model: moved to ``device``.
        texts: its two tokenizers.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        mode: ``"any"`` for any words, or a data set whose words are wanted (``"coco"``, ...);
            None = any words, of a model with mode queries or of one without.
        lost: what a mask sees that no patch's pixel hits: the patch of its ``"centroid"``, or
            ``"none"``, class tokens only, as in the released code.
        box: the masks are boxes, and the question says so.
    """

    def __init__(
        self,
        model: OSMModel,
        texts: Texts,
        device: str | torch.device = "auto",
        mode: str | None = None,
        lost: str = "centroid",
        box: bool = False,
    ) -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.texts = texts
        self.mode = "any" if mode is None and model.config.modes else mode
        self.lost = lost
        self.box = box
        self.look = Remembered(self._look)

    @torch.inference_mode()
    def _look(self, image: Image) -> Tensor:
        """Image tokens: (1, K, D)."""
        pixels = canvas_pixels(picture_canvas(image, self.model.config.canvas))[None]
        return self.model.encode(pixels.to(self.device, self.model.dtype))

    def __call__(
        self, image: Image, segments: Segments, *, longest: int = 12, mode: str | None = None
    ) -> Segments:
        """The same segments with names and their probabilities; others keep what they had.

        Args:
            image: the picture.
            segments: masks from anywhere.
            longest: tokens of a name.
            mode: another mode than the namer's.

        Raises:
            SegmentsError: the masks belong to a picture of another size.
            InputError: an unknown mode.
        """
        named = self.names(image, segments, longest=longest, mode=mode)
        return labelled(segments, named, SOURCE)

    @torch.inference_mode()
    def names(
        self,
        image: Image,
        segments: Segments,
        *,
        longest: int = 12,
        mode: str | None = None,
    ) -> Iterator[Named]:
        """Names as they are ready, some at a time; masks that vanish on the canvas come last."""
        seen: set[int] = set()
        question_ids, chosen = self._asked(mode)
        for rows, looked in self.looked(image, segments, mode):
            prompt = self.model.prompt(looked, chosen)
            found = write(self.model.language_model, prompt, question_ids, self.texts.end, longest)
            for row, ids, shares in zip(rows, found.ids, found.probabilities, strict=True):
                text = self.texts.language.decode(ids, skip_special_tokens=True).strip()
                sure = float(np.log(np.maximum(shares, 1e-30)).sum())
                yield Named(row, text, text, sure)
            seen.update(rows)
        for row in sorted(set(range(len(segments))) - seen):
            yield Named(row, "", "", float("nan"), "empty_mask")

    @torch.inference_mode()
    def score(
        self, image: Image, segments: Segments, vocabulary: Vocabulary, *, mode: str | None = None
    ) -> NDArray[np.float32]:
        """Probabilities of given classes: (M, C), rows of masks that vanish are NaN.

        A softmax over the mean log-probability a token of each class's words, the best word of a
        class counting (specification 5.4: the procedure is not published).

        Args:
            image: the picture.
            segments: masks of it.
            vocabulary: C classes with synonyms.
            mode: another mode than the namer's.
        """
        words = [(w, k) for k, c in enumerate(vocabulary.categories) for w in c.words]
        tokens = [self._name_ids(word) for word, _ in words]
        owner = torch.tensor([k for _, k in words])
        question_ids, chosen = self._asked(mode)
        found = np.full((len(segments), len(vocabulary)), np.nan, np.float32)
        for rows, looked in self.looked(image, segments, mode):
            prompt = self.model.prompt(looked, chosen)
            chances = likelihoods(
                self.model.language_model, prompt, question_ids, tokens, self.texts.end
            ).cpu()
            best = torch.full((len(chances), len(vocabulary)), -torch.inf)
            best.scatter_reduce_(1, owner.expand_as(chances), chances, "amax")
            found[rows] = best.softmax(1).numpy()
        return found

    def choose(
        self,
        image: Image,
        segments: Segments,
        vocabulary: Vocabulary,
        *,
        mode: str | None = None,
        second: Opinion | None = None,
        trained: Vocabulary | None = None,
    ) -> Segments:
        """The same segments with the likeliest word of a list each, and its probability; see
        :meth:`score`. Masks that vanish on the canvas keep what they had.

        Args:
            image, segments, vocabulary, mode: see there.
            second: another model's (M, C) probabilities, for a geometric ensemble: a CLIP's, such
                as :meth:`~anymask.methods.ovsnet.inference.OVSNetMatcher.shares`.
            trained: what this model was trained on, for the ensemble.
        """
        shares = self.score(image, segments, vocabulary, mode=mode)
        if second is not None:
            known = [
                trained is not None and any(word in trained for word in c.words)
                for c in vocabulary.categories
            ]
            shares = geometric(shares, second(image, segments, vocabulary), np.array(known))
        named = [
            Named(row, vocabulary.names[int(share.argmax())], "", float(np.log(share.max())))
            for row, share in enumerate(shares)
            if np.isfinite(share).all()
        ]
        return labelled(segments, named, SOURCE)

    def _name_ids(self, name: str) -> list[int]:
        """Tokens of a name behind the question, without the question's own."""
        asked = self.texts.language(question(box=self.box))["input_ids"]
        whole = self.texts.language(f"{question(box=self.box)} {name}")["input_ids"]
        return list(whole[len(asked) :])

    def _asked(self, mode: str | None) -> tuple[Tensor, str | None]:
        """The question as the language model reads it, and the mode it is asked in."""
        return self.texts.asked(question(box=self.box))[0], self.mode if mode is None else mode

    @torch.inference_mode()
    def looked(
        self, image: Image, segments: Segments, mode: str | None = None
    ) -> Iterator[tuple[list[int], Tensor]]:
        """What the mask queries bring back, some masks at a time: their rows and (R, 32, C).

        Masks that have no pixel on the canvas are left out.

        Raises:
            SegmentsError: the masks belong to a picture of another size.
            InputError: an unknown mode.
        """
        if segments.size != image.size:
            raise SegmentsError(
                f"the masks belong to a picture of {segments.size}, but this one has {image.size}"
            )
        _, chosen = self._asked(mode)
        on_canvas = mask_canvas([decode(rle) for rle in segments.rles], self.model.config.canvas)
        rows = [k for k in range(len(segments)) if on_canvas[k].any()]
        qformer = self.texts.asked(question(box=self.box))[1].to(self.device)
        for start in range(0, len(rows), AT_ONCE):
            part = rows[start : start + AT_ONCE]
            masks = torch.from_numpy(on_canvas[part]).to(self.device)
            ids = qformer.expand(len(part), -1)
            keep = torch.ones_like(ids, dtype=torch.bool)
            features = self.look(image)  # remembered
            yield part, self.model.look(features, masks, ids, keep, chosen, lost=self.lost)
