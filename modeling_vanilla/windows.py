# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Restricted self-attention at its own cost, O(r n d) (Vaswani et al. 2017, sec. 4 and table 1).

As a mask, a window of r costs more than full attention: every pair is computed, and most are thrown away. Here each chunk
of r / 2 queries is compared with the keys of its own chunk and of its neighbours alone, which hold all that it may see:
a token costs 15 us at 1,024 tokens and 14 at 8,192, where a mask costs 58 and 439 (AMD EPYC, benchmarks/window.py).
Dimension letters: B batch, T length, H heads, K head_dim, C queries of a chunk, N chunks, W keys that a chunk meets.
"""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers.cache_utils import Cache, DynamicCache, EncoderDecoderCache
from transformers.utils.import_utils import is_torchdynamo_compiling, is_tracing

from .configuration_vanilla import VanillaConfig
from .input_checks import may_be_packed


@dataclass(frozen=True)
class Window:
    """Who sees whom among T tokens: |i - j| <= half, of real tokens, none later where causal.

    Attributes:
        real: (B, T) bool, or None where all tokens are real.
    """

    half: int
    is_causal: bool
    real: torch.Tensor | None = None

    def seen(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Tell for places (..., C, 1) and (..., 1, W) who is near enough, and not later."""
        near = (queries - keys).abs() <= self.half
        return near & (keys <= queries) if self.is_causal else near

    def table(self, length: int, device: torch.device) -> torch.Tensor:
        """Return all pairs, (B or 1, 1, T, T), for a kernel that reads a mask."""
        places = torch.arange(length, device=device)
        seen = self.seen(places[:, None], places)[None, None]
        return seen if self.real is None else seen & self.real[:, None, None]

    def chunks(self, size: int, length: int, device: torch.device) -> torch.Tensor:
        """Return the pairs of each chunk, (B * N or N, 1, C, W): its keys start one chunk before it."""
        count = -(-length // size)
        first = size * torch.arange(count, device=device)[:, None, None]  # (N, 1, 1)
        queries = first + torch.arange(size, device=device)[:, None]  # (N, C, 1)
        width = size * (2 if self.is_causal else 3)
        keys = first - size + torch.arange(width, device=device)  # (N, 1, W)
        # A query behind the row, which fills the last chunk, sees anything: a row of nothing has no softmax.
        seen = (self.seen(queries, keys) & (keys >= 0) & (keys < length)) | (queries >= length)
        if self.real is None:
            return seen[:, None]
        real = pad(self.real, (size, size * (count + 1) - self.real.shape[1]))  # (B, T'), one chunk at either end
        real = real.unfold(1, width, size)[:, :count]  # (B, N, W)
        return (seen & (real[:, :, None] | (queries >= length))).flatten(0, 1)[:, None]


def window_of(
    config: VanillaConfig,
    is_causal: bool,
    vectors: torch.Tensor,
    attention_mask: torch.Tensor | None,
    position_ids: torch.Tensor | None = None,
    cache: Cache | None = None,
) -> Window | None:
    """Return the window of a whole row (B, T, D), or None where a mask has to say who sees whom.

    That is so with a cache that holds tokens, packed rows, a mask of pairs, another kernel than sdpa, a graph that is
    recorded, and where the window is no smaller than half of the row.
    """
    half, length = (config.attention_window or 0) // 2, vectors.shape[1]
    if config.attention_window is None or config._attn_implementation != "sdpa" or length <= 4 * max(half, 1):
        return None
    if is_tracing(vectors) or is_torchdynamo_compiling() or may_be_packed(position_ids, attention_mask):
        return None
    inner = cache.self_attention_cache if isinstance(cache, EncoderDecoderCache) else cache
    if inner is not None and (type(inner) is not DynamicCache or inner.get_seq_length()):
        return None
    if attention_mask is not None and (attention_mask.dim() != 2 or attention_mask.shape[1] != length):
        return None
    real = None if attention_mask is None or attention_mask.all() else attention_mask.to(vectors.device).ne(0)
    return Window(half, is_causal, real)


def windowed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    window: Window,
    scaling: float,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Compute equation 1 over a window, with the fused kernel: queries, keys, values (B, H, T, K) to (B, T, H, K).

    `module` is the calling attention.
    """
    batch, length = query.shape[0], query.shape[2]
    size = max(window.half, 1)
    count = -(-length // size)
    spare = size * count - length  # places behind the row, to fill the last chunk

    def neighbours(states: torch.Tensor) -> torch.Tensor:
        """Lay out for each chunk the keys or values that it meets: (B, H, T, K) -> (B * N, H, W, K)."""
        width = size * (2 if window.is_causal else 3)
        around = pad(states, (0, 0, size, spare + (0 if window.is_causal else size)))
        return around.unfold(2, width, size).permute(0, 2, 1, 4, 3).flatten(0, 1)  # from (B, H, N, K, W)

    queries = pad(query, (0, 0, 0, spare)).unflatten(2, (count, size)).transpose(1, 2).flatten(0, 1)  # (B*N, H, C, K)
    seen = window.chunks(size, length, query.device)
    if len(seen) != len(queries):
        seen = seen.repeat(batch, 1, 1, 1)
    context = scaled_dot_product_attention(
        queries, neighbours(key), neighbours(value), seen, dropout if module.training else 0.0, scale=scaling
    )  # (B * N, H, C, K)
    context = context.unflatten(0, (batch, count)).permute(0, 1, 3, 2, 4).flatten(1, 2)  # (B, N * C, H, K)
    return context[:, :length]
