"""What looking costs: a forward pass under `look.capture` over the plain one, and beside eager's output_attentions.

A decoder of 6 layers, d_model 256, 8 heads, random weights, one text, on sdpa. The passes take turns, so that a change in the
machine's speed hits all; reported are medians of the ratios within a turn, by CPU time. Peak memory is that of a process
of its own, over what it had before the pass.

    python -m benchmarks.look
"""

from collections.abc import Callable

import torch

from benchmarks.turns import in_turns, machine, milliseconds, parser, raised, ratio
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


def watched(name: str, length: int) -> Callable[[], object]:
    """Return a pass to run, of a model that has run before."""
    model = model_of(length)
    with torch.inference_mode():
        model(torch.randint(7, VOCABULARY, (1, 8)))
    return torch.inference_mode()(passes(model, length)[name])


def main() -> None:
    """Measure, and print a Markdown table."""
    options = parser(__doc__, 9).parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine(options.threads)}; {LAYERS} layers, {HEADS} heads, d_model 256\n")
    print("| tokens | pass | CPU time over the plain pass | peak memory, MiB |\n|---|---|---|---|")
    for length in (64,) if options.smoke else (256, 1024, 4096):
        rounds = 1 if options.smoke else max(3, options.rounds * 1024 // max(length, 512))
        with torch.inference_mode():
            seconds = in_turns(passes(model_of(length), length), rounds)
        for name, taken in seconds.items():
            relative = f"1 ({milliseconds(taken)} ms)" if name == "plain" else ratio(taken, seconds["plain"])
            print(
                f"| {length:,} | {name} | {relative} | {raised(watched, name, length, smoke=options.smoke):,.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
