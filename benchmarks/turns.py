"""What the benchmarks share: options, work in turns so that a change in the machine's speed hits all of it, and peak memory."""

import argparse
import multiprocessing
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch


def parser(text: str | None, rounds: int) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    result = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help="timed turns of each")
    result.add_argument("--threads", type=int, default=1)
    result.add_argument("--smoke", action="store_true", help="seconds: does the script still run?")
    return result


def machine(threads: int) -> str:
    """Name the processor, the threads and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "model\t"))]
    processor = " model ".join(sorted(dict.fromkeys(names), key=str.isdigit)) or platform.machine()
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


def milliseconds(seconds: list[float]) -> str:
    """Return the median."""
    return f"{1000 * statistics.median(seconds):,.0f}"


def ratio(slower: list[float], faster: list[float]) -> str:
    """Return the median of the paired ratios, with the quartiles where there are enough rounds."""
    ratios = [a / b for a, b in zip(slower, faster, strict=True)]
    if len(ratios) < 4:
        return f"{statistics.median(ratios):.2f}"
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def peak_memory() -> float:
    """Return the peak memory of this process so far, in MiB (Linux: what getrusage says may be its parent's)."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 2**10


def raised(prepare: Callable[..., Callable[[], object]], *arguments, smoke: bool = False) -> float:
    """Return how far the work that `prepare` makes raises the peak memory, in MiB, in a process of its own."""
    if smoke:
        return _raised(prepare, arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # what another has taken stays taken
        return pool.apply(_raised, (prepare, arguments))


def _raised(prepare: Callable[..., Callable[[], object]], arguments: tuple) -> float:
    torch.set_num_threads(1)
    work = prepare(*arguments)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten, so it is what the process holds
    before = peak_memory()
    work()
    return peak_memory() - before
