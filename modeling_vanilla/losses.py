# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""One loss per head, each a sum over real labels and the number of them (Vaswani et al. 2017, sec. 5.4).

A sum and a count can be added over micro-batches, accumulation steps and processes, and divided once; a mean cannot.
Dimension letters: B batch, T length, V vocabulary, C classes.
"""

import torch
from torch.nn import functional as F

IGNORE = -100


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


def causal_loss(
    logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float = 0.0, shift_labels: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum the cross-entropy of each next token: logits (B, T, V) at t predict labels (B, T) at t + 1.

    `shift_labels` (B, T), where given, are labels that were moved by one before; they replace `labels`.
    """
    if shift_labels is None:
        logits, shift_labels = logits[:, :-1], labels[:, 1:]
    return token_loss(logits, shift_labels, label_smoothing)


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
