"""The official query decoder: everything of the plain run, and the baseline group of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from anymask.methods.segprompt.convert import DETECTRON2_HEAD, DETECTRON2_IGNORED, rename
from anymask.nn.masked_attention_decoder import DecoderOutput, MaskedAttentionDecoder
from anymask.nn.position import sine_position
from golden_checks.compare import Row, below, close, divisors, equal, names, tensors

ATOL, RTOL = 2e-5, 1e-4
REST = "prompt and example groups, prompt cache and self-attention masks: part 3"
# Without any mask the baseline queries see the others too, so this run must differ.
DIFFERENT = {"self_nomask"}


def matches(folder: Path) -> bool:
    wanted = {"input.features.0", "input.mask_features", "output.plain.layer0.logits"}
    return any(wanted <= data.keys() for data in tensors(folder).values())


def our_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official decoder keys -> ours; the prompt branches are left out."""
    official = {f"sem_seg_head.predictor.{key}": value for key, value in state.items()}
    return rename(official, DETECTRON2_HEAD, DETECTRON2_IGNORED)


def build(ours: dict[str, Tensor], heads: int) -> tuple[MaskedAttentionDecoder, nn.Linear]:
    """Our decoder and class head."""
    weights = below(ours, "decoder.")
    mask_dim, dim = weights["mask_embed.4.weight"].shape
    decoder = MaskedAttentionDecoder(
        dim,
        heads,
        ffn_dim=len(weights["layers.0.ffn.fc1.bias"]),
        num_layers=len(names(weights, r"layers\.(\d+)\.")),
        mask_dim=mask_dim,
        num_levels=len(weights["level_embed.weight"]),
    )
    decoder.load_state_dict(weights)
    class_head = nn.Linear(dim, len(ours["class_head.bias"]))
    class_head.load_state_dict(below(ours, "class_head."))
    return decoder.eval(), class_head.eval()


def run(
    decoder: MaskedAttentionDecoder,
    ours: dict[str, Tensor],
    levels: list[Tensor],
    mask_features: Tensor,
) -> tuple[DecoderOutput, dict[str, Any]]:
    """The plain decoder: its output, un-normed states and visibility of every layer."""
    taps: dict[str, Any] = {}
    handles = []
    for i, layer in enumerate(decoder.layers):
        handles.append(
            layer.register_forward_pre_hook(
                lambda _, args, i=i: taps.update({f"visible{i}": args[4]})
            )
        )
        handles.append(
            layer.register_forward_hook(
                lambda _, __, out, i=i: taps.update({f"hidden_after_layer{i}": out})
            )
        )
    batch = (len(mask_features), -1, -1)
    output = decoder(
        ours["queries.content.weight"].expand(batch),
        ours["queries.position.weight"].expand(batch),
        levels,
        mask_features,
        inner_features=mask_features,
    )
    for handle in handles:
        handle.remove()
    return output, taps


@torch.inference_mode()
def check(folder: Path) -> list[Row]:
    rows = []
    for data in tensors(folder).values():
        rows += check_file(data)
    return rows


def check_file(data: dict[str, Tensor]) -> list[Row]:
    rows: list[Row] = []
    ours = our_keys(below(data, "state."))
    count = len(names(data, r"input\.features\.(\d+)"))
    levels = [data[f"input.features.{i}"] for i in range(count)]
    for i, level in enumerate(levels):
        code = sine_position(level.shape[-2:], level.shape[1]).expand_as(level)
        name = f"pos_embed.level{i}"
        rows.append(close(name, code, data[f"output.{name}"], ATOL, RTOL))

    # The number of heads leaves no trace in the shapes: it is the one that fits the first layer.
    plain = below(data, "output.plain.")
    first = plain["hidden_after_layer0"].transpose(0, 1)

    def misfit(heads: int) -> float:
        _, taps = run(build(ours, heads)[0], ours, levels, data["input.mask_features"])
        return float((taps["hidden_after_layer0"] - first).abs().max())

    heads = min(divisors(first.shape[-1]), key=misfit)
    decoder, class_head = build(ours, heads)
    output, taps = run(decoder, ours, levels, data["input.mask_features"])
    logits = [class_head(state) for state in output.states]
    for i, visible in enumerate(taps[f"visible{i}"] for i in range(len(decoder.layers))):
        blocked = (~visible[:, 0]).to(torch.uint8)
        name = f"cross_attn_blocked.layer{i}"
        rows.append(equal(f"plain {name}", blocked, plain[name]))
        name = f"hidden_after_layer{i}"
        rows.append(close(f"plain {name}", taps[name].transpose(0, 1), plain[name], ATOL, RTOL))
    for i in range(len(logits)):
        for kind, mine in (("logits", logits[i]), ("masks", output.masks[i])):
            name = f"layer{i}.{kind}"
            rows.append(close(f"plain {name}", mine, plain[name], ATOL, RTOL))

    # The other groups never change the baseline group: its outputs in every run are ours.
    for run_name in names(data, r"output\.(.+)\.q\.layer0\.logits"):
        if run_name in DIFFERENT:
            continue
        group = below(data, f"output.{run_name}.q.")
        for i in range(len(logits)):
            for kind, mine in (("logits", logits[i]), ("masks", output.masks[i])):
                name = f"layer{i}.{kind}"
                if name in group:
                    rows.append(close(f"{run_name} q.{name}", mine, group[name], ATOL, RTOL))
    return rows
