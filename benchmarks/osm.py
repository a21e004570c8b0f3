"""What naming masks of one picture costs with OSM, beside the stock classes one mask at a time.

    python benchmarks/osm.py [--masks 32] [--canvas 1120] [--layers 2] [--loop-runs 2] [--quick]

InstructBLIP's eye and Q-Former at full size, its language model cut to --layers of 32, random
weights. Ours encodes the picture once and asks about all masks together; the other side runs
Hugging Face's eye, Q-Former and generate() for every mask, with the picture encoded anew and with
its tokens kept. One mask there costs the same for every mask, so --loop-runs of them are timed and
multiplied. Both sides read the same picture, masks and question and write as many tokens; the
largest difference of what the Q-Former hands on is printed. Ratios are of one run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from anymask.methods.osm.configuration import OSMConfig, vicuna_7b
from anymask.methods.osm.decoding import write
from anymask.methods.osm.inference import AT_ONCE
from anymask.methods.osm.model import OSMModel
from anymask.methods.osm.regions import context_masks, visible_tokens
from anymask.methods.osm.windows import windowed
from anymask.nn.cpu import tune_cpu

WRITTEN = 4  # tokens of a name; random weights end none
STEPS = ("eye", "Q-Former", "language")


def build(quick: bool, canvas: int, layers: int) -> OSMModel:
    """The full-size model with a short language model, or tiny sizes."""
    torch.manual_seed(0)
    base: Any = vicuna_7b()
    base.text_config.num_hidden_layers = layers
    if quick:
        for part, sizes in (
            (base.vision_config, {"hidden_size": 32, "intermediate_size": 64, "image_size": 28}),
            (base.qformer_config, {"hidden_size": 32, "intermediate_size": 64}),
            (base.text_config, {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 99}),
        ):
            for name, value in {**sizes, "num_hidden_layers": 2, "num_attention_heads": 2}.items():
                setattr(part, name, value)
        base.text_config.num_key_value_heads = 2
        base.text_config.head_dim = 16
        base.qformer_config.encoder_hidden_size = 32
        canvas = 56
    window = base.vision_config.image_size
    return OSMModel(OSMConfig(base_config=base, canvas=canvas, stride=window)).eval()


def discs(count: int, side: int) -> Tensor:
    """(count, side, side) bool: masks of many sizes."""
    source = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    middle = torch.rand(count, 2, generator=source) * side
    radius = side * (0.02 + 0.2 * torch.rand(count, generator=source) ** 2)
    away = (rows - middle[:, 0, None, None]) ** 2 + (columns - middle[:, 1, None, None]) ** 2
    return away < radius[:, None, None] ** 2


class Sides:
    """Both ways to name masks of one picture."""

    def __init__(self, model: OSMModel, masks: Tensor, asked: int = 8) -> None:
        self.model, self.masks = model, masks
        words = min(90, model.config.base_config.text_config.vocab_size - 1)
        self.ids = torch.arange(2, 2 + asked)[None] % words
        self.keep = torch.ones_like(self.ids, dtype=torch.bool)
        self.pixels = torch.randn(1, 3, model.config.canvas, model.config.canvas)

    @torch.inference_mode()
    def ours(self) -> tuple[dict[str, float], Tensor]:
        """Seconds of each step, and what the mask queries brought back."""
        model, found = self.model, dict.fromkeys(STEPS, 0.0)
        features = _timed(found, "eye", lambda: model.encode(self.pixels))
        looked = []
        for part in self.masks.split(AT_ONCE):
            ids, keep = (t.expand(len(part), -1) for t in (self.ids, self.keep))
            seen = _timed(
                found, "Q-Former", lambda p=part, i=ids, k=keep: model.look(features, p, i, k)
            )
            _timed(
                found, "language",
                lambda s=seen: write(model.language_model, model.prompt(s), self.ids, -1, WRITTEN),
            )  # fmt: skip
            looked.append(seen)
        return found, torch.cat(looked)

    @torch.inference_mode()
    def stock(self, row: int) -> tuple[dict[str, float], Tensor]:
        """The same for one mask through the stock classes."""
        model, config, found = self.model, self.model.config, dict.fromkeys(STEPS, 0.0)
        mask = self.masks[row : row + 1]

        def eye() -> Tensor:
            tokens = windowed(
                self.pixels, lambda w: model.vision_model(w).last_hidden_state, model.window,
                config.stride, model.patch, model.num_windows,
            )  # fmt: skip
            return tokens + model.window_pos_embed

        features = _timed(found, "eye", eye)

        def look() -> Tensor:
            around = context_masks(mask, config.context_ratio)
            seen, wide = (
                visible_tokens(m, model.patch, model.num_windows)[:, None] for m in (mask, around)
            )
            count = model.mask_query.shape[1]
            mode = model.qformer_mode_query["any"]
            queries = torch.cat([model.mask_query, model.query_tokens, mode], 1)
            visible = torch.cat([seen.expand(-1, count, -1), wide.expand(-1, count + 1, -1)], 1)
            looked = model.qformer(
                input_ids=self.ids,
                attention_mask=torch.ones(1, queries.shape[1] + self.ids.shape[1]),
                query_embeds=queries,
                encoder_hidden_states=features,
                encoder_attention_mask=torch.where(visible, 0.0, torch.finfo().min)[:, None],
            ).last_hidden_state
            return looked[:, :count]

        looked = _timed(found, "Q-Former", look)

        def language() -> Tensor:
            text = model.language_model.get_input_embeddings()(self.ids)
            return model.language_model.generate(  # type: ignore[no-any-return]
                inputs_embeds=torch.cat([model.prompt(looked), text], 1),
                max_new_tokens=WRITTEN, min_new_tokens=WRITTEN, do_sample=False,
            )  # fmt: skip

        _timed(found, "language", language)
        return found, looked


def _timed(found: dict[str, float], step: str, run: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = run()
    found[step] += time.perf_counter() - began
    return result


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--masks", type=int, default=32)
    parser.add_argument("--canvas", type=int, default=1120)
    parser.add_argument("--layers", type=int, default=2, help="of the language model, of 32")
    parser.add_argument("--loop-runs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    chosen = parser.parse_args(arguments)
    tune_cpu()
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    model = build(chosen.quick, chosen.canvas, chosen.layers)
    sides = Sides(model, discs(chosen.masks, model.config.canvas))
    singles = [sides.stock(row) for row in range(chosen.loop_runs)]
    mine, looked = sides.ours()
    off = max(float((looked[k] - singles[k][1][0]).abs().max()) for k in range(chosen.loop_runs))
    each = {s: statistics.mean(one[s] for one, _ in singles) for s in STEPS}
    anew = {s: seconds * chosen.masks for s, seconds in each.items()}
    kept = {**anew, "eye": each["eye"]}
    print(
        f"{chosen.masks} masks, canvas {model.config.canvas}, {model.num_windows} windows, "
        f"{model.num_tokens} tokens; language model of {chosen.layers} layers of 32, float32, "
        f"{torch.get_num_threads()} threads; largest difference {off:.1e}"
    )
    print(f"{'':34}{'seconds':>9}{'ours is':>9}  " + "  ".join(f"{s:>9}" for s in STEPS))
    total = sum(mine.values())
    for name, row in (
        ("ours, all masks", mine),
        ("stock, picture kept", kept),
        ("stock, picture anew for every mask", anew),
    ):
        seconds = sum(row.values())
        print(
            f"{name:34}{seconds:9.2f}{seconds / total:8.1f}x  "
            + "  ".join(f"{row[s]:9.2f}" for s in STEPS)
        )
    behind = {s: kept[s] / mine[s] for s in STEPS[1:]}
    print("behind the eye: " + ", ".join(f"{s} {ratio:.1f}x" for s, ratio in behind.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
