"""How much of what the processor can do a piece of work reaches: the peak of a matrix product in the same run, and counted products."""

import statistics
from collections.abc import Callable

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.turns import Where, in_turns, moved

SHAPES = ((1024, 1024, 1024), (1536, 1536, 1536), (1024, 256, 1024), (512, 512, 8192))
"""Rows, depth and columns: large squares, a layer of a small model, and a head."""
ON_A_GPU = (*SHAPES, (8192, 8192, 8192))
"""Besides, one that takes much longer than it takes to begin it."""
ROUNDS = 5


def peak(place: Where, rounds: int = ROUNDS) -> float:
    """Return the floating-point operations a second of the fastest product, two for each pair of numbers (a multiplication, a sum)."""
    work = {}
    for rows, depth, columns in SHAPES if place[0] == "cpu" else ON_A_GPU:
        left, right = moved((torch.randn(rows, depth), torch.randn(depth, columns)), place)
        work[2 * rows * depth * columns, rows] = lambda left=left, right=right: left @ right
    seconds = in_turns(work, rounds)
    return max(operations / statistics.median(seconds[operations, rows]) for operations, rows in work)


def _added(total: tuple, left: tuple, right: tuple, **kwargs) -> int:
    return 2 * left[0] * left[1] * right[1]  # the counter of torch does not know the form that adds in place


def products(work: Callable[[], object]) -> int:
    """Return the floating-point operations of all matrix products in a call, with the kernels taken apart that would hide their own.

    Attention counts as two products of all pairs, also where a kernel leaves out those that a causal mask hides.
    """
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _added})
    with sdpa_kernel(SDPBackend.MATH), counter:
        work()
    return counter.get_total_flops()


def share(operations: int, seconds: list[float], best: float) -> str:
    """Return which share of the peak these operations reach in the median of these seconds, all else that happens meanwhile counted."""
    return f"{operations / statistics.median(seconds) / best:.0%}"


def stated(best: float) -> str:
    """Return a peak in words."""
    return f"a matrix product reaches {best / 1e9:,.0f} GFLOP/s"
