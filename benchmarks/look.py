"""What looking costs: a forward pass under `look.capture` over the plain one, and beside eager's output_attentions.

A decoder of 6 layers, d_model 256, 8 heads, random weights, one text, on sdpa. The passes take turns, so that a change in the
machine's speed hits all; reported are medians of the ratios within a turn, by CPU time. Peak memory is that of a process
of its own, over what it had before the pass.

    python -m benchmarks.look
"""

import argparse
import multiprocessing
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from modeling_vanilla import VanillaConfig, VanillaForCausalLM
from modeling_vanilla.look import averaged, capture, top

LAYERS, HEADS, VOCABULARY = 6, 8, 1000
CASES = {
    "one head of one layer, the 16 largest a row": {"layers": [LAYERS - 1], "heads": [0], "reduce": top(16)},
    "one layer, averaged": {"layers": [LAYERS - 1], "reduce": averaged()},
    "all layers, averaged": {"reduce": averaged()},
}
EAGER = "eager, output_attentions"


def model_of(length: int) -> VanillaForCausalLM:
    """Build the decoder, in evaluation mode."""
    torch.manual_seed(0)
    sizes = {"d_model": 256, "d_ff": 1024, "num_layers": LAYERS, "num_heads": HEADS, "vocab_size": VOCABULARY}
    config = VanillaConfig(variant="decoder", max_position_embeddings=length, **sizes)
    model = VanillaForCausalLM(config).eval()
    model.set_attn_implementation("sdpa")
    return model


def passes(model: VanillaForCausalLM, length: int) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; the plain pass first."""
    ids = torch.randint(7, VOCABULARY, (1, length))

    def seen(options: dict) -> object:
        with capture(model, **options):
            return model(ids)

    def eager() -> object:
        model.set_attn_implementation("eager")
        try:
            return model(ids, output_attentions=True)
        finally:
            model.set_attn_implementation("sdpa")

    looks = {name: lambda options=options: seen(options) for name, options in CASES.items()}
    return {"plain": lambda: model(ids)} | looks | {EAGER: eager}


def ratios(length: int, turns: int) -> dict[str, float]:
    """Return the median of each pass's CPU time over that of the plain pass of its turn."""
    functions = passes(model_of(length), length)
    taken: dict[str, list[float]] = {name: [] for name in functions}
    with torch.inference_mode():
        for turn in range(turns + 1):
            names = list(functions)
            for at in range(len(names)):
                name = names[(turn + at) % len(names)]
                started = time.process_time()
                functions[name]()
                if turn:  # the first turn warms up
                    taken[name].append(time.process_time() - started)
    plain = taken["plain"]
    medians = {name: statistics.median(b / a for a, b in zip(plain, taken[name], strict=True)) for name in functions}
    return medians | {"plain": statistics.median(plain)}


def peak(name: str, length: int, queue) -> None:
    """Put into the queue how far one pass raised the peak memory of this process, in MiB."""
    torch.set_num_threads(1)
    model = model_of(length)
    with torch.inference_mode():
        model(torch.randint(7, VOCABULARY, (1, 8)))
        before = highest()
        passes(model, length)[name]()
    queue.put(highest() - before)


def highest() -> float:
    """Return the peak memory of this process so far, in MiB (Linux: what getrusage says may be its parent's)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 2**10


def peak_of(name: str, length: int) -> float:
    """Run `peak` in a fresh process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=peak, args=(name, length, queue))
    process.start()
    mebibytes = queue.get()
    process.join()
    return mebibytes


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[256, 1024, 4096], help="tokens")
    parser.add_argument("--turns", type=int, default=9, help="timed turns at 1,024 tokens; fewer at more, at least 3")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{platform.machine()}, 1 thread, torch {torch.__version__}, {LAYERS} layers, {HEADS} heads, d_model 256\n")
    print("| tokens | pass | CPU time over the plain pass | peak memory, MiB |\n|---|---|---|---|")
    for length in args.lengths:
        measured = ratios(length, max(3, args.turns * 1024 // max(length, 512)))
        for name, ratio in measured.items():
            time_text = f"1 ({ratio * 1000:.0f} ms)" if name == "plain" else f"{ratio:.2f}"
            print(f"| {length:,} | {name} | {time_text} | {peak_of(name, length):,.0f} |", flush=True)


if __name__ == "__main__":
    main()
