"""What the benchmarks share: options, work in turns so that a change in the machine's speed hits all of it, and peak memory."""

import argparse
import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

RELATIVE = {"float32": 1e-4, "bfloat16": 2e-2}
"""How far two losses of the same weights may be apart, by the type that they are computed in."""
Where = tuple[str, torch.dtype]
"""The device and the type of weights and inputs."""
CPU: Where = ("cpu", torch.float32)


def parser(text: str | None, rounds: int, moves: bool = False) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has, and those of one whose work moves to a GPU."""
    result = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    result.add_argument("--rounds", type=int, default=rounds, help="timed turns of each")
    result.add_argument(
        "--threads",
        type=threads,
        default=1,
        metavar="NUMBER",
        help="or all; from two on, times in turns are of the wall",
    )
    result.add_argument("--smoke", action="store_true", help="seconds: does the script still run?")
    if moves:
        result.add_argument("--device", default="cpu", help="cuda: times are of the wall, once the GPU has done all")
        result.add_argument("--dtype", choices=RELATIVE, default="float32", help="of weights and inputs")
    return result


def threads(text: str) -> int:
    """Return a number of threads: all of them are as many as the processors that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return usable if text == "all" else int(text)


def where(options: argparse.Namespace) -> Where:
    """Return where the work of a benchmark is done."""
    return options.device, getattr(torch, options.dtype)


def moved(thing: Any, place: Where) -> Any:
    """Move a model, a tensor, or each of a tuple or a dict; numbers that are no fractions keep their type."""
    device, dtype = place
    if isinstance(thing, tuple):
        return tuple(moved(one, place) for one in thing)
    if isinstance(thing, dict):
        return {name: moved(one, place) for name, one in thing.items()}
    if isinstance(thing, torch.Tensor) and not thing.is_floating_point():
        return thing.to(device)
    return thing.to(device, dtype)


def clock() -> float:
    """Return the CPU seconds of this process; of several threads those of the wall, on a GPU likewise once all is done there."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def machine(threads: int, place: Where = CPU) -> str:
    """Name the processor, the threads, the GPU, the type and the versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "model\t"))]
    processor = " model ".join(sorted(dict.fromkeys(names), key=str.isdigit)) or platform.machine()
    device, dtype = place
    processor += "" if device == "cpu" else f", {torch.cuda.get_device_name(device)}"
    processor += "" if dtype == torch.float32 else f", {str(dtype).removeprefix('torch.')}"
    return f"{processor}, {threads} thread(s), torch {torch.__version__}"


def in_turns(work: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
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
    """Return how far the work that `prepare` makes raises the peak memory, in MiB, in a process of its own; on a GPU its memory."""
    if smoke:
        return _raised(prepare, arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:  # what another has taken stays taken
        return pool.apply(_raised, (prepare, arguments))


def _raised(prepare: Callable[..., Callable[[], object]], arguments: tuple) -> float:
    torch.set_num_threads(1)
    work = prepare(*arguments)
    if torch.cuda.is_initialized():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten, so it is what the process holds
    before = peak_memory()
    work()
    return peak_memory() - before
