"""What naming costs, from 1 to 32 masks of a picture (WOW-Seg, Fig. 7), and where it goes.

    python benchmarks/name.py [--instances 1 2 4 8 16 32] [--tiles 12] [--layers 24] [--quick]

A model of InternVL3-1B's sizes with random weights names masks of one picture. Beside the packed
system (the picture once, all masks behind it) stands the usual one, which runs the whole model for
every mask. Timed apart are the eye on the picture's tiles, the eye on the masks' crops, the reading
of the prefix, and the writing of the names. One mask a run costs the same for every mask, so
--loop-runs of them are timed and multiplied. Every number is a ratio of times of one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import InternVLConfig, InternVLForConditionalGeneration

from anymask.image import Image
from anymask.methods.wowseg.inference import WOWSegNamer
from anymask.methods.wowseg.picture import Prepared, prepare
from anymask.methods.wowseg.prompt import CONTEXT, END, IMAGE_END, IMAGE_START, START, make_prompt
from anymask.nn.cpu import tune_cpu

LONGEST = 8  # tokens of a name; random weights never end one themselves


def tokenizer(words: int) -> Any:
    """Bytes and the special tokens, the last of which is the picture's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({c: k for k, c in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=made)
    special = [START, END, IMAGE_START, IMAGE_END, CONTEXT]
    fast.add_special_tokens({"additional_special_tokens": special})
    assert len(fast) <= words
    return fast


def build(quick: bool, layers: int = 24) -> tuple[Any, Any]:
    """InternVL3-1B's sizes, or tiny ones."""
    torch.manual_seed(0)
    words = 400 if quick else 151_674
    made = tokenizer(words)
    layers = 2 if quick else layers
    wide, text = (32, 32) if quick else (1024, 896)
    config = InternVLConfig(
        vision_config={
            "hidden_size": wide, "num_attention_heads": 2 if quick else 16,
            "intermediate_size": 4 * wide, "num_hidden_layers": layers,
            "image_size": [56, 56] if quick else [448, 448],
            "patch_size": [7, 7] if quick else [14, 14], "attention_bias": True,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": words, "hidden_size": text,
            "intermediate_size": 64 if quick else 4864, "num_hidden_layers": layers,
            "num_attention_heads": 2 if quick else 14, "num_key_value_heads": 2,
            "tie_word_embeddings": False,
        },
        image_token_id=made.convert_tokens_to_ids(CONTEXT),
        image_seq_length=16 if quick else 256,
        tie_word_embeddings=False,
    )  # fmt: skip
    return InternVLForConditionalGeneration(config).eval(), made


def picture(count: int) -> tuple[Image, list[Any]]:
    """A picture of 1024 x 768 with masks as LVIS has them: discs of many sizes, a third of them
    parts of another."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (768, 1024, 3), dtype=np.uint8)
    y, x = np.indices((768, 1024))
    masks: list[Any] = []
    for k in range(count):
        if k % 3 == 2:
            radius, (cy, cx) = radius * 0.6, (cy + 0.2 * radius, cx)  # noqa: F821 - of the last
        else:
            radius = float(np.exp(rng.uniform(np.log(20), np.log(160))))
            cy, cx = rng.uniform(radius, 768 - radius), rng.uniform(radius, 1024 - radius)
        masks.append((y - cy) ** 2 + (x - cx) ** 2 < radius**2)
    return Image(pixels), masks


class Parts:
    """The steps of one picture's names."""

    def __init__(self, namer: WOWSegNamer, most_tiles: int) -> None:
        self.namer, self.most_tiles = namer, most_tiles
        vision = namer.model.config.vision_config
        self.side = int(vision.image_size[0])
        self.grid = round(namer.model.config.image_seq_length**0.5)

    def seen(self, image: Image, masks: list[Any], share: float) -> Prepared:
        return prepare(
            image, masks, most_tiles=self.most_tiles, side=self.side, grid=self.grid, share=share
        )

    @torch.inference_mode()
    def run(self, seen: Prepared) -> dict[str, float]:
        """Seconds of each step."""
        namer, found = self.namer, {}
        began = time.perf_counter()

        def lap(name: str) -> None:
            nonlocal began
            now = time.perf_counter()
            found[name] = now - began
            began = now

        tiles = namer._look(seen.tiles)
        lap("eye, picture")
        looked = namer._look(seen.crops)[list(seen.crop_of)]
        regions = [tokens[chosen.flatten()] for tokens, chosen in zip(looked, seen.selectors)]
        lap("eye, masks")
        prompt = make_prompt(namer.tokenizer, seen.picture_tokens(self.grid**2))
        cache = namer._read_tokens(tiles, prompt)
        lap("language, picture")
        step = namer._masks_at_once(len(prompt.prefix))
        source = torch.Generator().manual_seed(0)
        for start in range(0, len(regions), step):
            namer._write(prompt, cache, regions[start : start + step], LONGEST, 0.0, source)
        lap("language, masks")
        return found


def median(run: Callable[[], dict[str, float]], rounds: int) -> dict[str, float]:
    """The round whose total is in the middle."""
    found = sorted((run() for _ in range(rounds)), key=lambda one: sum(one.values()))
    return found[len(found) // 2]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--instances", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--tiles", type=int, default=12, help="of the picture, at most")
    parser.add_argument("--share", type=float, default=1.75, help="windows that masks may share")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--loop-runs", type=int, default=1)
    parser.add_argument("--layers", type=int, default=24, help="of eye and language model")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    chosen = parser.parse_args(arguments)
    tune_cpu()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    model, words = build(chosen.quick, chosen.layers)
    namer = WOWSegNamer(model.to(getattr(torch, chosen.dtype)), words, "cpu")
    parts = Parts(namer, chosen.tiles)
    image, masks = picture(max(chosen.instances))
    rows: list[tuple[str, int, dict[str, float]]] = []
    for count in chosen.instances:
        seen = parts.seen(image, masks[:count], 1.0)
        rows.append(("packed", count, median(lambda s=seen: parts.run(s), chosen.rounds)))
    most = max(chosen.instances)
    shared = parts.seen(image, masks[:most], chosen.share)
    rows.append((f"share {chosen.share:g}", most, median(lambda: parts.run(shared), chosen.rounds)))
    single = [parts.run(parts.seen(image, [masks[k]], 1.0)) for k in range(chosen.loop_runs)]
    alone = {name: statistics.mean(one[name] for one in single) * most for name in single[0]}
    rows.append(("one by one", most, alone))
    tiles = len(shared.tiles)
    tokens = float(shared.selectors.flatten(1).sum(1).float().mean())
    print(
        f"{tiles} tiles, {tokens:.0f} tokens a mask, {chosen.dtype}, {torch.get_num_threads()} "
        f"threads, {chosen.layers} layers of 24; {len(shared.crops)} crops for {most} masks shared"
    )
    names = list(alone)
    print(f"{'':12}{'masks':>6}{'seconds':>9}{'ratio':>7}  " + "  ".join(names))
    first = sum(rows[0][2].values())
    for kind, count, found in rows:
        total = sum(found.values())
        shares = "  ".join(f"{found[name]:{len(name)}.2f}" for name in names)
        print(f"{kind:12}{count:6}{total:9.2f}{total / first:7.2f}  {shares}")
    whole = next(found for kind, count, found in rows if kind == "packed" and count == most)
    language = [sum(v for n, v in one.items() if "language" in n) for one in (alone, whole)]
    print(
        f"\nlanguage part of {most} masks: {language[0] / language[1]:.1f}x faster than one by one"
    )
    print(f"everything: {sum(alone.values()) / sum(whole.values()):.1f}x; with shared windows "
          f"{sum(alone.values()) / sum(rows[-2][2].values()):.1f}x")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
