# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Figures of a map of attention weights: how sharp, how heavy, how near to another map, how near to gold.

Dimension letters: H heads, T rows, S columns, K width of a head's values, D d_model.
"""

from collections.abc import Sequence

import torch

from .weights import Attention


def entropy(weights: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return each head's mean entropy, as a share of what equal weights over the visible columns have.

    Args:
        weights: (H, T, S), each row summing to 1.
        hidden: (T, S) bool: what a mask forbids. A row that may see one column alone says nothing, and does not count.

    Returns:
        (H,) in 0..1: mean over rows of -sum(w ln w) / ln n; NaN where no row sees two columns.
    """
    visible = (~hidden).sum(-1)  # (T,)
    nats = torch.special.entr(weights).sum(-1)  # (H, T)
    return (nats / visible.log())[:, visible > 1].mean(-1)


def entropy_of(attention: Attention) -> torch.Tensor:
    """Return each head's `entropy` of one call, (H,), a block of rows at a time; for `capture`, of a batch of one."""
    total, rows = torch.zeros(len(attention.heads)), 0
    for weights, hidden in attention.blocks():
        hidden = torch.zeros_like(weights[:, :1], dtype=torch.bool) if hidden is None else hidden
        hidden = hidden[0, 0].expand(weights.shape[2:]).cpu()
        if count := int(((~hidden).sum(-1) > 1).sum()):
            total += entropy(weights[0].cpu(), hidden) * count
            rows += count
    return total / rows if rows else total * torch.nan


def weighted_norms(weights: torch.Tensor, values: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """Return ||w_ij v_j W^O||: how long the vector is that each cell adds to its row (Kobayashi et al. 2020, eq. 7).

    Args:
        weights: (H, T, S).
        values: (H, S, K).
        projection: (H, K, D).

    Returns:
        (H, T, S).
    """
    return weights * (values @ projection).norm(dim=-1)[:, None]


def rank_correlation(first: torch.Tensor, second: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Return Spearman's correlation of two maps: the mean over rows, among the columns that a row may see.

    Args:
        first: (..., T, S).
        second: (T, S).
        hidden: (T, S) bool. Rows that may see less than three columns do not count.

    Returns:
        (...) in -1..1; NaN where no row counts.
    """
    rows = []
    for row in range(second.shape[0]):
        seen = ~hidden[row]
        if seen.sum() < 3:
            continue
        pair = [_ranks(one[..., row, seen]) for one in (first, second)]
        centred = [one - one.mean(-1, keepdim=True) for one in pair]
        lengths = centred[0].norm(dim=-1) * centred[1].norm(dim=-1)
        # Where all are equal there is no order, and no correlation.
        rows.append((centred[0] * centred[1]).sum(-1) / lengths.where(lengths > 0, torch.nan))
    nothing = torch.full(first.shape[:-2], torch.nan)
    return torch.stack(rows).nanmean(0) if rows else nothing


def _ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the ranks along the last dimension; equal values share the mean of theirs."""
    values = values.double()
    below = (values[..., None, :] < values[..., :, None]).sum(-1)
    equal = (values[..., None, :] == values[..., :, None]).sum(-1)
    return below + (equal + 1) / 2


def rollout(layers: Sequence[torch.Tensor]) -> torch.Tensor:
    """Multiply the layers of self-attention, each half itself for its residual (Abnar & Zuidema 2020, sec. 3).

    Args:
        layers: For each layer (T, T), the mean of its heads.

    Returns:
        (T, T): how much of each input token flows into each output, were attention all that there is.
    """
    flow = torch.eye(layers[0].shape[-1])
    for weights in layers:
        flow = (weights + torch.eye(weights.shape[-1])) / 2 @ flow
    return flow


def rollout_across(
    selves: Sequence[torch.Tensor], crosses: Sequence[torch.Tensor], source: torch.Tensor
) -> torch.Tensor:
    """Continue a rollout through a decoder: each of its sub-layers is half itself for its residual.

    The paper has encoders alone; this is its rule for a decoder with two sub-layers that attend.

    Args:
        selves: For each layer (T, T), the mean of its self-attention heads.
        crosses: For each layer (T, S), the mean of its cross-attention heads.
        source: (S, S), the rollout of the encoder.

    Returns:
        (T, S): what flows from the source's tokens; a row sums to less than 1, the rest comes from the target's.
    """
    flow = torch.zeros(crosses[0].shape)
    for own, across in zip(selves, crosses, strict=True):
        flow = (flow + own @ flow) / 2
        flow = (flow + across @ source) / 2
    return flow


def alignment(weights: torch.Tensor, gold: Sequence[set[int]]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Compare a map with the columns that decide each row.

    Args:
        weights: (..., T, S).
        gold: For each of the T rows the columns that decide it; a row that none decides does not count.

    Returns:
        In how many rows the strongest cell is a gold one (...), the sum over rows of the weight on gold (...), and how
        many rows count. With every gold link a possible one, the error rate of an alignment that links each row to its
        strongest cell is 1 - hits / rows (Och & Ney 2003, with no sure links).
    """
    hits, mass, rows = torch.zeros(weights.shape[:-2]), torch.zeros(weights.shape[:-2]), 0
    for row, columns in enumerate(gold):
        if not columns:
            continue
        rows += 1
        on_gold = torch.zeros(weights.shape[-1])
        on_gold[sorted(columns)] = 1.0
        hits += on_gold[weights[..., row, :].argmax(-1)]
        mass += weights[..., row, :] @ on_gold
    return hits, mass, rows
