"""A training step in bf16 beside fp32, and with our dropout beside torch's.

Forward, backward, AdamW (fused), dropout 0.1, of our models alone, on their faster kernel for rows of 64 tokens (eager). Milliseconds a
step, in turns; `medium` are fp32 weights whose products may be rounded to bf16 (`loop.matmul_precision`), bf16 is autocast
(`loop.precision`). What bf16 gains hangs on the CPU: one without such instructions imitates it, and is many times slower.

    python -m benchmarks.precision                     about four minutes
"""

import contextlib
from collections.abc import Callable, Iterator

import torch

from benchmarks.peak import peak, stated
from benchmarks.step import SIZES, VARIANTS, build, stepping
from benchmarks.turns import in_turns, machine, milliseconds, parser, ratio
from modeling_vanilla import dropout


@contextlib.contextmanager
def fp32() -> Iterator[None]:
    """Compute a step as it is."""
    yield


@contextlib.contextmanager
def torchs() -> Iterator[None]:
    """Let torch's own dropout do all of it."""
    plain, dropout._is_plain = dropout._is_plain, lambda tensor: False
    try:
        yield
    finally:
        dropout._is_plain = plain


@contextlib.contextmanager
def medium() -> Iterator[None]:
    """Allow products of fp32 numbers to be rounded."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def bf16() -> contextlib.AbstractContextManager:
    """Compute products in bf16."""
    return torch.autocast("cpu", torch.bfloat16)


WAYS = {"torch's dropout": torchs, "fp32": fp32, "medium": medium, "bf16": bf16}


def within(way: Callable[[], contextlib.AbstractContextManager], step: Callable[[], None]) -> Callable[[], None]:
    """Return a step that is taken in one of the ways."""

    def taken() -> None:
        with way():
            step()

    return taken


def main() -> None:
    """Print the table."""
    options = parser(__doc__, 7).parse_args()
    torch.set_num_threads(options.threads)
    best = peak(("cpu", torch.float32), options.rounds)
    print(f"{machine(options.threads)}; {stated(best)}\n")
    print("| model | size | rows x tokens | ms, torch's dropout | ms, ours | ms, medium | ms, bf16 ", end="")
    print("| torch's dropout / ours | fp32 / medium | fp32 / bf16 |\n|---|---|---|---|---|---|---|---|---|---|")
    for size in ["smoke"] if options.smoke else ["tiny", "small"]:
        for variant in VARIANTS:
            model, _, batch = build(variant, size, 0.1)
            step = stepping(model, "eager", batch)
            seconds = in_turns({name: within(way, step) for name, way in WAYS.items()}, options.rounds)
            times = " | ".join(map(milliseconds, seconds.values()))
            own, fast = seconds["fp32"], (seconds["medium"], seconds["bf16"])
            gains = [ratio(seconds["torch's dropout"], own), *(ratio(own, faster) for faster in fast)]
            rows, length = SIZES[size][1:]
            print(f"| {variant} | {size} | {rows} x {length} | {times} | {' | '.join(gains)} |", flush=True)


if __name__ == "__main__":
    main()
