"""open_clip's ConvNeXt models -> :class:`~anymask.nn.clip_convnext.ClipConvNext`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from anymask.errors import CheckpointError
from anymask.nn.clip_convnext import ClipConvNextConfig
from anymask.nn.published import WB, Table, count_of, rename

TRUNK = r"visual\.trunk\."
BLOCK = r"stages\.(\d)\.blocks\.(\d+)\."
TEXT = "text.text_model."

OPEN_CLIP: Table = (
    (TRUNK + rf"stem\.0\.{WB}", r"trunk.embeddings.patch_embeddings.\1"),
    (TRUNK + rf"stem\.1\.{WB}", r"trunk.embeddings.layernorm.\1"),
    (
        TRUNK + rf"stages\.(\d)\.downsample\.([01])\.{WB}",
        r"trunk.encoder.stages.\1.downsampling_layer.\2.\3",
    ),
    *(
        (TRUNK + rf"{BLOCK}{theirs}", rf"trunk.encoder.stages.\1.layers.\2.{ours}")
        for theirs, ours in (
            ("gamma", "layer_scale_parameter"),
            (rf"conv_dw\.{WB}", r"dwconv.\3"),
            (rf"norm\.{WB}", r"layernorm.\3"),
            (rf"mlp\.fc([12])\.{WB}", r"pwconv\3.\4"),
        )
    ),
    (TRUNK + rf"head\.norm\.{WB}", r"trunk.layernorm.\1"),
    (r"visual\.head\.proj\.weight", "head.weight"),
    (rf"visual\.head\.mlp\.fc([12])\.{WB}", r"head.fc\1.\2"),
    (r"token_embedding\.weight", TEXT + "embeddings.token_embedding.weight"),
    (r"positional_embedding", TEXT + "embeddings.position_embedding.weight"),
    *(
        (rf"transformer\.resblocks\.(\d+)\.{theirs}", TEXT + rf"encoder.layers.\1.{ours}")
        for theirs, ours in (
            (rf"ln_([12])\.{WB}", r"layer_norm\2.\3"),
            (rf"attn\.in_proj_{WB}", r"self_attn.{q,k,v}_proj.\2"),
            (rf"attn\.out_proj\.{WB}", r"self_attn.out_proj.\2"),
            (rf"mlp\.c_fc\.{WB}", r"mlp.fc1.\2"),
            (rf"mlp\.c_proj\.{WB}", r"mlp.fc2.\2"),
        )
    ),
    (rf"ln_final\.{WB}", TEXT + r"final_layer_norm.\1"),
    (r"text_projection", "text.text_projection.weight"),
    (r"logit_scale", "logit_scale"),
)  # fmt: skip

IGNORED: Table = ((r"attn_mask", "follows from the context length"),)


def convert_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of an open_clip ConvNeXt model -> ours.

    Raises:
        CheckpointError: unknown keys.
    """
    ours = rename(state, OPEN_CLIP, IGNORED, "ConvNeXt CLIP")
    projection = "text.text_projection.weight"
    if projection in ours:
        ours[projection] = ours[projection].T.contiguous()  # theirs multiplies from the right
    return ours


def config_of_open_clip(
    state: Mapping[str, Tensor], heads: int | None = None
) -> ClipConvNextConfig:
    """Read the sizes off an open_clip state dict.

    Args:
        state: keys as published.
        heads: of the text transformer, which leave no trace; None = one for every 64 channels, as
            in every published model.

    Raises:
        CheckpointError: a tensor that every such model has is missing.
    """
    trunk = "visual.trunk"
    try:
        width = state["ln_final.weight"].shape[0]
        vocab = state["token_embedding.weight"].shape[0]
        return ClipConvNextConfig(
            depths=tuple(
                count_of(state, rf"visual\.trunk\.stages\.{i}\.blocks\.(\d+)\..*") for i in range(4)
            ),
            widths=tuple(
                state[f"{trunk}.stages.{i}.blocks.0.conv_dw.weight"].shape[0] for i in range(4)
            ),
            head="linear" if "visual.head.proj.weight" in state else "mlp",
            embed_dim=state["text_projection"].shape[1],
            text_width=width,
            text_layers=count_of(state, r"transformer\.resblocks\.(\d+)\..*"),
            text_heads=heads or max(1, width // 64),
            vocab_size=vocab,
            context=state["positional_embedding"].shape[0],
            bos_token=vocab - 2,
            eos_token=vocab - 1,
        )
    except KeyError as error:
        raise CheckpointError(
            f"the checkpoint has no {error}: it is no ConvNeXt CLIP in open_clip's layout"
        ) from error
