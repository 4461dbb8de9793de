"""What a window of attention costs by the length of a row: in chunks, as a mask, and full attention.

Forward and backward of one attention, causal, CPU microseconds a token, in turns; equal outputs are checked first. The share is that of the
peak of a matrix product, measured in the same run.

    python -m benchmarks.window
    python -m benchmarks.window --device cuda --dtype bfloat16
"""

import statistics
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.peak import peak, products, share, stated
from benchmarks.turns import RELATIVE, in_turns, machine, moved, parser, where
from modeling_vanilla.windows import Window, windowed_attention

HEADS, WIDTH, WINDOW = 4, 64, 128


def step(attend, tensors: list[torch.Tensor]):
    """Return a function that attends and goes back."""

    def run():
        for tensor in tensors:
            tensor.grad = None
        attend(*tensors).sum().backward()

    return run


def main() -> None:
    """Print the table."""
    options = parser(__doc__, 5, moves=True).parse_args()
    torch.set_num_threads(options.threads)
    best = peak(where(options), options.rounds)
    print(f"{machine(options.threads, where(options))}; {stated(best)}; {HEADS} heads of {WIDTH}, window {WINDOW}\n")
    print("| tokens | in chunks | as a mask | full | share of the peak, in chunks |\n|---|---|---|---|---|")
    allowed = RELATIVE[options.dtype] / 10
    for length in (256,) if options.smoke else (1024, 2048, 4096, 8192):
        torch.manual_seed(0)
        tensors = [moved(torch.randn(1, HEADS, length, WIDTH), where(options)).requires_grad_() for _ in range(3)]
        window = Window(WINDOW // 2, True)
        mask = window.table(length, tensors[0].device)
        ways = {
            "chunks": partial(windowed_attention, torch.nn.Identity(), window=window, scaling=WIDTH**-0.5),
            "mask": lambda q, k, v, m=mask: scaled_dot_product_attention(q, k, v, m).transpose(1, 2),
            "full": lambda q, k, v: scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2),
        }
        with torch.no_grad():
            torch.testing.assert_close(ways["chunks"](*tensors), ways["mask"](*tensors), atol=allowed, rtol=allowed)
        rounds = 1 if options.smoke else options.rounds
        work = {name: step(way, tensors) for name, way in ways.items()}
        seconds = in_turns(work, rounds)
        microseconds = [f"{1e6 * statistics.median(taken) / length:.0f}" for taken in seconds.values()]
        reached = share(products(work["chunks"]), seconds["chunks"], best)
        print(f"| {length:,} | {' | '.join(microseconds)} | {reached} |", flush=True)


if __name__ == "__main__":
    main()
