"""The loss of a large vocabulary with all logits, and without: time and memory of head and loss, forward and backward.

CPU milliseconds, in turns; equal losses are checked first. Memory is what the process held at its peak beyond what it held
before, each way in a process of its own.

    python -m benchmarks.loss
"""

import argparse
import multiprocessing
import resource
import statistics
from functools import partial

import torch

from benchmarks.turns import in_turns, machine, ratio
from modeling_vanilla.losses import linear_loss, token_loss

WIDTH, ROWS, SMOOTHING = 512, 2048, 0.1
WAYS = {
    "with logits": lambda states, head, labels: token_loss(head(states), labels, SMOOTHING),
    "without": lambda states, head, labels: linear_loss(states, head, labels, SMOOTHING),
}


def problem(rows: int, vocabulary: int) -> tuple[torch.Tensor, torch.nn.Linear, torch.Tensor]:
    """Draw states, a head and labels."""
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, vocabulary, bias=False)
    return torch.randn(rows, WIDTH, requires_grad=True), head, torch.randint(vocabulary, (rows,))


def step(way: str, inputs: tuple) -> None:
    """Compute a loss, and go back."""
    WAYS[way](*inputs)[0].backward()


def peak(way: str, rows: int, vocabulary: int, threads: int) -> float:
    """Return the MiB that one step takes at its peak."""
    torch.set_num_threads(threads)
    inputs = problem(rows, vocabulary)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step(way, inputs)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def alone(*arguments) -> float:
    """Return `peak` of a process of its own: what another way has taken stays taken."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, arguments)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = 300 if options.smoke else ROWS
    print(f"{machine(options.threads)}; {rows} rows of {WIDTH}, label smoothing {SMOOTHING}\n")
    print("| vocabulary | ms with logits | ms without | ratio | MiB with | MiB without |\n|---|---|---|---|---|---|")
    for vocabulary in (500,) if options.smoke else (8000, 32_768):
        inputs = problem(rows, vocabulary)
        losses = [way(*inputs)[0] for way in WAYS.values()]
        torch.testing.assert_close(*losses, rtol=1e-5, atol=0)
        steps = {name: partial(step, name, inputs) for name in WAYS}
        seconds = in_turns(steps, 1 if options.smoke else options.rounds)
        sizes = [] if options.smoke else [alone(name, rows, vocabulary, options.threads) for name in WAYS]
        times = " | ".join(f"{1000 * statistics.median(each):.0f}" for each in seconds.values())
        memory = " | ".join(f"{size:.0f}" for size in sizes) or "- | -"
        print(f"| {vocabulary} | {times} | {ratio(*seconds.values())} | {memory} |")


if __name__ == "__main__":
    main()
