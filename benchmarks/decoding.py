"""How fast texts are written: the search of this package beside `generate` of transformers.

The same model on both sides; that the same tokens come out is checked first. CPU milliseconds a batch, in turns.

    python -m benchmarks.decoding                     about five minutes
    python -m benchmarks.decoding --smoke             seconds: does the script still run?
"""

import argparse
import statistics
from functools import partial

import torch
import transformers

from benchmarks.turns import in_turns, machine, ratio
from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration
from modeling_vanilla.decoding import search

SIZES = {
    "small": dict(vocab_size=8000, d_model=256, d_ff=1024, num_layers=4, num_heads=4),
    "smoke": dict(vocab_size=97, d_model=24, d_ff=29, num_layers=1, num_heads=4),
}
CASES = (("greedy", 1, 1), ("greedy", 16, 1), ("beam 4", 16, 4))
SOURCE = 20


def build(variant: str, size: str):
    """Build a model of random weights, far from uniform, with as many tokens to write for every row."""
    torch.manual_seed(0)
    cls = VanillaForCausalLM if variant == "decoder" else VanillaForConditionalGeneration
    model = cls(VanillaConfig(variant=variant, **SIZES[size])).eval()
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.1)
    return model


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=32, help="written by each row")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    size, rounds, tokens = ("smoke", 1, 4) if options.smoke else ("small", options.rounds, options.tokens)
    print(f"{machine(options.threads)}, transformers {transformers.__version__}; {size}: {SIZES[size]}\n")
    print("| model | search | rows | ms, `generate` | ms, ours | `generate` / ours |\n|---|---|---|---|---|---|")
    for variant in ("encoder-decoder", "decoder"):
        model = build(variant, size)
        for name, rows, beams in CASES:
            ids = torch.randint(7, model.config.vocab_size, (rows, SOURCE))
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "num_beams": beams, "do_sample": False}
            inputs |= {"max_new_tokens": tokens, "min_new_tokens": tokens}
            ways = {
                "theirs": partial(model.generate, **inputs),
                "ours": partial(model.generate, **inputs, custom_generate=search),
            }
            if not torch.equal(ways["theirs"](), ways["ours"]()):
                raise SystemExit(f"{variant}, {name}: other tokens")
            seconds = in_turns(ways, rounds)
            times = [f"{1000 * statistics.median(seconds[way]):.0f}" for way in ("theirs", "ours")]
            print(
                f"| {variant} | {name} | {rows} | {' | '.join(times)} | {ratio(seconds['theirs'], seconds['ours'])} |"
            )


if __name__ == "__main__":
    main()
