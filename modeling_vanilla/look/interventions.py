# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Change what one head does, and leave everything else as it is: what does the output owe to it?

A head's map says what it looks at, not whether that matters (Jain & Wallace 2019; Wiegreffe & Pinter 2019; Michel et
al. 2019).

Dimension letters: B batch, T query length, S key length, H heads, K width of a head's values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn

from .capture import Watch, of_chosen_heads, watching
from .view import Kind
from .weights import Attention

Change = Literal["zero", "uniform", "permute"]
CHANGES: tuple[Change, ...] = get_args(Change)


@contextmanager
def intervene(model: nn.Module, place: tuple[Kind, int, int], change: Change, seed: int = 0) -> Iterator[None]:
    """Change one head for as long as the context is open, in a forward pass and in `generate`.

    Args:
        model: Any model of transformers that uses its attention interface.
        place: Kind, layer and head, as `capture` counts them.
        change: "zero": the head's context is 0, as if its part of W^O were. "uniform": each query looks at all that it
            may see with equal weight. "permute": each query's weights are exchanged among the places that it may see.
        seed: Of the permutations.

    Raises:
        ValueError: The change is unknown, or the model has no such head.
    """
    if change not in CHANGES:
        raise ValueError(f"change: {change!r} must be one of {', '.join(CHANGES)}")
    with watching(_Intervention(model, place, change, seed)):
        yield


class _Intervention(Watch):
    """A capture that keeps nothing, and gives the model another context of one head."""

    def __init__(self, model: nn.Module, place: tuple[Kind, int, int], change: Change, seed: int):
        kind, layer, head = place
        super().__init__(model, [layer], [head], kind, reduce=lambda attention: None)
        self.change = change
        self.random = torch.Generator().manual_seed(seed)

    def changed(self, output: Any, module: nn.Module, query, key, value, mask, options: dict[str, Any]) -> Any:
        """Return the kernel's context (B, T, H, K) with that of the chosen head replaced, and its weights."""
        if (place := self.chosen(module)) is None:
            return output
        head = self.seen[place[0], place[1]].heads[0]
        context = output[0].clone()
        if self.change == "zero":
            context[:, :, head] = 0
            return context, *output[1:]
        call = of_chosen_heads(Attention(place[0], place[1], [head], query, key, value, 1.0, mask), module, options)
        weights = torch.cat([self._others(block, hidden) for block, hidden in call.blocks()], 2)  # (B, 1, T, S)
        group = head * value.shape[1] // query.shape[1]  # several heads may share keys and values
        context[:, :, head] = weights[:, 0].to(value.dtype) @ value[:, group]  # (B, T, S) @ (B, S, K)
        return context, *output[1:]

    def _others(self, weights: torch.Tensor, hidden: torch.Tensor | None) -> torch.Tensor:
        """Return the weights (B, 1, t, S) that stand in for the head's own."""
        hidden = torch.zeros_like(weights, dtype=torch.bool) if hidden is None else hidden.expand_as(weights)
        if self.change == "uniform":
            seen = (~hidden).to(weights.dtype)
            return seen / seen.sum(-1, keepdim=True).clamp(min=1)
        # Two orders of the columns, both with what may be seen in front: as they stand, and drawn.
        stands = hidden.to(torch.int8).argsort(dim=-1, stable=True)
        drawn = torch.rand(hidden.shape, generator=self.random).to(weights.device).masked_fill(hidden, 2.0).argsort(-1)
        return torch.zeros_like(weights).scatter(-1, drawn, weights.gather(-1, stands))
