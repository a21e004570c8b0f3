"""FC-CLIP and MAFT+ checkpoints -> OVSNet (specification, section 8).

Both are OVSNet without aggregation; MAFT+ also has words that look at the picture, and a tuned
trunk. They are the only published weights there are for ``match``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from anymask.errors import CheckpointError
from anymask.methods.ovsnet.configuration import OVSNetConfig
from anymask.methods.ovsnet.model import OVSNetModel
from anymask.nn.open_clip_keys import config_of_open_clip, convert_open_clip
from anymask.nn.published import (
    QUERY,
    SEGMENTER,
    WB,
    Table,
    load_exactly,
    read_checkpoint,
    rename,
    segmenter_sizes,
)

CLIP = "backbone.clip_model."
TEACHER = "backbone_t."
TRANSFER = r"cdt\.cross_atten\."

HEADS: Table = (
    *SEGMENTER,
    (QUERY + rf"_mask_pooling_proj\.([01])\.{WB}", r"pooled_projection.\1.\2"),
    *(  # a ReLU stands between two linear layers
        (QUERY + rf"class_embed\.layers\.{i}\.{WB}", rf"class_embed.{2 * i}.\1") for i in range(3)
    ),
    (QUERY + "logit_scale", "logit_scale"),
    (r"void_embedding\.weight", "void.weight"),
    (TRANSFER + rf"multihead_attn\.in_proj_{WB}", r"text_transfer.attention.{q,k,v}_proj.\1"),
    (TRANSFER + rf"multihead_attn\.out_proj\.{WB}", r"text_transfer.attention.out_proj.\1"),
    (TRANSFER + rf"norm\.{WB}", r"text_transfer.norm.\1"),
    (TRANSFER + rf"MLP\.{WB}", r"text_transfer.mix.\1"),
)

IGNORED: Table = (
    (r"criterion\.empty_weight", "a constant of the loss"),
    (r"pixel_(mean|std)", "a constant of the configuration"),
)


def convert_fcclip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of FC-CLIP or MAFT+ -> ours, without CLIP where the file has none.

    Raises:
        CheckpointError: unknown keys.
    """
    clip = {k.removeprefix(CLIP): v for k, v in state.items() if k.startswith(CLIP)}
    rest = {k: v for k, v in state.items() if not k.startswith((CLIP, TEACHER))}
    ours = rename(rest, HEADS, IGNORED, "FC-CLIP or MAFT+ model")
    return ours | {f"clip.{name}": value for name, value in convert_open_clip(clip).items()}


def config_of_fcclip(
    state: Mapping[str, Tensor], text_heads: int | None = None, **changes: Any
) -> OVSNetConfig:
    """Read the configuration off a state dict.

    Args:
        state: keys as published, with CLIP's.
        text_heads: see ``config_of_open_clip``.
        changes: override it. A MAFT+ file does not say whether it is the semantic or the panoptic
            model (``text_transfer``): with 133 training classes it is taken for the latter.

    Raises:
        CheckpointError: a tensor that every such model has is missing.
    """
    try:
        clip = {k.removeprefix(CLIP): v for k, v in state.items() if k.startswith(CLIP)}
        settings: dict[str, Any] = {
            "clip_config": config_of_open_clip(clip, text_heads),
            "aggregation": "none",
            "proxy_weight": 0.0,
            **segmenter_sizes(state, changes.get("num_heads", 8)),
        }
        if any(key.startswith("cdt.") for key in state):
            classes = len(state.get("criterion.empty_weight", ())) - 1
            settings |= {
                "text_transfer": "panoptic" if classes == 133 else "semantic",
                "classify_with": "clip",
                "object_threshold": 0.2,
                "overlap_threshold": 0.7,
            }
    except KeyError as error:
        raise CheckpointError(f"the checkpoint has no {error}: it is incomplete") from error
    return OVSNetConfig(**{**settings, **changes})


def load_fcclip(path: str | Path, clip: str | Path | None = None, **changes: Any) -> OVSNetModel:
    """Load an FC-CLIP or MAFT+ checkpoint file.

    Args:
        path: the published file; its pickle may only hold arrays and containers.
        clip: open_clip's weights file (``open_clip_pytorch_model.bin`` or ``.safetensors``) for
            checkpoints that come without CLIP.
        changes: of the configuration; ``aggregation="gfa"`` switches OVSNet's walk on, which needs
            no training.

    Raises:
        CheckpointError: it cannot be read, or is another kind of model.
    """
    state = read_checkpoint(path)
    if not any(key.startswith(CLIP) for key in state):
        if clip is None:
            raise CheckpointError(
                f"{path} has no CLIP in it: name open_clip's weights as well (clip=...)"
            )
        state |= {CLIP + name: value for name, value in read_checkpoint(clip).items()}
    model = OVSNetModel(config_of_fcclip(state, **changes))
    load_exactly(model, convert_fcclip(state))
    return model.eval()
