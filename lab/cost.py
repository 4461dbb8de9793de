"""Table 1, measured: operations, time, sequential steps and path length (Vaswani et al. 2017, sec. 4).

Dimension letters: B batch, T length n, D width d.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from matplotlib.figure import Figure
from torch import nn

from lab import steps
from lab.cost_layers import LAYERS, WIDTH, WINDOW, Layer, check_count
from lab.outcome import Cell, Outcome, Table
from lab.paths import path_lengths

TITLE = "Table 1, measured: operations counted, time by n and d, sequential steps, longest path"
SECONDS = 120

KERNEL = "sdpa"
"""The kernel that is timed. Operations are counted on eager, the only one that the counter sees into."""

PASSES = {"forward": "forward", "both": "forward and backward"}

Times = dict[tuple[int, str, str], dict[int, list[float]]]
"""Milliseconds of each seed, by width, layer and pass ("forward", "both"), and then by n."""


def run(options: argparse.Namespace) -> Outcome:
    """Count, time, and follow the longest path."""
    lengths = {64: [64 * 2**power for power in range(7 if options.quick else 8)]}
    lengths[512] = lengths[64][: 5 if options.quick else 8]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        ratios = {layer.name: [check_count(layer, n, d) for d in lengths for n in (256, 1024)] for layer in LAYERS}
        times = measure(lengths, options.seeds, budget=0.15 if options.quick else 0.5)
        stepwise = [
            steps.reading_table(options.seeds, options.quick),
            steps.writing_table(24 if options.quick else 64),
        ]
    finally:
        torch.set_num_threads(threads)
    paths = {n: path_lengths(n, WINDOW // 4, WIDTH) for n in ((16, 64, 256) if options.quick else (16, 64, 256, 1024))}
    tables = [
        table_1(ratios, paths),
        *(times_table(times, d) for d in lengths),
        growth_table(times),
        cross_table(times),
    ]
    note = (
        "Times are CPU time of the process, which has one thread, so that other processes count little. Each is the median "
        f"of at least three passes over one sequence; self-attention on {KERNEL}, its operations counted on eager. "
        f"r = {WINDOW}, k = {WIDTH}; the paths with r = {WINDOW // 4}."
    )
    return Outcome([*tables, *stepwise, paths_table(paths)], conclusion(times, paths), figure(times, paths), [note])


def cpu_time(work: Callable[[], object], budget: float) -> float:
    """Return the median CPU time of a call in milliseconds, over at least three calls and `budget` seconds."""
    work()
    spent: list[float] = []
    while len(spent) < 3 or (sum(spent) < budget and len(spent) < 50):
        start = time.process_time()
        work()
        spent.append(time.process_time() - start)
    return statistics.median(spent) * 1000


def both_ways(layer: nn.Module, states: torch.Tensor) -> None:
    """Run forward and backward, to the weights and to the input."""
    layer(states.requires_grad_()).sum().backward()
    states.grad = None
    layer.zero_grad(set_to_none=True)


def time_passes(module: nn.Module, states: torch.Tensor, budget: float) -> tuple[float, float]:
    """Return the milliseconds of a forward pass, and of forward and backward."""
    with torch.no_grad():
        forward = cpu_time(lambda: module(states), budget)
    return forward, cpu_time(lambda: both_ways(module, states), budget)


def measure(lengths: dict[int, list[int]], seeds: int, budget: float) -> Times:
    """Time every layer at every width and length, once for each seed."""
    times: Times = {}
    for seed in range(seeds):
        for d, ns in lengths.items():
            torch.manual_seed(seed)
            for layer in LAYERS:
                module = layer.build(d, KERNEL)
                for n in ns:
                    spent = time_passes(module, torch.randn(1, n, d), budget)
                    for name, milliseconds in zip(PASSES, spent, strict=True):
                        times.setdefault((d, layer.name, name), {}).setdefault(n, []).append(milliseconds)
    return times


def exponent(by_length: dict[int, list[float]], seed: int) -> float:
    """Return the slope of log time over log n, by least squares over the longer half of at least three lengths."""
    lengths = sorted(by_length)[len(by_length) // 2 :]
    x = [math.log(n) for n in lengths]
    y = [math.log(by_length[n][seed]) for n in lengths]
    return statistics.linear_regression(x, y).slope


def crossing(times: Times, d: int, first: str, second: str, name: str = "both") -> list[float | None]:
    """Return for each seed the n from which `first` takes longer than `second`, None where it never does."""
    slow, fast = times[d, first, name], times[d, second, name]
    lengths = sorted(slow)
    crossings: list[float | None] = []
    for seed in range(len(slow[lengths[0]])):
        gaps = [math.log(slow[n][seed] / fast[n][seed]) for n in lengths]
        at = next((at for at in range(1, len(gaps)) if gaps[at - 1] < 0 <= gaps[at]), None)
        if at is None:
            crossings.append(float(lengths[0]) if gaps[0] >= 0 else None)
            continue
        share = gaps[at - 1] / (gaps[at - 1] - gaps[at])
        crossings.append(lengths[at - 1] * (lengths[at] / lengths[at - 1]) ** share)
    return crossings


def table_1(ratios: dict[str, list[float]], paths: dict[int, dict[str, int]]) -> Table:
    """Put the paper's table beside what was counted."""
    rows: list[list[Cell]] = []
    first, last = min(paths), max(paths)
    for layer in LAYERS:
        shape = layer.name.split(",")[0].removesuffix(" (GRU)")
        rows.append(
            [
                layer.name,
                layer.written,
                f"{min(ratios[layer.name]):.4f} to {max(ratios[layer.name]):.4f}",
                f"{series(layer, 64)}, {series(layer, 256)}",
                layer.sequential,
                f"{paths[first][shape]}, {paths[last][shape]}",
            ]
        )
    columns = ["layer", "multiplications", "counted / formula", "products in a row at n = 64, 256", "paper"]
    return Table("Table 1, counted", [*columns, f"longest path at n = {first}, {last}"], rows)


def series(layer: Layer, length: int) -> int:
    """Return how many matrix products follow each other in a forward pass at width 64."""
    module, states = layer.build(64, "eager"), torch.randn(1, length, 64)
    return steps.products(lambda: module(states))


def times_table(times: Times, d: int) -> Table:
    """Show the time of each layer by n."""
    lengths = sorted(next(by_length for (width, *_), by_length in times.items() if width == d))
    rows: list[list[Cell]] = [
        [layer.name, words, *(times[d, layer.name, name][n] for n in lengths)]
        for name, words in PASSES.items()
        for layer in LAYERS
    ]
    return Table(f"milliseconds at d = {d}", ["layer", "pass", *(f"n = {n:,}" for n in lengths)], rows)


def growth_table(times: Times) -> Table:
    """Show the exponent of the time in n, over the longer half of the lengths."""
    rows: list[list[Cell]] = []
    for layer in LAYERS:
        cells = [
            [exponent(times[d, layer.name, name], seed) for seed in range(len(next(iter(by_length.values()))))]
            for (d, other, name), by_length in times.items()
            if other == layer.name
        ]
        rows.append([layer.name, *cells])
    columns = [f"d = {d}, {PASSES[name]}" for d, other, name in times if other == LAYERS[0].name]
    return Table("time grows as n to the power of", ["layer", *columns], rows)


def cross_table(times: Times) -> Table:
    """Show from which n self-attention costs more than a recurrence: by operations n = d, by time another."""
    rows: list[list[Cell]] = []
    for d in sorted({d for d, *_ in times}):
        for name, words in PASSES.items():
            rows.append([d, words, f"from n = {d}", crossing_words(times, d, name)])
    return Table(
        "where self-attention costs more than the GRU",
        ["d", "pass", "by the operations", "by the time measured"],
        rows,
    )


def crossing_words(times: Times, d: int, name: str = "both") -> str:
    """Return the crossing as text: a number, or that it lies beyond the longest n."""
    known = [n for n in crossing(times, d, LAYERS[0].name, "recurrent (GRU)", name) if n is not None]
    longest = max(times[d, LAYERS[0].name, name])
    return f"from n = {statistics.mean(known):,.0f}" if known else f"not up to n = {longest:,}"


def paths_table(paths: dict[int, dict[str, int]]) -> Table:
    """Show the longest path of every kind of layer by n."""
    names = list(next(iter(paths.values())))
    rows: list[list[Cell]] = [[name, *(paths[n][name] for n in paths)] for name in names]
    title = "longest path between two positions, in layers (of a recurrence: in steps)"
    return Table(title, ["layer", *(f"n = {n:,}" for n in paths)], rows)


def conclusion(times: Times, paths: dict[int, dict[str, int]]) -> str:
    """Say how times grow, where the recurrence is slower, and how long paths are."""
    d, longest = min(d for d, *_ in times), max(paths)

    def power(name: str) -> str:
        by_length = times[d, name, "both"]
        return f"{statistics.mean(exponent(by_length, seed) for seed in range(len(by_length[64]))):.2f}"

    crosses = " and ".join(f"at d = {d} {crossing_words(times, d)}" for d in sorted({d for d, *_ in times}))
    return (
        f"At d = {d} time grows as n to the power of {power('self-attention')} in self-attention, "
        f"{power('restricted, in blocks')} in windows computed in blocks, {power('recurrent (GRU)')} in the GRU and "
        f"{power('convolution')} in the convolution. The GRU does fewer operations from n = d on, but it does them one after "
        f"another. By time self-attention is the slower of the two {crosses}. At n = {longest:,} the longest path is "
        f"{paths[longest]['self-attention']} in self-attention, {paths[longest]['sparse, strided']} in a sparse pattern, "
        f"{paths[longest]['convolution, dilated']} in a dilated convolution and {paths[longest]['recurrent']} in a recurrence."
    )


def figure(times: Times, paths: dict[int, dict[str, int]]) -> Figure:
    """Draw time by n at each width, and the longest path by n."""
    widths = sorted({d for d, *_ in times})
    drawing = Figure(figsize=(13, 4.2), layout="constrained")
    panels = drawing.subplots(1, len(widths) + 1)
    for axes, d in zip(panels, widths, strict=False):
        for layer in LAYERS:
            by_length = times[d, layer.name, "both"]
            axes.plot(
                list(by_length), [statistics.mean(spent) for spent in by_length.values()], "o-", label=layer.name
            )
        axes.set_title(f"forward and backward, d = {d}")
        axes.set_ylabel("milliseconds of CPU time")
        logarithmic(axes, list(by_length))
        axes.set_ylim(top=6 * axes.get_ylim()[1])  # room for the legend
    panels[0].legend(loc="upper left", fontsize=8)
    equal: dict[tuple[int, ...], list[str]] = {}
    for name in next(iter(paths.values())):
        equal.setdefault(tuple(lengths[name] for lengths in paths.values()), []).append(name)
    for values, names in equal.items():  # kinds of the same path share a line
        panels[-1].plot(list(paths), values, "o-", label=", ".join(names))
    panels[-1].set_title("longest path")
    panels[-1].set_ylabel("layers (of a recurrence: steps)")
    logarithmic(panels[-1], list(paths))
    panels[-1].set_ylim(0.5, 30 * max(max(values) for values in equal))
    panels[-1].legend(loc="upper left", fontsize=8)
    return drawing


def logarithmic(axes, lengths: Sequence[int]) -> None:
    """Give both axes a logarithm, and name the lengths that were measured."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    marked = lengths[:: 2 if len(lengths) > 4 else 1]
    axes.set_xticks(marked, [f"{n:,}" for n in marked])
    axes.set_xlabel("n, tokens")
