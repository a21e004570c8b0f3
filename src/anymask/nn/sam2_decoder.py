"""SAM 2's mask decoder without its copies.

It runs the weights of Hugging Face's ``Sam2MaskDecoder`` and gives its numbers. The stock code
repeats the picture for every prompt and projects every copy; here

- the first layer projects the picture once for all prompts, which still share it;
- later layers never project the picture's copies: in ``softmax(q (W x)') (W x)`` the matrix W is
  multiplied with the few tokens instead of the thousands of cells (the same product, another
  order; with many tokens a prompt the usual order is the cheaper one and is used);
- the positions' share of every product is computed once for all prompts of a part;
- scores come before masks, so masks nobody wants are never enlarged.

Shape legend: B pictures, Q prompts a picture, N = B Q, T tokens a prompt, C channels, L = h w cells
of the coarsest map, M masks a prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

PROMPTS_AT_ONCE = 8  # per picture; on a CPU, more only means more memory
PROMPTS_AT_ONCE_CUDA = 64
FIRST_MASK = 2  # tokens: object score, IoU, masks, prompt

Choice = Literal["best", "first", "three", "all"]
MASKS_OF: dict[Choice, range] = {
    "best": range(4),
    "first": range(1),
    "three": range(1, 4),
    "all": range(4),
}


@dataclass(frozen=True)
class Sam2Features:
    """Pictures as the mask decoder sees them.

    Attributes:
        fine: (B, C / 8, 4 h, 4 w), after the decoder's 1x1 convolution.
        middle: (B, C / 4, 2 h, 2 w), likewise.
        coarse: (B, C, h, w), with the no-memory embedding.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor

    def of(self, picture: int) -> Sam2Features:
        """One picture of the batch, as a batch of one."""
        rows = slice(picture, picture + 1)
        return Sam2Features(self.fine[rows], self.middle[rows], self.coarse[rows])

    def expanded(self, count: int) -> Sam2Features:
        """One picture shown ``count`` times, without copies."""
        return Sam2Features(
            *(x.expand(count, -1, -1, -1) for x in (self.fine, self.middle, self.coarse))
        )

    def to(self, *args: Any, **kwargs: Any) -> Sam2Features:
        """As ``Tensor.to``, for all three."""
        return Sam2Features(*(x.to(*args, **kwargs) for x in (self.fine, self.middle, self.coarse)))


@dataclass(frozen=True)
class Decoded:
    """What the decoder knows of N prompts before it draws a mask.

    Attributes:
        tokens: (N, 2 + M + T, C).
        cells: (N, L, C).
        iou: (N, 4) predicted IoU of the single mask and the three alternatives, in 0..1.
        object_logits: (N,) whether there is an object at all.
    """

    tokens: Tensor
    cells: Tensor
    iou: Tensor
    object_logits: Tensor


@dataclass(frozen=True)
class Masks:
    """Masks of N prompts.

    Attributes:
        logits: (N, M, 4 h, 4 w); above 0 is inside.
        iou: (N, M) in 0..1.
        object_logits: (N,).
        rows: (N,) which prompts they belong to, counted through all pictures.
    """

    logits: Tensor
    iou: Tensor
    object_logits: Tensor
    rows: Tensor

    def of(self, places: Tensor) -> Masks:
        """Some of them."""
        return Masks(
            self.logits[places], self.iou[places], self.object_logits[places], self.rows[places]
        )


class Sam2Decoder:
    """Decodes prompts with the weights of a stock mask decoder, which may train or be frozen.

    Args:
        decoder: a transformers ``Sam2MaskDecoder``.
        position: (1, C, h, w), ``Sam2Model.get_image_wide_positional_embeddings()``.
    """

    def __init__(self, decoder: Any, position: Tensor) -> None:
        self.decoder = decoder
        self.position = position.flatten(2).transpose(1, 2)[0]

    def __call__(
        self,
        features: Sam2Features,
        prompts: Tensor,
        dense: Tensor,
        choice: Choice = "best",
        min_iou: float | None = None,
    ) -> Masks:
        """Masks of all prompts, some prompts at a time.

        Args:
            features: of B pictures.
            prompts: (B, Q, T, C) sparse prompt tokens; T may be 0.
            dense: (B or 1, C, h, w), the mask prompt of each picture, or what stands for none.
            choice: ``"best"``: the single mask, or the best alternative where it is unstable (as
                SAM 2 in evaluation); ``"first"``: the single mask (as in training); ``"three"``:
                the alternatives; ``"all"``: the single mask, then the alternatives.
            min_iou: prompts none of whose masks can be predicted to have at least this IoU are
                not drawn and left out; their places are in ``Masks.rows``.

        Returns:
            N <= B Q prompts, those of the first picture first.
        """
        batch, count = prompts.shape[:2]
        at_once = PROMPTS_AT_ONCE_CUDA if prompts.is_cuda else PROMPTS_AT_ONCE
        found = []
        for start in range(0, max(count, 1), at_once):
            part = prompts[:, start : start + at_once]
            decoded = self.decode(features, part, dense)
            rows = None
            if min_iou is not None:
                wanted = MASKS_OF[choice]
                likely = decoded.iou[:, wanted.start : wanted.stop].amax(1) >= min_iou
                rows = likely.nonzero()[:, 0]
            found.append((start, part.shape[1], rows, self.draw(features, decoded, rows, choice)))
        rows = torch.cat(
            [
                _places(own, start, width, count, batch, prompts.device)
                for start, width, own, _ in found
            ]
        )
        joined = Masks(
            torch.cat([masks.logits for *_, masks in found]),
            torch.cat([masks.iou for *_, masks in found]),
            torch.cat([masks.object_logits for *_, masks in found]),
            rows,
        )
        return joined.of(rows.argsort()) if batch > 1 and len(found) > 1 else joined

    # -------------------------------------------------------------------------- two-way attention

    def decode(self, features: Sam2Features, prompts: Tensor, dense: Tensor) -> Decoded:
        """Run the two-way transformer and the score heads; arguments as of :meth:`__call__`."""
        d = self.decoder
        batch, count = prompts.shape[:2]
        own = torch.cat([d.obj_score_token.weight, d.iou_token.weight, d.mask_tokens.weight])
        first = torch.cat([own.expand(batch, count, -1, -1), prompts.to(own.dtype)], 2)
        cells = (features.coarse + dense).flatten(2).transpose(1, 2)  # (B, L, C), shared by Q
        tokens = first
        for layer in d.transformer.layers:
            tokens = layer.layer_norm1(self._among(layer, tokens, first))
            asked = self._look(layer.cross_attn_token_to_image, tokens + first, cells)
            tokens = layer.layer_norm2(tokens + asked)
            tokens = layer.layer_norm3(tokens + layer.mlp(tokens))
            told = self._tell(layer.cross_attn_image_to_token, cells, tokens + first, tokens)
            cells = layer.layer_norm4(told)
        final = d.transformer.final_attn_token_to_image
        tokens = tokens + self._look(final, tokens + first, cells)
        tokens = d.transformer.layer_norm_final_attn(tokens).flatten(0, 1)
        return Decoded(
            tokens,
            cells.reshape(batch * count, *cells.shape[-2:]),
            d.iou_prediction_head(tokens[:, 1]),
            d.pred_obj_score_head(tokens[:, 0])[:, 0],
        )

    @staticmethod
    def _among(layer: Any, tokens: Tensor, first: Tensor) -> Tensor:
        """Self-attention of each prompt's tokens."""
        a = layer.self_attn
        placed = tokens if layer.skip_first_layer_pe else tokens + first
        query, key = _heads(a, a.q_proj(placed)), _heads(a, a.k_proj(placed))
        seen = F.scaled_dot_product_attention(query, key, _heads(a, a.v_proj(tokens)))
        out = a.o_proj(seen.transpose(-2, -3).flatten(-2))
        return out if layer.skip_first_layer_pe else tokens + out

    def _look(self, a: Any, asking: Tensor, cells: Tensor) -> Tensor:
        """Tokens attend to cells: (B, Q, T, C) and (B, L, C) or (B, Q, L, C) -> (B, Q, T, C)."""
        query = _heads(a, a.q_proj(asking) * a.head_dim**-0.5)  # (B, Q, heads, T, d)
        places = F.linear(self.position, a.k_proj.weight)
        if cells.dim() == 3:  # every prompt looks at the same cells
            key, value = _heads(a, a.k_proj(cells) + places), _heads(a, a.v_proj(cells))
            flat = query.transpose(1, 2).flatten(2, 3)  # (B, heads, Q T, d)
            seen = F.scaled_dot_product_attention(flat, key, value, scale=1.0)
            seen = seen.unflatten(2, asking.shape[1:3]).transpose(1, 2)
        elif _folds(a, asking):
            # q (W x + W p + b) = (q W) x + q W p + q b, and q b is the same for all cells.
            small = (query @ _by_head(a, a.k_proj.weight)).flatten(2, 3)  # (B, Q, heads T, C)
            placed = _shared(query, _heads(a, places)[None]).flatten(2, 3)
            scores = _plus(placed, small, cells.transpose(-1, -2))
            mixed = (scores.softmax(-1) @ cells).unflatten(2, query.shape[2:4])
            seen = mixed @ _by_head(a, a.v_proj.weight).transpose(-1, -2)
            seen = seen + a.v_proj.bias.view(a.num_attention_heads, 1, -1)
        else:
            key, value = _heads(a, a.k_proj(cells) + places), _heads(a, a.v_proj(cells))
            seen = F.scaled_dot_product_attention(query, key, value, scale=1.0)
        return a.o_proj(seen.transpose(-2, -3).flatten(-2))  # type: ignore[no-any-return]

    def _tell(self, a: Any, cells: Tensor, key_of: Tensor, value_of: Tensor) -> Tensor:
        """Cells attend to tokens and are changed: -> (B, Q, L, C)."""
        key = _heads(a, a.k_proj(key_of) * a.head_dim**-0.5)  # (B, Q, heads, T, d)
        value = _heads(a, a.v_proj(value_of))
        places = F.linear(self.position, a.q_proj.weight)
        if cells.dim() == 3:
            scores = _shared(key, _heads(a, a.q_proj(cells) + places))
        elif _folds(a, key_of):
            small = (key @ _by_head(a, a.q_proj.weight)).flatten(2, 3)
            both = _heads(a, places + a.q_proj.bias)[None]
            placed = _shared(key, both).flatten(2, 3)
            scores = _plus(placed, small, cells.transpose(-1, -2)).unflatten(2, key.shape[2:4])
        else:
            scores = key @ _heads(a, a.q_proj(cells) + places).transpose(-1, -2)
        shares = scores.softmax(-2)  # (B, Q, heads, T, L)
        before = cells if cells.dim() == 4 else cells[:, None].expand(-1, key.shape[1], -1, -1)
        if not _folds(a, key_of):
            told = (shares.transpose(-1, -2) @ value).transpose(-2, -3).flatten(-2)
            return before + a.o_proj(told)  # type: ignore[no-any-return]
        # A head's shares sum to one, so the bias may be written by the tokens.
        written = value @ _by_head(a, a.o_proj.weight.T) + a.o_proj.bias / a.num_attention_heads
        return _plus(before, shares.flatten(2, 3).transpose(-1, -2), written.flatten(2, 3))

    # ------------------------------------------------------------------------------------ drawing

    def draw(
        self,
        features: Sam2Features,
        decoded: Decoded,
        rows: Tensor | Sequence[int] | None = None,
        choice: Choice = "best",
    ) -> Masks:
        """Draw masks.

        Args:
            features: the B pictures of :meth:`decode`.
            decoded: its answer.
            rows: which of the N prompts; None = all.
            choice: see :meth:`__call__`.

        Returns:
            The masks of the rows, in their order.
        """
        batch = features.coarse.shape[0]
        each = len(decoded.tokens) // batch
        chosen = torch.arange(len(decoded.tokens)) if rows is None else torch.as_tensor(rows)
        chosen = chosen.to(decoded.tokens.device, torch.int64)
        height, width = features.coarse.shape[-2:]
        logits, iou = self._draw(
            _blocked(features), (height, width), decoded, chosen, chosen // each, choice
        )
        return Masks(logits, iou, decoded.object_logits[chosen], chosen)

    def _draw(
        self,
        blocks: tuple[Tensor, Tensor],
        size: tuple[int, int],
        decoded: Decoded,
        rows: Tensor,
        pictures: Tensor,
        choice: Choice,
    ) -> tuple[Tensor, Tensor]:
        d = self.decoder
        tokens = decoded.tokens[rows]
        fine, middle = blocks
        if len(fine) > 1:
            fine, middle = fine[pictures], middle[pictures]
        # A transposed convolution with kernel 2 and stride 2 is one product a cell: every cell
        # becomes a block of 2 x 2, and the maps stay in that order until there are only masks left.
        norm = d.upscale_layer_norm
        large = _grown(decoded.cells[rows], d.upscale_conv1, middle)
        large = _gelu(F.layer_norm(large, norm.normalized_shape, norm.weight, norm.bias, norm.eps))
        large = _gelu(_grown(large, d.upscale_conv2, fine))
        wanted = MASKS_OF[choice]
        makers = d.output_hypernetworks_mlps
        filters = torch.stack([makers[k](tokens[:, FIRST_MASK + k]) for k in wanted], 1)
        logits = _unblocked(filters @ large.transpose(1, 2), size)
        iou = decoded.iou[rows][:, wanted.start : wanted.stop]
        if choice == "best":
            # The stock rule, which only applies when the configuration has it switched on.
            if d.dynamic_multimask_via_stability:
                found: tuple[Tensor, Tensor] = d._dynamic_multimask_via_stability(
                    logits[:, None], iou[:, None]
                )
                return found[0][:, 0], found[1][:, 0]
            return logits[:, :1], iou[:, :1]
        return logits, iou


def _places(
    rows: Tensor | None, start: int, width: int, count: int, batch: int, device: torch.device
) -> Tensor:
    """Rows of a part (all pictures' prompts ``start..start + width``) -> rows of the whole."""
    own = torch.arange(batch * width, device=device) if rows is None else rows
    return own // width * count + start + own % width


def _heads(a: Any, x: Tensor) -> Tensor:
    """(..., n, heads d) -> (..., heads, n, d)."""
    return x.unflatten(-1, (a.num_attention_heads, -1)).transpose(-2, -3)


def _by_head(a: Any, weight: Tensor) -> Tensor:
    """(heads d, C) -> (heads, d, C)."""
    return weight.unflatten(0, (a.num_attention_heads, -1))


def _folds(a: Any, tokens: Tensor) -> bool:
    """Whether few tokens make it cheaper to move the matrices to their side."""
    return bool(a.num_attention_heads * tokens.shape[-2] < a.internal_dim)


def _shared(few: Tensor, many: Tensor) -> Tensor:
    """Scores of every prompt's tokens with the same cells, without repeating the cells:
    (B, Q, heads, T, d) and (B or 1, heads, L, d) -> (B, Q, heads, T, L)."""
    flat = few.transpose(1, 2).flatten(2, 3) @ many.transpose(-1, -2)
    return flat.unflatten(2, (few.shape[1], few.shape[3])).transpose(1, 2)


def _plus(base: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """``base + left @ right`` of (B, Q, ., .) in one product."""
    shape = base.shape
    base = base.reshape(-1, *shape[2:]) if shape[0] > 1 or base.stride(1) else base[0]
    return torch.baddbmm(base, left.flatten(0, 1), right.flatten(0, 1)).unflatten(0, shape[:2])


def _grown(cells: Tensor, convolution: Any, skip: Tensor) -> Tensor:
    """Every cell to a block of 2 x 2: (n, L, C) and (n or 1, L, 4 D) -> (n, 4 L, D)."""
    weight = convolution.weight.permute(0, 2, 3, 1).flatten(1)  # (C, D, 2, 2) -> (C, 4 D)
    base = (skip + convolution.bias.repeat(4)).expand(len(cells), -1, -1)
    return (
        torch.baddbmm(base, cells, weight.expand(len(cells), -1, -1))
        .unflatten(2, (4, -1))
        .flatten(1, 2)
    )


def _blocked(features: Sam2Features) -> tuple[Tensor, Tensor]:
    """The skip maps in the order in which cells grow: cell, place in its block, place in that
    block's block: (B, 4 L, 4 C / 8) and (B, L, 4 C / 4)."""
    height, width = features.coarse.shape[-2:]
    fine = features.fine.unflatten(3, (width, 2, 2)).unflatten(2, (height, 2, 2))
    fine = fine.permute(0, 2, 5, 3, 6, 4, 7, 1)
    middle = features.middle.unflatten(3, (width, 2)).unflatten(2, (height, 2))
    middle = middle.permute(0, 2, 4, 3, 5, 1)
    return fine.flatten(5).flatten(1, 4), middle.flatten(3).flatten(1, 2)


def _unblocked(masks: Tensor, size: tuple[int, int]) -> Tensor:
    """(n, M, 16 L) in that order -> (n, M, 4 h, 4 w)."""
    whole = masks.unflatten(2, (*size, 2, 2, 2, 2)).permute(0, 1, 2, 4, 6, 3, 5, 7)
    return whole.flatten(5).flatten(2, 4)


def _gelu(x: Tensor) -> Tensor:
    """GELU, in place where nobody needs the input."""
    return F.gelu(x) if x.requires_grad else torch.ops.aten.gelu_(x)  # type: ignore[no-any-return]
