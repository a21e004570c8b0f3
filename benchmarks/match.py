"""How fast `match` is: ours beside a straightforward composition of stock Hugging Face parts.

    python benchmarks/match.py [--words 150 847] [--size 640] [--rounds 3] [--quick]

Both sides hold the same random weights (ConvNeXt-B CLIP, Mask2Former's pixel and query decoder) and
see the same picture. The stock side is what one writes down first: ConvNextModel,
Mask2FormerPixelDecoder, Mask2FormerTransformerModule, mask pooling, an einsum over all classes at
picture size, texts padded to 77 tokens. Each side runs in a process of its own, once with the
memory allocator as it is and once tuned; timed are the picture, then the words: cold (all
sentences read) and cached.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerPixelDecoder,
    Mask2FormerTransformerModule,
)

from anymask.image import Image
from anymask.methods.ovsnet.classification import Words, class_logits, ensemble
from anymask.methods.ovsnet.configuration import TEMPLATES, OVSNetConfig
from anymask.methods.ovsnet.inference import OVSNetMatcher
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.methods.segprompt.convert import HUGGING_FACE
from anymask.nn.clip_convnext import ClipConvNextConfig
from anymask.nn.cpu import tune_cpu
from anymask.nn.published import rename
from anymask.nn.text_tokens import train_tokenizer
from anymask.vocabulary import Vocabulary

SIDES = ("stock", "stock tuned", "ours", "ours tuned")
SENTENCES_TIMED = 256  # of the cold words; the rest is proportional


def build(quick: bool, size: int) -> tuple[OVSNetModel, Any, Any]:
    """Our model, and the two stock decoders with the same weights."""
    torch.manual_seed(0)
    clip = ClipConvNextConfig.small() if quick else ClipConvNextConfig.base()
    theirs = Mask2FormerConfig(
        num_queries=100, decoder_layers=10, encoder_layers=6, feature_strides=[4, 8, 16, 32],
        dropout=0.0, use_pretrained_backbone=False,
    )  # fmt: skip
    pixel = Mask2FormerPixelDecoder(theirs, feature_channels=list(clip.widths)).eval()
    module = Mask2FormerTransformerModule(in_features=256, config=theirs).eval()
    torch.nn.init.normal_(pixel.level_embed)  # theirs is left as it came from memory
    config = OVSNetConfig(
        clip_config=clip, aggregation="none", image_short_side=size, image_long_side=2 * size
    )
    model = OVSNetModel(config).eval()
    state = {f"model.pixel_level_module.decoder.{k}": v for k, v in pixel.state_dict().items()}
    state |= {f"model.transformer_module.{k}": v for k, v in module.state_dict().items()}
    missing = model.load_state_dict(rename(state, HUGGING_FACE), strict=False)
    assert not missing.unexpected_keys
    return model, pixel, module


def stock_encode(model: OVSNetModel, pixel: Any, module: Any, pixels: Tensor) -> Any:
    maps = list(model.clip.trunk(pixels, output_hidden_states=True).hidden_states[1:])
    decoded = pixel(maps)
    out = module(
        multi_scale_features=list(decoded.multi_scale_features),
        mask_features=decoded.mask_features,
    )
    masks = out.masks_queries_logits[-1]
    state = out.intermediate_hidden_states[-1].transpose(0, 1)

    def pooled(features: Tensor) -> Tensor:
        resized = F.interpolate(masks, features.shape[-2:], mode="bilinear", align_corners=False)
        inside = (resized > 0).to(features.dtype)
        summed = torch.einsum("bchw,bqhw->bqc", features, inside)
        return summed / (inside.sum((-2, -1))[..., None] + 1e-8)

    query = model.class_embed(state + model.pooled_projection(pooled(decoded.mask_features)))
    clip = model.clip.head(model.clip.trunk.layernorm(pooled(maps[-1])))
    return masks, query, clip


def stock_answer(model: OVSNetModel, encoded: Any, words: Words, size: int) -> Tensor:
    masks, query, clip = encoded
    void = model.void.weight[0]
    by_query = class_logits(query, words, model.logit_scale.exp().clamp(max=100), void)
    by_clip = class_logits(clip, words, model.clip.multiplier, void)
    scores = ensemble(by_query, by_clip, words.seen)[..., :-1]
    full = F.interpolate(masks, (size, size), mode="bilinear", align_corners=False).sigmoid()
    return torch.einsum("bqc,bqhw->bchw", scores, full).argmax(1)[0]


def stock_words(model: OVSNetModel, tokenizer: Any, sentences: list[str]) -> Tensor:
    parts = []
    for start in range(0, len(sentences), 128):
        tokens = tokenizer(
            sentences[start : start + 128], padding="max_length", truncation=True,
            max_length=model.config.clip.context, return_tensors="pt",
        )["input_ids"]  # fmt: skip
        parts.append(model.clip.text(input_ids=tokens).text_embeds)
    return torch.cat(parts)


def work(plan: dict[str, Any]) -> None:
    """One side in this process: times to stdout as JSON."""
    side, size, quick = plan["side"], plan["size"], plan["quick"]
    if side.endswith("tuned"):
        tune_cpu()
    torch.set_num_threads(plan["threads"])
    model, pixel, module = build(quick, size)
    context = model.config.clip.context
    tokenizer = train_tokenizer(Vocabulary.builtin("ade20k-847").names, 1024, context)
    rng = np.random.default_rng(0)
    image = Image(rng.integers(0, 255, (size, size, 3), dtype=np.uint8))
    # Words of random weights say nothing; their number is what counts.
    rows = F.normalize(torch.randn(max(plan["words"]), model.config.clip.embed_dim), dim=-1)
    matcher = OVSNetMatcher(model, tokenizer, "cpu")
    found: dict[str, Any] = {"answers": {}}
    pixels = matcher.input.scale(image)[None]
    ours = side.startswith("ours")

    def encode() -> Any:
        if ours:
            matcher._seen.forget()
            return matcher.encode(image)
        return stock_encode(model, pixel, module, pixels)

    with torch.inference_mode():
        found["picture"], encoded = timed(encode, plan["rounds"])
        for count in plan["words"]:
            words = Words(rows[:count], (1,) * count, torch.zeros(count, dtype=torch.bool))

            def answer(words: Words = words) -> Any:
                if not ours:
                    return stock_answer(model, encoded, words, size).numpy()
                from anymask.ops.mask_classification import semantic

                return semantic(encoded.canvas, matcher.classify(encoded, words))[0]

            found[f"{count} words"], labels = timed(answer, plan["rounds"])
            found["answers"][str(count)] = labels[::4, ::4].tolist()
        sentences = [t.replace("{}", w) for w in Vocabulary.builtin("ade20k-847").names
                     for t in TEMPLATES][:SENTENCES_TIMED]  # fmt: skip
        if ours:
            names = [f"{k} {w}" for k, w in enumerate(Vocabulary.builtin("ade20k-847").names)]
            some = names[: len(sentences) // len(TEMPLATES)]
            began = time.perf_counter()
            matcher.text.embed(some)
            spent = time.perf_counter() - began
            found["sentences a second"] = len(some) * len(TEMPLATES) / spent
            found["cached words"], _ = timed(lambda: matcher.text.embed(some), 3)
        else:
            began = time.perf_counter()
            stock_words(model, tokenizer, sentences)
            found["sentences a second"] = len(sentences) / (time.perf_counter() - began)
    print(json.dumps(found))


def timed(what: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    what()
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        result = what()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent), result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--words", nargs="+", type=int, default=[150, 847])
    parser.add_argument("--size", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--sides", nargs="+", default=list(SIDES), choices=SIDES)
    parser.add_argument("--quick", action="store_true", help="a tiny CLIP once, to see it run")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.worker:
        work(json.loads(chosen.worker))
        return 0
    if len({side.split()[0] for side in chosen.sides}) != 2:
        parser.error("--sides takes one of stock and one of ours at least")
    results: dict[str, Any] = {}
    for side in chosen.sides:
        plan = {"side": side, "words": chosen.words, "size": chosen.size, "quick": chosen.quick,
                "rounds": chosen.rounds, "threads": chosen.threads}  # fmt: skip
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [sys.executable, str(Path(__file__)), "--worker", json.dumps(plan)],
                capture_output=True, text=True, check=False,
                env={**os.environ, "ANYMASK_CACHE": home},
            )  # fmt: skip
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        results[side] = json.loads(done.stdout.splitlines()[-1])
    show(chosen.words, results)
    return 0


def show(words: list[int], results: dict[str, Any]) -> None:
    """A table of seconds, and ratios of the better stock side to the better one of ours."""
    stock, ours = (
        [found for side, found in results.items() if side.startswith(name)]
        for name in ("stock", "ours")
    )
    print(f"{'':16}" + "".join(f"{side:>14}" for side in results) + f"{'ratio':>8}")
    for key in stock[0]:
        if key in ("answers", "sentences a second"):
            continue
        line = "".join(f"{found[key]:13.3f}s" for found in results.values())
        print(f"{key:16}{line}{min(r[key] for r in stock) / min(r[key] for r in ours):8.2f}")
    for count in words:
        key = f"{count} words"
        before, now = (
            min(r["picture"] for r in rows) + min(r[key] for r in rows) for rows in (stock, ours)
        )
        print(f"picture + {key}: {before / now:.2f} times as fast")
    before, now = (max(r["sentences a second"] for r in rows) for rows in (stock, ours))
    speeds = "".join(f"{r['sentences a second']:14.0f}" for r in results.values())
    print(f"{'sentences / s':16}{speeds}{now / before:8.2f}")
    total = 847 * len(TEMPLATES)
    cold = f"stock {total / before:.0f} s, ours {total / now:.0f} s"
    print(
        f"847 words x {len(TEMPLATES)} sentences cold: {cold}; "
        f"cached {ours[0]['cached words']:.4f} s"
    )
    for count in words:
        a, b = (np.array(rows[0]["answers"][str(count)]) for rows in (stock, ours))
        print(f"{count} words: {100 * (a == b).mean():.2f} % of the pixels get the same word")


if __name__ == "__main__":
    sys.exit(main())
