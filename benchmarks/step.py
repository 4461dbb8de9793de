"""A training step of each variant beside the stock class that holds the same weights: BERT, GPT-2 and Marian, and torch.nn.Transformer.

Forward, backward, AdamW (fused), dropout 0.1, or 0 as the table says; the same batch without padding, and the same loss without dropout,
checked first. Milliseconds a step, in turns; theirs with the faster of their two kernels, sdpa and eager, and ours with either. The last
columns say which share of the peak of a matrix product, measured in the same run, the products of the step reach in all its time.

    python -m benchmarks.step                          about twenty minutes, half of them for base
    python -m benchmarks.step --threads all --sizes small
    python -m benchmarks.step --device cuda --dtype bfloat16
"""

import statistics
from collections.abc import Callable

import torch
import transformers

from benchmarks.peak import peak, products, share, stated
from benchmarks.torch_translator import TorchTranslator
from benchmarks.turns import RELATIVE, Where, in_turns, machine, milliseconds, moved, parser, ratio, where
from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, VanillaForMaskedLM
from modeling_vanilla.convert import to_transformers

SIZES = {
    "tiny": (dict(vocab_size=4000, d_model=128, d_ff=512, num_layers=2, num_heads=2), 16, 64),
    "small": (dict(vocab_size=8000, d_model=256, d_ff=1024, num_layers=4, num_heads=4), 16, 64),
    "32k": (dict(vocab_size=32_000, d_model=256, d_ff=1024, num_layers=4, num_heads=4), 16, 64),
    "nanoGPT": (dict(vocab_size=65, d_model=384, d_ff=1536, num_layers=6, num_heads=6), 4, 256),
    "base": (dict(vocab_size=30_000, d_model=768, d_ff=3072, num_layers=12, num_heads=12), 4, 128),
    "paper's base": (dict(vocab_size=37_000, d_model=512, d_ff=2048, num_layers=6, num_heads=8), 4, 128),
    "smoke": (dict(vocab_size=97, d_model=24, d_ff=28, num_layers=1, num_heads=4), 2, 8),
}
ONLY = {"nanoGPT": {"decoder"}, "base": {"encoder", "decoder"}, "paper's base": {"encoder-decoder"}}
"""The variants of a size that not all have: a decoder of characters; BERT's and GPT-2's base; Vaswani et al. 2017, table 3."""
LARGE = {"base": 3, "paper's base": 3}
"""Rounds of the sizes that take seconds a step."""
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
        ours, *others = [model.eval()(**batch).loss.float() for model in models]
    for loss in others:
        torch.testing.assert_close(loss, ours, rtol=RELATIVE[dtype], atol=0)


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


def measure(variant: str, size: str, dropout: float, rounds: int, best: float, place: Where) -> list[str]:
    """Return a row of the table."""
    ours, theirs, batch = moved(build(variant, size, dropout), place)
    models = {"ours": ours, "theirs": theirs}
    if variant == "encoder-decoder":
        models["torch"] = moved(TorchTranslator(ours), place)
    check(list(models.values()), batch, str(place[1]).removeprefix("torch."))
    work = {
        (name, kernel): stepping(model, kernel, batch)
        for name, model in models.items()
        for kernel in (KERNELS if name != "torch" else KERNELS[:1])
    }
    operations = [products(work[name, "eager"]) for name in ("ours", "theirs")]
    seconds = in_turns(work, rounds)
    fastest = [
        min((seconds[name, kernel] for kernel in KERNELS), key=statistics.median) for name in ("ours", "theirs")
    ]
    times = [milliseconds(seconds[name, kernel]) for name in ("ours", "theirs") for kernel in KERNELS]
    torchs = ratio(seconds["torch", "sdpa"], fastest[0]) if "torch" in models else "-"
    shares = [share(number, taken, best) for number, taken in zip(operations, fastest, strict=True)]
    return [*times, ratio(fastest[1], fastest[0]), torchs, *shares]


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 5, moves=True)
    arguments.add_argument("--sizes", nargs="+", choices=SIZES, default=[size for size in SIZES if size != "smoke"])
    arguments.add_argument("--precision", choices=["highest", "medium"], default="highest", help="of fp32 products")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_float32_matmul_precision(options.precision)
    place, best = where(options), peak(where(options), options.rounds)
    named = f"{machine(options.threads, place)}, transformers {transformers.__version__}"
    print(f"{named}, precision {options.precision}; {stated(best)}\n")
    print("| model | size | rows x tokens | dropout | ms, ours: sdpa | eager | ms, theirs: sdpa | eager ", end="")
    print("| theirs / ours, each on its faster kernel | torch.nn.Transformer / ours ", end="")
    print("| share of the peak, ours | theirs |\n|---|---|---|---|---|---|---|---|---|---|---|---|")
    for size in ["smoke"] if options.smoke else options.sizes:
        rows, length = SIZES[size][1:]
        rounds = 1 if options.smoke else min(options.rounds, LARGE.get(size, options.rounds))
        for variant in sorted(ONLY.get(size, VARIANTS), key=list(VARIANTS).index):
            for dropout in (0.0, 0.1):
                figures = measure(variant, size, dropout, rounds, best, place)
                print(f"| {variant} | {size} | {rows} x {length} | {dropout} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
