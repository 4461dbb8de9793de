"""This machine's CPU, as a row of the plan: its peak is measured, and where the data is here, a step is."""

import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import scaled_dot_product_attention
from train.cost.formulas import Load
from train.cost.trial import operations
from train.settings.recipe import Recipe

KERNELS: dict[str, Callable[..., tuple]] = {"sdpa": sdpa_attention_forward, "eager": scaled_dot_product_attention}


def measured(bf16: bool, seconds: float = 0.5, side: int = 768) -> float:
    """Return the FLOP/s of a matrix product on this machine's CPU, the best of those that fit into some time.

    Args:
        bf16: of bf16 numbers instead of fp32.
        seconds: to spend; one product more is begun at most.
        side: of the square matrices; 768 are 0.9 GFLOP, about a layer's product, and some 10 ms on one core.
    """
    matrix = torch.randn(side, side, dtype=torch.bfloat16 if bf16 else torch.float32)
    best, end = math.inf, time.perf_counter() + seconds
    matrix @ matrix
    while (began := time.perf_counter()) < end or best == math.inf:
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def doubts(recipe: Recipe) -> Iterator[str]:
    """Yield a warning where a recipe wants numbers that this machine's CPU only imitates; it takes hundredths of a second."""
    if recipe.loop.precision == "bf16":
        gain = measured(True, 0.02, side=256) / measured(False, 0.02, side=256)
        if gain < 0.8:
            yield f"loop.precision: bf16: this CPU multiplies in it {gain:.2g} times as fast as in fp32"


def kernels(config: VanillaConfig, load: Load, bf16: bool, seconds: float = 0.5) -> dict[str, float]:
    """Return the seconds of one attention by kernel, forward and backward, on rows like those of a step.

    Which is faster depends on the CPU and on the length of the rows: below some 256 keys two plain products are twice as
    fast as the fused kernel on one kind, and no faster on another.

    Args:
        config: heads, their width, and the dropout of weights.
        load: of a step.
        bf16: of bf16 numbers instead of fp32.
        seconds: to spend on each; at least two passes are timed.
    """
    positions, pairs = (load.source, load.source_pairs) if load.source else (load.target, load.target_pairs)
    length = max(1, round(pairs / positions))
    rows = max(1, round(positions / length))
    width = config.num_heads * config.head_dim
    dtype = torch.bfloat16 if bf16 else torch.float32
    states = [torch.randn(rows, length, width, dtype=dtype, requires_grad=True) for _ in range(3)]
    mask = torch.ones(rows, 1, length, length, dtype=torch.bool)  # nearly every batch has some padding
    module = torch.nn.Module()
    module.is_causal = False  # type: ignore[assignment]
    fastest = dict.fromkeys(KERNELS, math.inf)
    for name, kernel in KERNELS.items():
        end, passes = time.perf_counter() + seconds, 0
        while (began := time.perf_counter()) < end or passes < 3:
            heads = [each.unflatten(-1, (config.num_heads, -1)).transpose(1, 2) for each in states]
            options = {"scaling": config.head_dim**-0.5, "dropout": config.attention_dropout}
            kernel(module, *heads, mask, **options)[0].sum().backward()
            passes += 1
            if passes > 1:  # the first one warms up
                fastest[name] = min(fastest[name], time.perf_counter() - began)
    return fastest


def memory_of_machine() -> float | None:
    """Return the bytes of this machine's memory, None where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return None


def row(
    recipe: Recipe,
    config: VanillaConfig,
    load: Load,
    memory: float,
    mfu: float,
    step: Callable[[float], float] | None = None,
) -> dict[str, Any]:
    """Return time on this machine's CPU, whose peaks and attention kernels are measured.

    Args:
        recipe: what is planned.
        config: of its model.
        load: of a step.
        memory: bytes that it needs.
        mfu: share of the peak that is assumed where no step is timed.
        step: returns the seconds of a step that is timed, from the peak; None = the data is not here. It is not called where the
            machine's memory is too small.
    """
    peaks, memory_here = {numbers: measured(numbers == "bf16") for numbers in ("fp32", "bf16")}, memory_of_machine()
    flops = operations(recipe, config, load)
    peak, fits = peaks[recipe.loop.precision], None if memory_here is None else memory <= memory_here
    timed = step is not None and fits is not False
    seconds = step(peak) if timed else flops / (peak * mfu)
    return {
        "timed": timed,
        "share_of_peak": flops / (peak * seconds),
        "threads": torch.get_num_threads(),
        "peak": peak,
        "peaks": peaks,
        "numbers": recipe.loop.precision,
        "memory": memory_here,
        "fits": fits,
        "seconds_per_step": seconds,
        "hours": seconds * recipe.loop.max_steps / 3600,
        "kernels": kernels(config, load, recipe.loop.precision == "bf16"),
    }


def lines(cpu: dict[str, Any]) -> list[str]:
    """Return the row of this machine's CPU, how its peak is known, and which settings suit it."""
    memory = f"{cpu['memory'] / 1e9:>5.0f}" if cpu["memory"] else f"{'-':>5}"
    fits = {True: "yes", False: "no", None: "-"}[cpu["fits"]]
    rate = f"{cpu['peak'] / 1e12:>8.3f} {cpu['numbers']}"
    time_ = f"{short(cpu['seconds_per_step'])} {short(cpu['hours'])}"
    how = f"a matrix product on {cpu['threads']} thread(s), measured for half a second just now"
    how += f"; {cpu['share_of_peak']:.0%} of it "
    how += (
        "were reached by a step on rows of the data" if cpu["timed"] else "are assumed, since no step could be timed"
    )
    times = ", ".join(f"{name} {1000 * taken:.3g} ms" for name, taken in cpu["kernels"].items())
    faster, slower = sorted(cpu["kernels"], key=cpu["kernels"].get)
    equal = cpu["kernels"][slower] < 1.1 * cpu["kernels"][faster]  # less is noise
    advice = "about the same here" if equal else f"so model.attn_implementation: {faster} here"
    gain = cpu["peaks"]["bf16"] / cpu["peaks"]["fp32"]
    numbers = "bf16" if gain > 1.1 else "fp32"  # what a step casts between the two costs some of the gain
    return [
        f"  {'this CPU':<9} {rate} {memory} {fits:>5} {time_} {'-':>6} {'-':>9}",
        f"  The CPU's peak is that of {how}.",
        f"  A product in bf16 is {gain:.3g} times as fast as in fp32, so loop.precision: {numbers} here.",
        f"  Attention on rows like these, forward and backward: {times}; {advice}.",
    ]


def short(number: float) -> str:
    """Return a number in nine places."""
    return f"{number:>9.3g}" if number < 1000 else f"{number:>9,.0f}"
