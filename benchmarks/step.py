"""A training step of each variant beside the stock class that holds the same weights: BERT, GPT-2 and Marian.

Forward, backward, AdamW (fused), dropout 0.1, or 0 as the table says; the same batch without padding, and the same loss without dropout,
checked first. CPU milliseconds a step, in turns; theirs with the faster of their two kernels, sdpa and eager, and ours with either.

    python -m benchmarks.step                          about seven minutes; --sizes base: twelve more
    python -m benchmarks.step --device cuda --dtype bfloat16
"""

import statistics
from collections.abc import Callable

import torch
import transformers

from benchmarks.turns import RELATIVE, in_turns, machine, milliseconds, moved, parser, ratio, where
from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, VanillaForMaskedLM
from modeling_vanilla.convert import to_transformers

SIZES = {
    "tiny": (dict(vocab_size=4000, d_model=128, d_ff=512, num_layers=2, num_heads=2), 16, 64),
    "small": (dict(vocab_size=8000, d_model=256, d_ff=1024, num_layers=4, num_heads=4), 16, 64),
    "base": (dict(vocab_size=30_000, d_model=768, d_ff=3072, num_layers=12, num_heads=12), 4, 128),
    "32k": (dict(vocab_size=32_000, d_model=256, d_ff=1024, num_layers=4, num_heads=4), 16, 64),
    "smoke": (dict(vocab_size=97, d_model=24, d_ff=28, num_layers=1, num_heads=4), 2, 8),
}
VARIANTS = {
    "encoder": (VanillaForMaskedLM, VanillaConfig.bert_base),
    "decoder": (VanillaForCausalLM, VanillaConfig.gpt2),
    "encoder-decoder": (VanillaForConditionalGeneration, VanillaConfig),
}
KERNELS = ("sdpa", "eager")
HIDDEN = 0.15
"""Share of the tokens that a masked language model restores (Devlin et al. 2019, sec. 3.1)."""


def build(variant: str, size: str, dropout: float):
    """Build our model and theirs of the same weights, and a batch."""
    sizes, rows, length = SIZES[size]
    model_class, preset = VARIANTS[variant]
    options = dict(sizes, dropout=dropout, attention_dropout=dropout, max_position_embeddings=512)
    torch.manual_seed(0)
    ours = model_class(preset(variant=variant, **options, label_smoothing=0.0))
    theirs = to_transformers(ours)
    ids = torch.randint(7, sizes["vocab_size"], (rows, length))
    labels = ids
    if variant == "encoder":
        labels = ids.masked_fill(torch.rand(rows, length) > HIDDEN, -100)
    if variant == "encoder-decoder":
        labels = torch.randint(7, sizes["vocab_size"], (rows, length))
    return ours, theirs, {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def check(models: list, batch: dict, dtype: str) -> None:
    """Stop where two models do not compute the same loss."""
    with torch.no_grad():
        losses = [model.eval()(**batch).loss.float() for model in models]
    torch.testing.assert_close(losses[0], losses[1], rtol=RELATIVE[dtype], atol=0)


def stepping(model, kernel: str, batch: dict) -> Callable[[], None]:
    """Return a function that takes one step on a kernel."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step() -> None:
        model.set_attn_implementation(kernel)
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model.train()
    return step


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 7, moves=True)
    arguments.add_argument("--sizes", nargs="+", choices=SIZES, default=["tiny", "small", "32k"])
    arguments.add_argument("--precision", choices=["highest", "medium"], default="highest", help="of fp32 products")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.precision)
    named = machine(options.threads, where(options))
    print(f"{named}, transformers {transformers.__version__}, precision {options.precision}\n")
    print("| model | size | rows x tokens | dropout | ms, ours: sdpa | eager | ms, theirs: sdpa | eager ", end="")
    print("| theirs / ours, each on its faster kernel |\n|---|---|---|---|---|---|---|---|---|")
    for size in ["smoke"] if options.smoke else options.sizes:
        for variant in VARIANTS:
            for dropout in (0.0, 0.1):
                ours, theirs, batch = moved(build(variant, size, dropout), where(options))
                check([ours, theirs], batch, options.dtype)
                work = {
                    (name, kernel): stepping(model, kernel, batch)
                    for name, model in (("ours", ours), ("theirs", theirs))
                    for kernel in KERNELS
                }
                seconds = in_turns(work, 1 if options.smoke else options.rounds)
                kernels = [[seconds[name, kernel] for kernel in KERNELS] for name in ("theirs", "ours")]
                best = [min(taken, key=statistics.median) for taken in kernels]
                times = " | ".join(map(milliseconds, seconds.values()))
                shape = f"{SIZES[size][1]} x {SIZES[size][2]}"
                print(f"| {variant} | {size} | {shape} | {dropout} | {times} | {ratio(*best)} |", flush=True)


if __name__ == "__main__":
    main()
