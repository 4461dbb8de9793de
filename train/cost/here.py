"""This machine's CPU, as a row of the plan: its peak is measured."""

import math
import os
import time
from typing import Any

import torch

from train.settings.recipe import Recipe


def measured(bf16: bool, seconds: float = 0.5) -> float:
    """Return the FLOP/s of a matrix product on this machine's CPU, the best of those that fit into some time.

    Args:
        bf16: of bf16 numbers instead of fp32.
        seconds: to spend; one product more is begun at most.
    """
    side = 768  # 0.9 GFLOP: about a layer's product, and some 10 ms on one core
    matrix = torch.randn(side, side, dtype=torch.bfloat16 if bf16 else torch.float32)
    best, end = math.inf, time.perf_counter() + seconds
    matrix @ matrix
    while (began := time.perf_counter()) < end or best == math.inf:
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def memory_of_machine() -> float | None:
    """Return the bytes of this machine's memory, None where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def row(recipe: Recipe, flops: float, memory: float, mfu: float) -> dict[str, Any]:
    """Return time on this machine's CPU, whose peak is measured."""
    peak, memory_here = measured(recipe.loop.precision == "bf16"), memory_of_machine()
    seconds = flops / (peak * mfu)
    return {
        "threads": torch.get_num_threads(),
        "peak": peak,
        "numbers": recipe.loop.precision,
        "memory": memory_here,
        "fits": None if memory_here is None else memory <= memory_here,
        "seconds_per_step": seconds,
        "hours": seconds * recipe.loop.max_steps / 3600,
    }


def lines(cpu: dict[str, Any]) -> list[str]:
    """Return the row of this machine's CPU, and how its peak is known."""
    memory = f"{cpu['memory'] / 1e9:>5.0f}" if cpu["memory"] else f"{'-':>5}"
    fits = {True: "yes", False: "no", None: "-"}[cpu["fits"]]
    rate = f"{cpu['peak'] / 1e12:>8.3f} {cpu['numbers']}"
    time_ = f"{_shown(cpu['seconds_per_step'])} {_shown(cpu['hours'])}"
    how = f"a matrix product on {cpu['threads']} thread(s), measured for half a second just now"
    return [
        f"  {'this CPU':<9} {rate} {memory} {fits:>5} {time_} {'-':>6} {'-':>9}",
        f"  The CPU's peak is that of {how}.",
    ]


def _shown(number: float) -> str:
    return f"{number:>9.3g}" if number < 1000 else f"{number:>9,.0f}"
