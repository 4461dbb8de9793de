# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""One loss per head, each a sum over real labels and the number of them (Vaswani et al. 2017, sec. 5.4).

A sum and a count can be added over micro-batches, accumulation steps and processes, and divided once; a mean cannot.
Dimension letters: B batch, T length, V vocabulary, C classes.
"""

import torch
from torch import nn
from torch.nn import functional as F

IGNORE = -100
ROWS = 256
"""Rows whose logits are held at once by `linear_loss`."""


def token_loss(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the cross-entropy of the labels that are not -100.

    With smoothing e the target puts 1 - e on the label and spreads e evenly over all V entries (Szegedy et al. 2016,
    as cited in sec. 5.4).

    Args:
        logits: (..., V), already beside the label they predict.
        labels: (...), ids in [0, V), or -100 to ignore a place.
        label_smoothing: e in [0, 1).

    Returns:
        The sum in nats (fp32) and the number of labels that entered it, both scalars.
    """
    labels = labels.to(logits.device, torch.long).flatten()
    total = F.cross_entropy(
        logits.flatten(0, -2).float(), labels, ignore_index=IGNORE, reduction="sum", label_smoothing=label_smoothing
    )
    return total, labels.ne(IGNORE).sum()


def shifted(labels: torch.Tensor) -> torch.Tensor:
    """Move labels (B, T) to the places that predict them; the last place predicts none.

    The labels move and not the logits: a part of (B, T, V) would be copied, and filled up with zeros on the way back.
    """
    return F.pad(labels[:, 1:], (0, 1), value=IGNORE)


class _LinearLoss(torch.autograd.Function):
    """The sum of `linear_loss`, whose gradients are computed with it: logits of `ROWS` rows live at a time."""

    @staticmethod
    def forward(ctx, states, weight, bias, labels, smoothing):
        total = torch.zeros((), device=states.device)
        needed = [tensor is not None and tensor.requires_grad for tensor in (states, weight, bias)]
        to_states, to_weight, to_bias = (
            torch.zeros_like(tensor) if need else None
            for tensor, need in zip((states, weight, bias), needed, strict=True)
        )
        for rows in (slice(first, first + ROWS) for first in range(0, len(labels), ROWS)):
            scores = F.linear(states[rows], weight, bias).float().log_softmax(-1)  # (R, V)
            chosen = labels[rows][:, None]
            total -= ((1 - smoothing) * scores.gather(1, chosen) + smoothing * scores.mean(-1, True)).sum()
            if not any(needed):
                continue
            # d loss / d logits: the probabilities less the smoothed target.
            slopes = scores.exp_().sub_(smoothing / scores.shape[-1])
            slopes.scatter_add_(1, chosen, torch.full_like(chosen, -(1 - smoothing), dtype=slopes.dtype))
            slopes = slopes.to(states.dtype)
            if to_states is not None:
                to_states[rows] = (slopes @ weight).to(states.dtype)
            if to_weight is not None and to_weight.dtype == slopes.dtype:
                to_weight.addmm_(
                    slopes.T, states[rows]
                )  # a sum in place: the head is as large as all logits of the chunk
            elif to_weight is not None:
                to_weight += slopes.T @ states[rows]
            if to_bias is not None:
                to_bias += slopes.sum(0)
        ctx.gradients = to_states, to_weight, to_bias
        return total

    @staticmethod
    def backward(ctx, slope):
        gradients = (None if one is None else one * slope.to(one.dtype) for one in ctx.gradients)
        return *gradients, None, None


def linear_loss(
    states: torch.Tensor, head: nn.Linear, labels: torch.Tensor, label_smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute `token_loss(head(states), labels)` without ever holding all logits.

    With a large vocabulary they are most of a step's memory, and to write and read them is much of its time: without them
    head and loss of 32,768 entries take 1 / 1.10 of the time and 0.23 of the memory (AMD EPYC, benchmarks/loss.py).
    Gradients of gradients are not computed.

    Args:
        states: (..., D), what the head maps to the vocabulary.
        head: The linear map, (V, D).
        labels: (...), as in `token_loss`.
        label_smoothing: Likewise.

    Returns:
        As `token_loss`.
    """
    labels = labels.to(states.device, torch.long).flatten()
    counted = labels.ne(IGNORE)
    states, labels = states.flatten(0, -2)[counted], labels[counted]
    return _LinearLoss.apply(states, head.weight, head.bias, labels, label_smoothing), counted.sum()


def is_plain(head: nn.Module) -> bool:
    """Tell whether a head is a linear map and no more: no adapter, hook, shard or other type of weights."""
    hooks = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks or "forward" in vars(head)
    return type(head) is nn.Linear and not hooks and type(head.weight) is nn.Parameter


def classification_loss(
    logits: torch.Tensor, labels: torch.Tensor, problem_type: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the loss of a sequence classifier over logits (B, C).

    Args:
        logits: (B, C).
        labels: (B,) class ids for "single_label_classification", (B, C) zeros and ones for
            "multi_label_classification", (B,) or (B, C) numbers for "regression" (squared error).
        problem_type: One of these three.

    Returns:
        The sum (fp32) and the number of terms, both scalars.
    """
    labels = labels.to(logits.device)
    if problem_type == "single_label_classification":
        return token_loss(logits, labels.view(-1))
    logits, labels = logits.float(), labels.float().view_as(logits)
    if problem_type == "regression":
        total = F.mse_loss(logits, labels, reduction="sum")
    else:
        total = F.binary_cross_entropy_with_logits(logits, labels, reduction="sum")
    return total, torch.tensor(labels.numel(), device=logits.device)


def span_loss(
    start_logits: torch.Tensor, end_logits: torch.Tensor, start: torch.Tensor, end: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the cross-entropies of the first and of the last place of an answer (Devlin et al. 2019, sec. 4.2).

    Args:
        start_logits: (B, T).
        end_logits: (B, T).
        start: (B,) or (B, 1) places in [0, T). An answer that was cut off lies at T or after; it is ignored, and a
            negative place is taken for 0 (BERT).
        end: Likewise.

    Returns:
        The sum in nats (fp32) and the number of places within the texts, both scalars.
    """
    length = start_logits.shape[1]
    logits = torch.stack([start_logits, end_logits], dim=1)  # (B, 2, T)
    places = torch.stack([start.flatten(), end.flatten()], dim=1).clamp(min=0).to(logits.device)  # (B, 2)
    return token_loss(logits, places.masked_fill(places >= length, IGNORE))


def reduce(loss: tuple[torch.Tensor, torch.Tensor], num_items_in_batch: torch.Tensor | int | None) -> torch.Tensor:
    """Divide a (sum, count) by `num_items_in_batch` where it is given, else by the count; without labels it is 0."""
    total, count = loss
    if num_items_in_batch is None:
        return total / count.clamp(min=1)
    # A batch without labels has 0 of them everywhere: its loss is 0, not 0 / 0.
    if torch.is_tensor(num_items_in_batch):
        return total / num_items_in_batch.to(total.device).clamp(min=1)
    return total / max(num_items_in_batch, 1)
