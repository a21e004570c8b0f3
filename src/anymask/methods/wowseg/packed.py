"""One forward for all masks of a picture: visual tokens of the picture, of every region, and names.

Shape legend: B rows, L tokens, R pictures (tiles and crops of all rows, in order), T visual tokens
a picture (256), D width of the language model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from anymask.errors import InputError

IGNORED = -100  # a label that is not taught


def visual_tokens(model: Any, pixel_values: Tensor) -> Tensor:
    """Tiles and crops -> tokens in the language model's space: (R, 3, S, S) -> (R, T, D)."""
    found = model.get_image_features(
        pixel_values,
        vision_feature_layer=model.config.vision_feature_layer,
        vision_feature_select_strategy=model.config.vision_feature_select_strategy,
    )
    return found if isinstance(found, Tensor) else found.pooler_output


def region_tokens(tokens: Tensor, is_crop: Tensor, selectors: Tensor) -> Tensor:
    """Mask2Token (paper, section 3.2): all tokens of tiles, of crops those in the mask.

    Args:
        tokens: (R, T, D).
        is_crop: (R,) bool.
        selectors: (M, g, g) bool of the M crops, T = g^2.

    Returns:
        (N, D), in the order of the pictures.
    """
    keep = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    keep[is_crop] = selectors.flatten(1)
    return tokens[keep]


def embeddings(model: Any, input_ids: Tensor, visual: Tensor) -> Tensor:
    """Words with the visual tokens in their places: (B, L) and (N, D) -> (B, L, D).

    Raises:
        InputError: there are more or fewer places than visual tokens. (The released code multiplies
            the loss by 0 then.)
    """
    words = model.get_input_embeddings()(input_ids)
    places = input_ids == model.config.image_token_id
    if int(places.sum()) != len(visual):
        raise InputError(
            f"the text has {int(places.sum())} places for visual tokens, and there are "
            f"{len(visual)}: every crop needs as many places as its selector has cells"
        )
    return words.masked_scatter(places[..., None], visual.to(words))


def fitting_mask(model: Any, allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """Who may look at whom as the model's attention takes it: (B, 1, L, L) bool -> bool or added.

    Eager attention adds its mask to the scores; a bool added there would silently attend to
    everything.

    Raises:
        InputError: an attention that takes no mask of four dimensions.
    """
    kind = model.config._attn_implementation
    if kind == "sdpa":
        return allowed
    if kind == "eager":
        lowest = torch.finfo(dtype).min
        return torch.zeros_like(allowed, dtype=dtype).masked_fill(~allowed, lowest)
    raise InputError(
        f"attention {kind!r} takes no mask of who may look at whom: load the model with "
        'attn_implementation="sdpa" or "eager"'
    )


def packed_logits(model: Any, embeds: Tensor, allowed: Tensor, position_ids: Tensor) -> Tensor:
    """(B, L, D), (B, 1, L, L) bool, (B, L) -> (B, L, V) next-word logits."""
    mask = fitting_mask(model, allowed, embeds.dtype)
    return model(  # type: ignore[no-any-return]
        inputs_embeds=embeds, attention_mask=mask, position_ids=position_ids
    ).logits


def name_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the next token over everything that is taught: scalar."""
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=IGNORED
    )
