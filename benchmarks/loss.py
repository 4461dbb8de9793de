"""The loss of a large vocabulary with all logits, and without: time and memory of head and loss, forward and backward.

CPU milliseconds, in turns; equal losses are checked first. Memory is how far one step raises the peak of a process of its own, and the shares
are those of the peak of a matrix product, measured in the same run.

    python -m benchmarks.loss
    python -m benchmarks.loss --device cuda --dtype bfloat16
"""

from collections.abc import Callable
from functools import partial

import torch

from benchmarks.peak import peak, products, share, stated
from benchmarks.turns import RELATIVE, Where, in_turns, machine, milliseconds, moved, parser, raised, ratio, where
from modeling_vanilla.losses import linear_loss, token_loss

WIDTH, ROWS, SMOOTHING = 512, 2048, 0.1
WAYS = {
    "with logits": lambda states, head, labels: token_loss(head(states), labels, SMOOTHING),
    "without": lambda states, head, labels: linear_loss(states, head, labels, SMOOTHING),
}


def problem(rows: int, vocabulary: int, place: Where) -> tuple[torch.Tensor, torch.nn.Linear, torch.Tensor]:
    """Draw states, a head and labels."""
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, vocabulary, bias=False)
    states, head, labels = moved((torch.randn(rows, WIDTH), head, torch.randint(vocabulary, (rows,))), place)
    return states.requires_grad_(), head, labels


def step(way: str, inputs: tuple) -> None:
    """Compute a loss, and go back."""
    inputs[0].grad = inputs[1].weight.grad = None
    WAYS[way](*inputs)[0].backward()


def prepare(way: str, rows: int, vocabulary: int, place: Where) -> Callable[[], None]:
    """Return a step to take."""
    return partial(step, way, problem(rows, vocabulary, place))


def main() -> None:
    """Print the table."""
    options = parser(__doc__, 7, moves=True).parse_args()
    torch.set_num_threads(options.threads)
    rows, rounds = (300, 1) if options.smoke else (ROWS, options.rounds)
    place, best = where(options), peak(where(options), rounds)
    print(f"{machine(options.threads, place)}; {stated(best)}; {rows} rows of {WIDTH}, label smoothing {SMOOTHING}\n")
    print("| vocabulary | ms with logits | ms without | with / without | MiB with | MiB without ", end="")
    print(f"| share of the peak, with | without |\n|{'---|' * 8}")
    for vocabulary in (500,) if options.smoke else (8000, 32_768):
        inputs = problem(rows, vocabulary, place)
        torch.testing.assert_close(*(way(*inputs)[0] for way in WAYS.values()), rtol=RELATIVE[options.dtype], atol=0)
        work = {name: partial(step, name, inputs) for name in WAYS}
        seconds = in_turns(work, rounds)
        shares = " | ".join(share(products(run), seconds[name], best) for name, run in work.items())
        memory = [raised(prepare, name, rows, vocabulary, place, smoke=options.smoke) for name in WAYS]
        times = " | ".join(map(milliseconds, seconds.values()))
        row = f"{vocabulary:,} | {times} | {ratio(*seconds.values())} | {memory[0]:.0f} | {memory[1]:.0f} | {shares}"
        print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
