"""The loop that every trained lab shares: Adam, a warm-up, a cosine, the same seeds and steps for each rung."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn


def train(
    model: nn.Module,
    batches: Iterator[Any],
    loss_of: Callable[[nn.Module, Any], torch.Tensor],
    steps: int,
    lr: float = 2e-3,
    warmup: int = 50,
    after: Callable[[int], None] | None = None,
) -> list[float]:
    """Train a model in place and return its losses, a number for each step.

    Args:
        batches: Endless; the same seed gives every rung the same batches.
        loss_of: Returns the mean loss of a batch.
        lr: The highest learning rate per step, reached after `warmup` steps; a cosine brings it to a tenth.
        after: Called after each step with the number of steps so far, in evaluation mode.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, betas=(0.9, 0.98), eps=1e-9)
    losses = []
    model.train()
    for step in range(steps):
        share = min(1.0, (step + 1) / warmup)
        rate = lr * share * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_of(model, next(batches))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if after:
            model.eval()
            after(step + 1)
            model.train()
    model.eval()
    return losses


def count(model: nn.Module) -> int:
    """Return the number of trained weights, shared ones once."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
