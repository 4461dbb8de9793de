# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The matrix products of a decoding step, on weights that lie as the processor reads them.

A step multiplies a few rows with every weight of the decoder, and mostly waits for those weights. oneDNN reads them in
blocks of its own: from a copy in that order, the products of 16 rows with a decoder of width 256 take half the time, of
64 rows two thirds (benchmarks/decoding.py, docs/decisions/056). The copy lives as long as one search, so that weights
that have trained since, or took in an adapter, are the ones that are used.
"""

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear

from .losses import is_plain

ROWS, STEPS = 4, 8
"""The copy is made at once for so many hypotheses, and for fewer, which gain less by it, after so many steps."""
SIZE = 2**17
"""Entries of a weight from which on a copy pays: below, calling oneDNN takes longer than it saves."""
MOST = 2**30
"""Bytes that the copies of one search take at most: a larger decoder keeps its weights as they are."""

Product = Callable[[torch.Tensor], torch.Tensor]
"""Maps (R, D) to (R, E)."""


def first_step_with_copy(decoder: nn.Module, head: nn.Module, rows: int) -> int | None:
    """Return the step from which on a search of so many hypotheses pays for a copy of the weights, or None.

    It does for fp32 on an x86 CPU with oneDNN; `torch.backends.mkldnn.flags(enabled=False)` keeps it from that.
    """
    weights = [*decoder.layers.parameters(), *head.parameters()]
    is_known = platform.machine() in ("x86_64", "AMD64") and torch.backends.mkldnn.enabled
    is_known = (
        is_known and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )
    is_fp32 = all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)
    if (
        not (is_known and is_fp32)
        or torch.is_autocast_enabled("cpu")
        or 4 * sum(weight.numel() for weight in weights) > MOST
    ):
        return None
    return 0 if rows >= ROWS else STEPS


def product(*projections: Any, copy: bool) -> Product:
    """Return what computes a projection, or several of the same vectors side by side.

    Args:
        projections: Linear maps, with biases where there are several; one alone may be anything that maps vectors.
        copy: Read plain weights from a copy, see `first_step_with_copy`.
    """
    if len(projections) == 1 and not (copy and is_plain(projections[0])):
        return projections[0]
    weight, bias = projections[0].weight, projections[0].bias
    if len(projections) > 1:
        weight, bias = (torch.cat([getattr(one, name) for one in projections]) for name in ("weight", "bias"))
    if not copy or weight.numel() < SIZE:
        return lambda vectors: linear(vectors, weight, bias)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return lambda vectors: torch.ops.mkldnn._linear_pointwise(vectors, blocks, bias, "none", [], "")
