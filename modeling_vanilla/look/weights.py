# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The weights of one call of an attention, from what its kernel gets; a block of rows at a time, reduced at once.

Dimension letters: B batch, T query length, S key length, H heads (h of them chosen), K head_dim, t rows of a block.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .view import CELLS, Kind

BLOCK = {"cpu": 2**19, "cuda": 2**26}
"""Weights of a block at most, by device: what fits into its fast memory."""


@dataclass
class Attention:
    """One call of one attention, as a reduction gets it: of the chosen heads only.

    Attributes:
        kind: Which attention of the model it is.
        layer: Its number, from 0.
        heads: The numbers of the h heads.
        query: (B, h, T, K), as the kernel gets it.
        key: (B, h, S, K), repeated where several heads share one.
        value: (B, h, S, Kv), the same.
        scaling: The factor of the products.
        mask: As the kernel got it; see `masked`.
        is_causal: Without a mask, or beside one of padding alone, query i sees no key after i + offset.
        offset: S - T for flash attention, which takes the last query for the place of the last key; else 0.
        window: How many keys before it a query of flash attention sees, itself included.
        bias: (B or 1, h or 1, T, S), added to the scores for positions; None where nothing is.
        softcap: Scores become softcap * tanh(score / softcap) before the mask (Gemma 2).
        sinks: (h,) or None: a score beside those of the keys, which takes its share and gives nothing (GPT-OSS).
    """

    kind: Kind
    layer: int
    heads: list[int]
    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    scaling: float
    mask: Any = None
    is_causal: bool = False
    offset: int = 0
    window: int | None = None
    bias: torch.Tensor | None = None
    softcap: float | None = None
    sinks: torch.Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Return (T, S)."""
        return self.query.shape[2], self.key.shape[2]

    def blocks(self, multiple: int = 1) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Compute the weights, a block of rows at a time, in float32 and without dropout.

        Args:
            multiple: Each block but the last has a multiple of so many rows.

        Yields:
            Weights (B, h, t, S), each row summing to 1, or 0 where it may attend nothing; and what is hidden from
            these rows, bool (B or 1, h or 1, t, S), or None where they see all.
        """
        for weights, hidden in self.narrow_blocks(multiple):
            missing = self.size[1] - weights.shape[-1]
            yield nn.functional.pad(weights, (0, missing)) if missing else weights, hidden

    def narrow_blocks(self, multiple: int = 1) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """Compute the weights as `blocks` does, without the columns after the last that a row of the block sees."""
        length, total = self.size
        batch, heads = self.query.shape[:2]
        rows = BLOCK.get(self.query.device.type, BLOCK["cuda"]) // (batch * heads * total)
        rows = max(multiple, rows // multiple * multiple)
        keys = self.key.float().transpose(2, 3)  # (B, h, K, S)
        for first in range(0, length, rows):
            last = min(first + rows, length)
            added, hidden = self.masked(first, last)
            width = total if hidden is None else _width(hidden)
            queries = self.query[:, :, first:last].float() * self.scaling
            yield self._weights(queries, keys[..., :width], added, hidden), hidden

    def _weights(
        self, queries: torch.Tensor, keys: torch.Tensor, added: torch.Tensor | None, hidden: torch.Tensor | None
    ) -> torch.Tensor:
        """Return softmax(queries keys + added), (B, h, t, S), without what is hidden."""
        scores = queries @ keys
        width = keys.shape[-1]
        if self.softcap:
            scores = self.softcap * torch.tanh(scores / self.softcap)
        if added is not None:
            scores += added[..., :width]
        if hidden is not None:  # one mask for all heads: filling it is cheaper than filling the scores
            hidden = hidden[..., :width]
            scores += torch.zeros(hidden.shape, device=scores.device).masked_fill_(hidden, -math.inf)
        if self.sinks is not None:
            sinks = self.sinks.float().view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
            return torch.cat([scores, sinks], -1).softmax(-1)[..., :-1]
        weights = scores.softmax(-1)
        if hidden is not None and (blind := hidden.all(-1, keepdim=True)).any():
            weights = weights.masked_fill(blind, 0.0)
        return weights

    def masked(self, first: int, last: int) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return what is added to the scores of rows `first` to `last`, and which of them are hidden.

        Both are (B or 1, h or 1, t, S), or None. A mask may be booleans or numbers (sdpa, eager), a rule (flex
        attention), which of the keys are padding (flash attention, (B, S)), or nothing but `is_causal`.
        """
        length, total = self.size
        device = self.query.device
        added = None if self.bias is None else self.bias[:, :, first:last, :total].float()
        places, columns = torch.arange(first, last, device=device)[:, None], torch.arange(total, device=device)
        if self.mask is not None and not torch.is_tensor(self.mask):  # a BlockMask
            batch = torch.arange(self.query.shape[0], device=device)[:, None, None, None]
            heads = torch.zeros_like(batch)  # transformers makes one rule for all heads
            seen = self.mask.mask_mod(batch, heads, places, columns)
            return added, ~torch.broadcast_to(seen, (seen.shape[0], 1, last - first, total))
        if self.mask is not None and self.mask.dim() == 4:
            rows = self.mask if self.mask.shape[2] == 1 else self.mask[:, :, first:last]
            rows = rows[..., :total]
            if rows.dtype == torch.bool:
                return added, ~rows
            hidden = rows <= torch.finfo(rows.dtype).min
            numbers = rows.float().masked_fill(hidden, 0.0)
            return numbers if added is None else numbers + added, hidden
        hidden = None if self.mask is None else self.mask[:, None, None, -total:] == 0  # (B, 1, 1, S)
        if self.is_causal and (length > 1 or self.window):
            later = columns > places + self.offset  # (t, S)
            if self.window:
                later = later | (columns <= places + self.offset - self.window)
            hidden = later[None, None] if hidden is None else hidden | later
        return added, hidden


def _width(hidden: torch.Tensor) -> int:
    """Return how many columns are left when those at the end go that no row sees, at least 1."""
    seen = (~hidden.flatten(0, -2).all(0)).nonzero()
    return int(seen[-1]) + 1 if len(seen) else 1


Reduce = Callable[[Attention], Any]


def full(attention: Attention) -> torch.Tensor:
    """Keep all weights, (B, h, T, S)."""
    return torch.cat([weights for weights, _ in attention.blocks()], 2)


def top(count: int) -> Reduce:
    """Keep the `count` largest weights of each row: (values, columns), each (B, h, T, count), largest first."""

    def reduce(attention: Attention) -> tuple[torch.Tensor, torch.Tensor]:
        kept = min(count, attention.size[1])
        blocks = (weights for weights, _ in attention.narrow_blocks())
        largest = [nn.functional.pad(block, (0, max(0, kept - block.shape[3]))).topk(kept) for block in blocks]
        return torch.cat([block.values for block in largest], 2), torch.cat([block.indices for block in largest], 2)

    return reduce


def averaged(cells: int = CELLS) -> Reduce:
    """Keep a map of at most `cells` x `cells`: the mean over blocks of neighbouring rows and columns.

    A cell stands for ceil(T / cells) rows and ceil(S / cells) columns; at the lower and the right end for fewer.
    """

    def reduce(attention: Attention) -> torch.Tensor:
        height, width = (-(-size // cells) for size in attention.size)
        if height == width == 1:
            return full(attention)
        total = attention.size[1]
        blocks = [cell_means(weights, height, width, total) for weights, _ in attention.narrow_blocks(height)]
        return torch.cat(blocks, 2)

    return reduce


def cell_means(weights: torch.Tensor, height: int, width: int, total: int) -> torch.Tensor:
    """Average (B, h, t, S) over cells of `height` rows and `width` columns; what a cell lacks does not count.

    Args:
        weights: Columns at the end may be left out where all is 0.
        height: Rows of a cell.
        width: Columns of a cell.
        total: S.
    """
    rows, device = weights.shape[2], weights.device
    sums = _sums(_sums(weights, 2, height), 3, width)
    sums = nn.functional.pad(sums, (0, -(-total // width) - sums.shape[3]))
    counts = [
        (size - torch.arange(0, size, cell, device=device)).clamp(max=cell)
        for size, cell in ((rows, height), (total, width))
    ]
    return sums / (counts[0][:, None] * counts[1])


def _sums(weights: torch.Tensor, dim: int, size: int) -> torch.Tensor:
    """Add up neighbours, `size` at a time; at the end there may be fewer."""
    if missing := -weights.shape[dim] % size:
        weights = nn.functional.pad(weights, (0, missing) if dim == 3 else (0, 0, 0, missing))
    return weights.unflatten(dim, (-1, size)).sum(dim + 1)
