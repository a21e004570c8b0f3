"""The official multi-scale deformable pixel decoder, with a tap after every step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anymask.nn.pixel_decoder import DeformablePixelDecoder
from anymask.nn.published import SEGMENTER, rename
from golden_checks.compare import Row, below, close, names, tensors

ATOL, RTOL = 1e-5, 1e-4
LEVELS = 3
POINTS = 4  # a constant of the official decoder; the number of heads follows from the shapes


def matches(folder: Path) -> bool:
    files = tensors(folder).values()
    return bool(files) and all(
        {"input.res2", "state.transformer.level_embed", "output.mask_features"} <= f.keys()
        for f in files
    )


def build(state: dict[str, Tensor], channels: list[int]) -> DeformablePixelDecoder:
    """Our decoder with the weights of the official one (its keys)."""
    official = {f"sem_seg_head.pixel_decoder.{key}": value for key, value in state.items()}
    ours = below(rename(official, SEGMENTER), "pixel_decoder.")
    samples = len(ours["encoder.0.self_attn.attention_weights.bias"])
    decoder = DeformablePixelDecoder(
        channels,
        hidden_dim=ours["level_embed.weight"].shape[1],
        mask_dim=len(ours["mask_projection.weight"]),
        encoder_layers=len(names(ours, r"encoder\.(\d+)\.")),
        heads=samples // (LEVELS * POINTS),
        points=POINTS,
        ffn_dim=len(ours["encoder.0.ffn.fc1.bias"]),
    )
    decoder.load_state_dict(ours)
    return decoder.eval()


@torch.inference_mode()
def check_file(data: dict[str, Tensor]) -> list[Row]:
    features = [data[f"input.res{i}"] for i in range(2, 6)]
    decoder = build(below(data, "state."), [f.shape[1] for f in features])
    taps: dict[str, Any] = {}
    decoder.encoder[0].register_forward_pre_hook(
        lambda _, args: taps.update(cells=args[0], position=args[1], places=args[2], shapes=args[3])
    )
    for i, layer in enumerate(decoder.encoder):
        layer.register_forward_hook(lambda _, __, out, i=i: taps.update({f"layer{i}": out}))
        layer.self_attn.register_forward_hook(
            lambda _, __, out, i=i: taps.update({f"layer{i}.self_attn": out})
        )
    mask_features, levels = decoder(features)

    outputs = {
        "encoder_input": taps["cells"],
        "level_pos_embed": taps["position"].expand_as(taps["cells"]),
        "reference_points": reference_points(decoder, taps),
        "mask_features": mask_features,
        **{f"multi_scale.{i}": level for i, level in enumerate(levels)},
        **{f"encoder.{name}": tap for name, tap in taps.items() if name.startswith("layer")},
    }
    return [
        close(name, outputs[name], theirs, ATOL, RTOL)
        for name, theirs in below(data, "output.").items()
    ]


def reference_points(decoder: DeformablePixelDecoder, taps: dict[str, Any]) -> Tensor:
    """Our places, in cells per head and point, as the official (B, S, L, 2) in 0..1."""
    cells = taps["places"].view(-1, 2, decoder.heads, LEVELS, decoder.points)[:, :, 0, :, 0]
    sides = torch.tensor([[w, h] for h, w in taps["shapes"]])
    points = (cells.transpose(1, 2) + 0.5) / sides
    return points.expand(len(taps["cells"]), -1, -1, -1)


def check(folder: Path) -> list[Row]:
    rows = []
    for stem, data in tensors(folder).items():
        rows += [(f"{stem} {name}", error, allowed) for name, error, allowed in check_file(data)]
    return rows
