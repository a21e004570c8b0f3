"""BEiT-3 on random weights: picture and text, each alone, with and without padding."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from anymask.nn.beit3 import Beit3Model, beit3_part, config_of_beit3
from anymask.nn.published import load_exactly
from golden_checks.compare import Row, below, close, divisors, equal, names, tensors

ATOL = 2e-5


def matches(folder: Path) -> bool:
    return any(
        {"multimodal.encoder_out", "input.padding_mask"} <= f.keys()
        for f in tensors(folder).values()
    )


def build(state: dict[str, Tensor], pixels: Tensor, ids: Tensor, cls: Tensor) -> Beit3Model:
    """The model whose number of heads, which the shapes do not say, fits best.

    Args:
        state: published names.
        pixels, ids: without padding.
        cls: what token 0 must be.
    """
    ours = beit3_part(state)
    best: tuple[float, Beit3Model] | None = None
    for heads in divisors(ours["text_embed.weight"].shape[1]):
        model = Beit3Model(config_of_beit3(ours, heads)).eval()
        load_exactly(model, ours)
        error = float((model(pixels, ids).pooler_output.detach() - cls).abs().max())
        if best is None or error < best[0]:
            best = (error, model)
    assert best is not None
    return best[1]


@torch.inference_mode()
def check(folder: Path) -> list[Row]:
    files = tensors(folder)
    state = next(f for f in files.values() if "beit3.text_embed.weight" in f)
    data = next(f for f in files.values() if "input.ids" in f)
    pixels, ids = data["input.image"], data["input.ids"]
    keep = data["input.padding_mask"] == 0
    first = names(data, r"unpadded\.row(\d+)\.")[0]
    row = int(first)
    length = int(keep[row].sum())
    model = build(
        state,
        pixels[row : row + 1],
        ids[row : row + 1, :length],
        data[f"unpadded.row{first}.encoder_out"][:1],
    )
    hidden: list[Tensor] = []
    for layer in model.encoder.layers:
        layer.register_forward_hook(lambda _m, _i, out: hidden.append(out))
    both = model(pixels, ids, keep)
    rows = [
        close(
            "multimodal.encoder_out", both.last_hidden_state, data["multimodal.encoder_out"], ATOL
        ),
        close("multimodal.cls", both.pooler_output, data["multimodal.cls"], ATOL),
    ]
    for k, state_k in enumerate(hidden):
        name = f"multimodal.layer{k}.output"
        rows.append(close(name, state_k, data[name], ATOL))
    places = model.encoder.embed_positions
    patches = model.vision_embed(pixels)
    rows.append(close("multimodal.embeddings", patches, data["multimodal.embeddings"], ATOL))
    split = torch.tensor([patches.shape[1]])
    rows.append(equal("multimodal.split_position", split, data["multimodal.split_position"]))
    words = model.text_embed(ids)
    # The fixture has the words before their padding is emptied.
    rows.append(
        close("multimodal.text_embeddings", words, data["multimodal.text_embeddings"], ATOL)
    )
    full = torch.cat([torch.zeros(len(ids), int(split), dtype=torch.bool), ~keep], 1)
    rows.append(
        equal(
            "multimodal.encoder_padding_mask", full.byte(), data["multimodal.encoder_padding_mask"]
        )
    )
    for number in names(data, r"unpadded\.row(\d+)\."):
        b = int(number)
        alone = model(pixels[b : b + 1], ids[b : b + 1, : int(keep[b].sum())])
        name = f"unpadded.row{b}.encoder_out"
        rows.append(close(name, alone.last_hidden_state[0], data[name], ATOL))
    text = below(data, "text_only.")
    if text:
        alone = model(None, ids, keep)
        rows.append(
            close("text_only.encoder_out", alone.last_hidden_state, text["encoder_out"], ATOL)
        )
    picture = below(data, "image_only.")
    if picture:
        alone = model(pixels)
        rows.append(
            close("image_only.encoder_out", alone.last_hidden_state, picture["encoder_out"], ATOL)
        )
    if "no_padding_mask.encoder_out" in data:
        plain = model(pixels, ids)
        name = "no_padding_mask.encoder_out"
        rows.append(close(name, plain.last_hidden_state, data[name], ATOL))
    assert len(places) == 2
    return rows
