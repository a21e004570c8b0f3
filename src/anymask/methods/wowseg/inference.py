"""The namer: a picture and masks from anywhere in, a free name for each out.

The picture is read once; behind it every mask has a branch of its own (specification 3.7 and 3.8),
so a name never depends on the other masks, and all are written in parallel.

Shape legend: P tokens of the prefix, K masks of a chunk, D width, V words.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from anymask.errors import SegmentsError
from anymask.image import Image
from anymask.methods.named import Named, labelled
from anymask.methods.wowseg.names import TRAINING_PROMPT, clean_answer
from anymask.methods.wowseg.packed import embeddings, region_tokens, visual_tokens
from anymask.methods.wowseg.picture import Encoding, Prepared, prepare
from anymask.methods.wowseg.prompt import SYSTEM, Prompt, make_prompt
from anymask.nn.device import pick_device
from anymask.ops.rle import decode
from anymask.segments import Segments

CROPS_AT_ONCE = 8  # that the eye looks at together
CACHE_BYTES = 1 << 30  # of the prefix, repeated for the masks of a chunk
SOURCE = "wowseg"


class WOWSegNamer:
    """Names masks with an InternVL trained as WOW-Seg, or any other InternVL.

    Args:
        model: a transformers ``InternVLForConditionalGeneration``; moved to ``device``.
        tokenizer: its own.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
        question: has one ``<image>`` for the picture; the released model was trained with the
            default.
        system: the system's turn; the same.
        most_tiles, scale, encoding, share: see ``picture.prepare``.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        device: str | torch.device = "auto",
        question: str = TRAINING_PROMPT,
        system: str = SYSTEM,
        most_tiles: int = 12,
        scale: float = 2.0,
        encoding: Encoding = "mask2token",
        share: float = 1.0,
    ) -> None:
        self.device = pick_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.question = question
        self.system = system
        self.most_tiles = most_tiles
        self.scale = scale
        self.encoding = encoding
        self.share = share

    def __call__(
        self, image: Image, segments: Segments, *, longest: int = 24, **sampling: Any
    ) -> Segments:
        """The same segments with names and their probabilities; others keep what they had.

        Args:
            image: the picture.
            segments: masks from anywhere.
            longest: tokens of a name.
            sampling: see :meth:`names`.

        Raises:
            SegmentsError: the masks belong to a picture of another size.
        """
        named = self.names(image, segments, longest=longest, **sampling)
        return labelled(segments, named, SOURCE)

    @torch.inference_mode()
    def names(
        self,
        image: Image,
        segments: Segments,
        *,
        longest: int = 24,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Named]:
        """Names as they are ready: masks without a token first, then chunk by chunk.

        Args:
            image: the picture.
            segments: masks from anywhere.
            longest: tokens of a name.
            temperature: 0 = the likeliest word each time; above, words are drawn.
            seed: of the drawing.

        Raises:
            SegmentsError: the masks belong to a picture of another size.
        """
        if segments.size != image.size:
            raise SegmentsError(
                f"the masks belong to a picture of {segments.size}, but this one has {image.size}"
            )
        vision = self.model.config.vision_config
        side, grid = int(vision.image_size[0]), round(self.model.config.image_seq_length**0.5)
        seen = prepare(
            image,
            [decode(rle) for rle in segments.rles],
            most_tiles=self.most_tiles,
            scale=self.scale,
            side=side,
            grid=grid,
            encoding=self.encoding,
            share=self.share,
        )
        for row, status in enumerate(seen.status):
            if status != "ok":
                yield Named(row, "", "", float("nan"), status)
        if not seen.rows:
            return
        prompt = make_prompt(
            self.tokenizer, seen.picture_tokens(grid * grid), self.question, self.system
        )
        cache = self._read(seen, prompt)
        source = torch.Generator(self.device).manual_seed(seed)
        step = self._masks_at_once(len(prompt.prefix))
        for start in range(0, len(seen.rows), step):
            part = slice(start, start + step)
            regions = self._regions(seen, part)
            written = self._write(prompt, cache, regions, longest, temperature, source)
            for row, (numbers, log_probability) in zip(seen.rows[part], written, strict=True):
                answer = self.tokenizer.decode(numbers, skip_special_tokens=True).strip()
                yield Named(row, clean_answer(answer), answer, log_probability)

    # ------------------------------------------------------------------------------------- steps

    def _look(self, pictures: Tensor) -> Tensor:
        """Tiles or crops -> (n, T, D), some at a time."""
        dtype = self.model.dtype
        parts = [
            visual_tokens(self.model, part.to(self.device, dtype))
            for part in pictures.split(CROPS_AT_ONCE)
        ]
        return torch.cat(parts)

    def _read(self, seen: Prepared, prompt: Prompt) -> DynamicCache:
        """The picture and the question, once."""
        return self._read_tokens(self._look(seen.tiles), prompt)

    def _read_tokens(self, tiles: Tensor, prompt: Prompt) -> DynamicCache:
        """The same, of tiles that were looked at: (T, cells, D)."""
        ids = torch.tensor([prompt.prefix], device=self.device)
        embeds = embeddings(self.model, ids, tiles.flatten(0, 1))
        cache = DynamicCache(config=self.model.config.text_config)
        # Without a mask of four dimensions this is an ordinary causal prefill.
        self.model(inputs_embeds=embeds, past_key_values=cache, use_cache=True, logits_to_keep=1)
        return cache

    def _regions(self, seen: Prepared, part: slice) -> list[Tensor]:
        """The tokens of every mask: K x (n, D)."""
        used = sorted(set(seen.crop_of[part]))
        place = {crop: k for k, crop in enumerate(used)}
        tokens = self._look(seen.crops[used])[[place[crop] for crop in seen.crop_of[part]]]
        selectors = seen.selectors[part].to(self.device)
        flat = region_tokens(tokens, torch.ones(len(tokens), dtype=torch.bool), selectors)
        return list(flat.split(selectors.flatten(1).sum(1).tolist()))

    def _masks_at_once(self, prefix: int) -> int:
        text = self.model.config.text_config
        head = text.hidden_size // text.num_attention_heads
        token = text.num_hidden_layers * 2 * text.num_key_value_heads * head
        token *= torch.finfo(self.model.dtype).bits // 8
        return max(1, min(64, CACHE_BYTES // max(1, token * prefix)))

    def _write(
        self,
        prompt: Prompt,
        cache: DynamicCache,
        regions: Sequence[Tensor],
        longest: int,
        temperature: float,
        source: torch.Generator,
    ) -> list[tuple[list[int], float]]:
        """Names of K masks behind one prefix: token numbers and log-probabilities."""
        words = self.model.get_input_embeddings()
        device, start = self.device, len(prompt.prefix)
        rows = []
        for region in regions:
            ids = torch.tensor([[*prompt.region(len(region)), *prompt.suffix]], device=device)
            rows.append(embeddings(self.model, ids, region)[0])
        # Shorter branches are padded between the prefix and their first token.
        width = max(len(row) for row in rows)
        embeds = torch.stack([_padded_left(row, width) for row in rows])
        lengths = torch.tensor([len(row) for row in rows], device=device)
        place = torch.arange(width, device=device)[None]
        real = place >= width - lengths[:, None]
        keep = torch.cat([real.new_ones(len(rows), start), real], 1)
        positions = (start + place - (width - lengths[:, None])).clamp(min=0)
        own = copy.deepcopy(cache)
        own.batch_repeat_interleave(len(rows))
        found: list[list[int]] = [[] for _ in rows]
        total = torch.zeros(len(rows), dtype=torch.float64)
        open_rows = [True] * len(rows)
        last = positions[:, -1:]
        for _ in range(longest):
            logits = self.model(
                inputs_embeds=embeds,
                attention_mask=keep,
                position_ids=positions,
                past_key_values=own,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]  # fmt: skip
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            chances = logits.log_softmax(-1)
            if temperature > 0:
                shares = (logits / temperature).softmax(-1)
                chosen = torch.multinomial(shares, 1, generator=source)[:, 0]
            else:
                chosen = chances.argmax(-1)
            gained = chances.gather(1, chosen[:, None])[:, 0].double().cpu()
            for row, number in enumerate(chosen.tolist()):
                if not open_rows[row]:
                    continue
                total[row] += gained[row]
                if number == prompt.end or number in prompt.separators:
                    open_rows[row] = False
                else:
                    found[row].append(number)
            if not any(open_rows):
                break
            embeds, last = words(chosen)[:, None], last + 1
            positions = last
            keep = torch.cat([keep, keep.new_ones(len(rows), 1)], 1)
        return list(zip(found, total.tolist(), strict=True))


def _padded_left(row: Tensor, width: int) -> Tensor:
    return torch.cat([row.new_zeros(width - len(row), row.shape[1]), row])
