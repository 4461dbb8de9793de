"""`loop.compile`: a training step of each variant, compiled and not, over batches of several lengths as training makes them.

Forward, backward, AdamW (fused), dropout 0.1, about as many tokens in each batch; the same loss in evaluation mode is checked at the end. CPU
milliseconds for one batch of each length, in turns; what compiling takes is the first such pass, in wall seconds, less a later one. Graphs that
come after the first batch are recompilations: other lengths that the compiled code does not hold for.

    python -m benchmarks.compiled                      about fifteen minutes; needs a C++ compiler
    python -m benchmarks.compiled --device cuda --dtype bfloat16
"""

import time
from collections.abc import Callable

import torch
import transformers
from torch._dynamo.utils import counters

from benchmarks import step
from benchmarks.turns import RELATIVE, Where, clock, in_turns, machine, milliseconds, moved, parser, ratio, where
from train.run.setup import compiled

LENGTHS = (64, 17, 40, 96, 128)
TOKENS = 1024


def batches_of(batch: dict, lengths: tuple[int, ...], tokens: int) -> list[dict]:
    """Cut a batch of one row into batches of these lengths."""
    whole = {name: value.flatten() for name, value in batch.items()}
    return [
        {name: value[: tokens // length * length].view(-1, length) for name, value in whole.items()}
        for length in lengths
    ]


def stepping(model, batches: list[dict]) -> Callable[[], None]:
    """Return a function that takes one step on each batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def run() -> None:
        for batch in batches:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    model.train()
    return run


def first_pass(run: Callable[[], None]) -> float:
    """Return the wall seconds of a call."""
    start = time.perf_counter()
    run()
    clock()  # waits for a GPU
    return time.perf_counter() - start


def measure(
    variant: str, place: Where, size: str, tokens: int, lengths: tuple[int, ...], rounds: int, backend: str
) -> list[str]:
    """Return a row of the table."""
    torch._dynamo.reset()
    counters.clear()
    plain, _, batch = moved(step.build(variant, size, 0.1), place)
    fast = moved(step.build(variant, size, 0.1)[0], place)
    batches = batches_of(batch, lengths, tokens)
    compiled(fast, backend)
    start = first_pass(stepping(fast, batches[:1]))
    graphs = counters["stats"]["unique_graphs"]
    start += first_pass(stepping(fast, batches[1:]))
    work = {"plain": stepping(plain, batches), "compiled": stepping(fast, batches)}
    later = first_pass(work["compiled"])
    more, breaks = counters["stats"]["unique_graphs"] - graphs, sum(counters["graph_break"].values())
    seconds = in_turns(work, rounds)
    fast.load_state_dict(plain.state_dict())
    with torch.no_grad():
        losses = [model.eval()(**batches[0]).loss.float() for model in (plain, fast)]
    torch.testing.assert_close(*losses, rtol=RELATIVE[str(place[1]).removeprefix("torch.")], atol=0)
    times = list(map(milliseconds, seconds.values()))
    return [
        *times,
        ratio(seconds["plain"], seconds["compiled"]),
        f"{start - later:.0f}",
        f"{graphs} + {more}",
        str(breaks),
    ]


def main() -> None:
    """Print the table."""
    options = parser(__doc__, 3, moves=True).parse_args()
    torch.set_num_threads(options.threads)
    case = (
        ("smoke", 16, (4, 8), 1, "eager") if options.smoke else ("small", TOKENS, LENGTHS, options.rounds, "inductor")
    )
    print(
        f"{machine(options.threads, where(options))}, transformers {transformers.__version__}; lengths {', '.join(map(str, case[2]))}\n"
    )
    print(
        "| model | ms, plain | ms, compiled | plain / compiled | s, to compile | graphs, and more for other lengths | breaks |"
    )
    print("|---|---|---|---|---|---|---|")
    for variant in step.VARIANTS:
        print(f"| {variant} | {' | '.join(measure(variant, where(options), *case))} |", flush=True)


if __name__ == "__main__":
    main()
