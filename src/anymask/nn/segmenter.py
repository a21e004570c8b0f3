"""Mask2Former between a backbone's maps and the heads, as a configuration describes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import nn

from anymask.nn.masked_attention_decoder import MaskedAttentionDecoder
from anymask.nn.pixel_decoder import DeformablePixelDecoder
from anymask.nn.pyramid_decoder import PyramidPixelDecoder
from anymask.nn.queries import GridQueries, LearnedQueries


class SegmenterConfig(Protocol):
    """What the parts read from a model's configuration."""

    pixel_decoder: str
    queries: str
    hidden_dim: int
    mask_dim: int
    num_heads: int
    encoder_layers: int
    encoder_ffn_dim: int
    encoder_points: int
    decoder_layers: int
    decoder_ffn_dim: int
    num_queries: int


def make_pixel_decoder(config: SegmenterConfig, channels: Sequence[int]) -> nn.Module:
    """Deformable attention or a pyramid, for four maps with so many channels."""
    if config.pixel_decoder == "pyramid":
        return PyramidPixelDecoder(channels, config.hidden_dim, config.mask_dim)
    return DeformablePixelDecoder(
        channels,
        config.hidden_dim,
        config.mask_dim,
        encoder_layers=config.encoder_layers,
        heads=config.num_heads,
        points=config.encoder_points,
        ffn_dim=config.encoder_ffn_dim,
    )


def make_queries(config: SegmenterConfig) -> GridQueries | LearnedQueries:
    """One query per grid cell, or learned ones."""
    kind = GridQueries if config.queries == "grid" else LearnedQueries
    return kind(config.num_queries, config.hidden_dim)


def make_decoder(config: SegmenterConfig) -> MaskedAttentionDecoder:
    """The masked-attention decoder."""
    return MaskedAttentionDecoder(
        config.hidden_dim,
        config.num_heads,
        config.decoder_ffn_dim,
        config.decoder_layers,
        config.mask_dim,
    )
