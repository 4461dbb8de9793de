# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The matrix products of a decoding step, on weights that lie as the processor reads them.

A step multiplies a few rows with every weight of the decoder, and mostly waits for those weights. oneDNN reads them
faster from blocks of its own order: 16 rows are written 1.26 times as fast, four beams of each 1.13 times (AMD EPYC, a
decoder of width 256, benchmarks/decoding.py, decision 056). The copy lives as long as one search, so that weights that
have trained since, or took in an adapter, are the ones that are used.
"""

import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.functional import linear
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from .losses import is_plain

OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")
"""Those of `torch.ops.mkldnn` that are used here, private to torch."""
ROWS, STEPS, LATE = 4, 8, 32
"""For so many hypotheses the copy is made at once, where so many steps may follow: to make it takes as long as it saves
in about four. Fewer gain less by it: they wait for the last number of steps, and as many have to be left."""
SIZE = 2**17
"""Entries of a weight from which on a copy pays: below, calling oneDNN takes longer than it saves."""
MOST = 2**30
"""Bytes that the copies of one search take at most: a larger decoder keeps its weights as they are."""

Product = Callable[[torch.Tensor], torch.Tensor]
"""Maps (R, D) to (R, E)."""


def first_step_with_copy(decoder: Any, head: nn.Module, rows: int, steps: int) -> int | None:
    """Return the step at which a search of so many hypotheses, and steps at most, is to copy the weights, or None.

    It pays for fp32 on an x86 CPU with oneDNN; `torch.backends.mkldnn.flags(enabled=False)` keeps it from that. No copy
    is made where gradients are wanted or operations are counted: its product has none, and is not known as one.
    """
    mkldnn = torch.backends.mkldnn
    weights = [weight for part in (*decoder.layers, head) for weight in part.parameters()]
    is_known = platform.machine() in ("x86_64", "AMD64") and mkldnn.is_available() and mkldnn.enabled
    is_known = is_known and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)
    is_known = is_known and all(one.device.type == "cpu" and one.dtype == torch.float32 for one in weights)
    is_watched = torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or is_in_torch_dispatch_mode()
    if not is_known or is_watched or 4 * sum(one.numel() for one in weights) > MOST:
        return None
    if rows >= ROWS:
        return 0 if steps >= STEPS else None
    return LATE if steps >= 2 * LATE else None


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
    if not copy or weight.numel() < SIZE or weight.layout != torch.strided:
        return lambda vectors: linear(vectors, weight, bias)
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), None)
    return lambda vectors: torch.ops.mkldnn._linear_pointwise(vectors, blocks, bias, "none", [], "")
