"""What the benchmarks share: functions that take turns, so that a change in the machine's speed hits all of them."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def machine(threads: int) -> str:
    """Name the processor, the threads and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "model\t"))]
    processor = " model ".join(dict.fromkeys(names)) or platform.processor() or platform.machine()
    return f"{processor}, {threads} thread(s), torch {torch.__version__}"


def in_turns(
    work: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return the seconds of each function in each round, after one round that does not count.

    Another function goes first in each round: who goes first finds other things in the caches.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    names = list(work)
    for number in range(-1, rounds):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            start = clock()
            work[name]()
            if number >= 0:
                seconds[name].append(clock() - start)
    return seconds


def ratio(slower: list[float], faster: list[float]) -> str:
    """Return the median of the paired ratios, with the quartiles where there are enough rounds."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
