"""A training step and the memory that its process holds, as glibc hands it out by itself and as `fit` sets it up.

Forward, backward, AdamW (fused), dropout 0.1, of the small encoder-decoder on eager kernels, batches of 64 to 512 rows as long as a budget
of 4,096 tokens lets them be, the same ones everywhere. Each way of handing out memory is a process of its own, since glibc reads its
settings when one begins; they take their steps in turns. CPU milliseconds a step, page faults of one step, and what each process holds
after its last. "kept" is the first two of the settings alone, without the cache (decision 058).

    python -m benchmarks.allocation                    about half an hour
"""

import argparse
import contextlib
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.step import build
from benchmarks.turns import machine, milliseconds, parser, ratio
from train.processes.allocation import TUNABLES, VARIABLES

WAYS = {"glibc": "", "kept": TUNABLES.rpartition(":")[0], "fit": TUNABLES}
TOKENS, LENGTHS = 4096, (8, 64)
STEPS, BEFORE = 10, 60
"""Of a round, and before the first: the free memory needs some steps to fall to pieces."""


def serve(size: str, precision: str) -> None:
    """Take as many steps as each line of standard input says, and answer: CPU seconds, page faults, MiB held."""
    torch.set_num_threads(1)
    model = build("encoder-decoder", size, 0.1)[0].train()
    model.set_attn_implementation("eager")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    torch.manual_seed(0)
    draw = random.Random(0)
    autocast = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else contextlib.nullcontext()
    for line in sys.stdin:
        before, start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.process_time()
        for _ in range(int(line)):
            length = draw.randint(*LENGTHS)
            ids = torch.randint(7, model.config.vocab_size, (2, TOKENS // length, length))
            with autocast:
                loss = model(input_ids=ids[0], attention_mask=torch.ones_like(ids[0]), labels=ids[1]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        seconds = time.process_time() - start
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        held = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
        print(seconds, faults, held / 2**20, flush=True)


class Worker:
    """A process that trains under one setting of the allocator."""

    def __init__(self, tunables: str, *words: str):
        environ = {name: value for name, value in os.environ.items() if not name.startswith(VARIABLES)}
        command = [sys.executable, "-m", "benchmarks.allocation", "--serve", *words]
        self.process = subprocess.Popen(
            command,
            env=environ | {"GLIBC_TUNABLES": tunables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def steps(self, number: int) -> list[float]:
        """Let it take some steps; return the CPU seconds and page faults of one, and the MiB held after them."""
        print(number, file=self.process.stdin, flush=True)
        seconds, faults, held = map(float, self.process.stdout.readline().split())
        return [seconds / number, faults / number, held]


def measure(size: str, precision: str, rounds: int, steps: int, before: int) -> list[str]:
    """Return a row of the table."""
    workers = {name: Worker(tunables, size, precision) for name, tunables in WAYS.items()}
    for worker in workers.values():
        worker.steps(before)
    figures: dict[str, list[list[float]]] = {name: [] for name in WAYS}
    names = list(WAYS)
    for number in range(rounds):
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]
            figures[name].append(workers[name].steps(steps))
    for worker in workers.values():
        worker.process.communicate()
    seconds = {name: [taken for taken, _, _ in rows] for name, rows in figures.items()}
    times = [milliseconds(taken) for taken in seconds.values()]
    faults = [f"{statistics.median(number for _, number, _ in rows):,.0f}" for rows in figures.values()]
    held = [f"{rows[-1][2]:,.0f}" for rows in figures.values()]
    return [*times, ratio(seconds["glibc"], seconds["fit"]), ratio(seconds["kept"], seconds["fit"]), *faults, *held]


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 5)
    arguments.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.serve:
        return serve(*options.serve)
    print(f"{machine(1)}\n")
    print("| precision | ms, glibc | kept | fit | glibc / fit | kept / fit | page faults, glibc | kept | fit ", end="")
    print("| MiB held, glibc | kept | fit |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    size, numbers = ("smoke", (1, 1, 1)) if options.smoke else ("small", (options.rounds, STEPS, BEFORE))
    for precision in ("fp32", "bf16"):
        print(f"| {precision} | {' | '.join(measure(size, precision, *numbers))} |", flush=True)


if __name__ == "__main__":
    main()
