"""InternVL and WOW-Seg files in their authors' layout -> Hugging Face's ``InternVL``
(specification 9.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import InternVLConfig, InternVLForConditionalGeneration

from anymask.errors import CheckpointError
from anymask.nn.published import WB, Table, count_of, load_exactly, read_checkpoint, rename

EYE = r"vision_model\."
LAYER = EYE + r"encoder\.layers\.(\d+)\."
OURS = "model.vision_tower."
IMAGE_TOKEN = 151667

TABLE: Table = (
    (EYE + r"embeddings\.class_embedding", OURS + "embeddings.cls_token"),
    (EYE + r"embeddings\.position_embedding", OURS + "embeddings.position_embeddings"),
    (
        EYE + rf"embeddings\.patch_embedding\.{WB}",
        OURS + r"embeddings.patch_embeddings.projection.\1",
    ),
    *(
        (LAYER + theirs, rf"{OURS}encoder.layer.\1.{ours}")
        for theirs, ours in (
            (rf"attn\.qkv\.{WB}", r"attention.{q,k,v}_proj.\2"),
            (rf"attn\.proj\.{WB}", r"attention.projection_layer.\2"),
            (rf"attn\.([qk])_norm\.{WB}", r"attention.\2_norm.\3"),
            (rf"norm1\.{WB}", r"layernorm_before.\2"),
            (rf"norm2\.{WB}", r"layernorm_after.\2"),
            (r"ls([12])", r"lambda_\2"),
            (rf"mlp\.fc([12])\.{WB}", r"mlp.fc\2.\3"),
        )
    ),
    (rf"mlp1\.0\.{WB}", r"model.multi_modal_projector.layer_norm.\1"),
    (rf"mlp1\.1\.{WB}", r"model.multi_modal_projector.linear_1.\1"),
    (rf"mlp1\.3\.{WB}", r"model.multi_modal_projector.linear_2.\1"),
    (r"language_model\.model\.(.+)", r"model.language_model.\1"),
    (r"language_model\.lm_head\.weight", "lm_head.weight"),
)
IGNORED: Table = ((r"prompt_encoder\..*", "an experiment its authors gave up"),)


def convert_internvl(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict in its authors' layout -> that of ``InternVLForConditionalGeneration``.

    Raises:
        CheckpointError: unknown keys.
    """
    return rename(state, TABLE, IGNORED, "InternVL or WOW-Seg")


def config_of_internvl(
    state: Mapping[str, Tensor],
    *,
    vision_heads: int = 16,
    text_heads: int = 14,
    image_token_id: int = IMAGE_TOKEN,
    **text: Any,
) -> InternVLConfig:
    """Read the configuration off a state dict.

    Args:
        state: keys as published.
        vision_heads, text_heads: leave no trace in the shapes; those of the 1B model.
        image_token_id: the token that stands for a visual one.
        text: further settings of the language model (``rope_parameters``, ...).

    Raises:
        CheckpointError: a tensor that every such model has is missing.
    """
    try:
        width, _, patch, _ = state["vision_model.embeddings.patch_embedding.weight"].shape
        cells = state["vision_model.embeddings.position_embedding"].shape[1] - 1
        first = "language_model.model.layers.0."
        words, dim = state["language_model.model.embed_tokens.weight"].shape
        head = len(state[first + "self_attn.q_proj.bias"]) // text_heads
        side = round(cells**0.5) * patch
        normed = "vision_model.encoder.layers.0.attn.q_norm.weight" in state
        return InternVLConfig(
            vision_config={
                "hidden_size": width,
                "num_attention_heads": vision_heads,
                "intermediate_size": len(state["vision_model.encoder.layers.0.mlp.fc1.bias"]),
                "num_hidden_layers": count_of(state, LAYER + ".*"),
                "image_size": [side, side],
                "patch_size": [patch, patch],
                "attention_bias": "vision_model.encoder.layers.0.attn.qkv.bias" in state,
                "use_qk_norm": normed,
                "layer_norm_eps": 1e-6,
            },
            text_config={
                "model_type": "qwen2",
                "vocab_size": words,
                "hidden_size": dim,
                "intermediate_size": len(state[first + "mlp.up_proj.weight"]),
                "num_hidden_layers": count_of(state, r"language_model\.model\.layers\.(\d+)\..*"),
                "num_attention_heads": text_heads,
                "num_key_value_heads": len(state[first + "self_attn.k_proj.bias"]) // head,
                "rms_norm_eps": 1e-6,
                "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
                "tie_word_embeddings": False,
                **text,
            },
            image_token_id=image_token_id,
            image_seq_length=cells // 4,
            # The library's own default would tie the two word tables of this family.
            tie_word_embeddings=False,
        )
    except KeyError as error:
        raise CheckpointError(
            f"the checkpoint has no {error}: it is no complete InternVL"
        ) from error


def internvl_of(state: Mapping[str, Tensor], **sizes: Any) -> InternVLForConditionalGeneration:
    """A model from a published state dict; ``sizes`` as of :func:`config_of_internvl`."""
    model = InternVLForConditionalGeneration(config_of_internvl(state, **sizes))
    load_exactly(model, convert_internvl(state))
    return model.eval()


def load_internvl(path: str | Path, **sizes: Any) -> InternVLForConditionalGeneration:
    """Load a file (or all ``.safetensors`` files of a folder) in its authors' layout.

    Raises:
        CheckpointError: it cannot be read, or is another kind of model.
    """
    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if not files:
        raise CheckpointError(f"{path} holds no .safetensors file")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= read_checkpoint(file)
    return internvl_of(state, **sizes)
