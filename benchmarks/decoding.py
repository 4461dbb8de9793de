"""How fast texts are written: the search of this package beside transformers' `generate`, and CTranslate2 where it is installed.

A translator and a language model of random weights, and the same weights in Marian's and GPT-2's classes; every row writes the same
number of tokens. That the same tokens come out is checked first, in fp32; of CTranslate2 those of greedy search in fp32. Milliseconds a
batch, in turns, and those of our search on the weights as they lie in the model (decision 056). The share is that of the peak of a matrix product, measured in the same run: a step of few rows is bound by reading the weights.

    python -m benchmarks.decoding                     about five minutes
    python -m benchmarks.decoding --threads all
    python -m benchmarks.decoding --device cuda --dtype bfloat16
"""

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
import transformers

import tokenizer as tokenizers
from benchmarks.peak import peak, products, share, stated
from benchmarks.turns import CPU, Where, in_turns, machine, milliseconds, moved, parser, raised, ratio, where
from modeling_vanilla import VanillaConfig, VanillaForCausalLM, VanillaForConditionalGeneration, decoding_products
from modeling_vanilla.convert import for_ctranslate2, to_transformers
from modeling_vanilla.decoding import search

SIZES = {
    "small": dict(vocab_size=8000, d_model=256, d_ff=1024, num_layers=4, num_heads=4),
    "smoke": dict(vocab_size=97, d_model=24, d_ff=28, num_layers=1, num_heads=4),
}
CASES = (("greedy", 1, 1, 1), ("greedy", 1, 1, 4), ("greedy", 16, 1, 1), ("beam 4", 16, 4, 1))
"""Search, rows, beams, and how many times `--tokens` each row writes."""
SOURCE = 20
NUMBERS = ("float32", "int8")
"""Types in which CTranslate2 computes."""
CLASSES = {"encoder-decoder": VanillaForConditionalGeneration, "decoder": VanillaForCausalLM}


def build(variant: str, size: str):
    """Build a model of random weights, far from uniform, that never ends a text."""
    torch.manual_seed(0)
    # Marian's class holds the default's weights, GPT-2's those of its own options.
    options = SIZES[size] | {"variant": variant}
    model = CLASSES[variant](
        VanillaConfig(**options) if variant == "encoder-decoder" else VanillaConfig.gpt2(**options)
    )
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.1)
    return endless(model)


def endless(model):
    """Let a model's texts end by their length alone."""
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    return model.eval()


def ctranslate2_of(model, ids: torch.Tensor, beams: int, tokens: int) -> dict[str, Callable[[], list]]:
    """Return what translates the ids by CTranslate2, on as many threads as torch: a function for each type of number."""
    import ctranslate2
    from ctranslate2.converters import TransformersConverter

    characters = "".join(chr(0x4E00 + number) for number in range(model.config.vocab_size - 7))
    words = tokenizers.build("char", [characters], model.config.vocab_size, "seq2seq", show_progress=False)
    threads = {"inter_threads": 1, "intra_threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as folder:
        for_ctranslate2(model).save_pretrained(Path(folder) / "marian")
        words.save_pretrained(Path(folder) / "marian")
        fast = str(Path(folder) / "fast")
        TransformersConverter(str(Path(folder) / "marian")).convert(fast)
        loaded = {kind: ctranslate2.Translator(fast, compute_type=kind, **threads) for kind in NUMBERS}
    pieces = [words.convert_ids_to_tokens(row) for row in ids.tolist()]
    options = {"min_decoding_length": tokens, "max_decoding_length": tokens}
    options |= {"beam_size": beams, "max_batch_size": len(pieces)}
    work = {kind: partial(fast.translate_batch, pieces, **options) for kind, fast in loaded.items()}
    expected = model.generate(ids, num_beams=beams, do_sample=False, max_new_tokens=tokens)[:, -tokens:].tolist()
    written = [words.convert_tokens_to_ids(row.hypotheses[0]) for row in work["float32"]()]
    if beams == 1 and written != expected:  # with more, it numbers and ends hypotheses in its own way
        raise SystemExit("CTranslate2: other tokens")
    return work


def without_copies(search: Callable[[], object]) -> object:
    """Search on the weights as they lie in the model."""
    usual, decoding_products.MOST = decoding_products.MOST, 0
    try:
        return search()
    finally:
        decoding_products.MOST = usual


def problem(variant: str, size: str, rows: int, place: Where) -> tuple:
    """Return a model, and what it reads."""
    model = build(variant, size)
    return moved((model, torch.randint(7, model.config.vocab_size, (rows, SOURCE))), place)


def ways(model, ids: torch.Tensor, beams: int, tokens: int) -> dict[str, Callable[[], object]]:
    """Return the ways to write in torch, by name: each gives a tensor of the same tokens."""
    peer = moved(endless(to_transformers(model)), (ids.device.type, model.dtype))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "num_beams": beams, "do_sample": False}
    inputs |= {"max_new_tokens": tokens}
    return {
        "search": partial(model.generate, **inputs, custom_generate=search),
        "uncopied": partial(without_copies, partial(model.generate, **inputs, custom_generate=search)),
        "generate": partial(model.generate, **inputs),
        "peer": partial(peer.generate, **inputs),
    }


def prepared(name: str, what: tuple, beams: int, tokens: int) -> Callable[[], object]:
    """Return one way to write."""
    return ways(*problem(*what), beams, tokens)[name]


def measure(what: tuple, beams: int, tokens: int, rounds: int, best: float) -> list[str]:
    """Return the figures of a row, once the same tokens came out of all."""
    variant, size, _, place = what
    model, ids = problem(*what)
    work = ways(model, ids, beams, tokens)
    written = [run()[:, -tokens:] for run in work.values()]
    for other in written[1:]:
        same = torch.equal(written[0], other) if place[1] == torch.float32 else written[0].shape == other.shape
        if not same:
            raise SystemExit(f"{what}, {beams} beams: other tokens")
    if variant == "encoder-decoder" and size != "smoke" and place == CPU and find_spec("ctranslate2"):
        work |= ctranslate2_of(model, ids, beams, tokens)
    seconds = in_turns(work, rounds)
    ratios = [ratio(seconds[way], seconds["search"]) for way in ("uncopied", "peer", "generate")]
    ratios.append(ratio(seconds["peer"], seconds["generate"]))
    ratios += [ratio(seconds[kind], seconds["search"]) if kind in seconds else "-" for kind in NUMBERS]
    memory = [f"{raised(prepared, way, what, beams, tokens, smoke=size == 'smoke'):.0f}" for way in ("search", "peer")]
    return [
        milliseconds(seconds["search"]),
        *ratios,
        share(products(work["search"]), seconds["search"], best),
        *memory,
    ]


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 9, moves=True)
    arguments.add_argument("--tokens", type=int, default=32, help="written by each row")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    size, rounds, tokens = ("smoke", 1, 4) if options.smoke else ("small", options.rounds, options.tokens)
    place, best = where(options), peak(where(options), rounds)
    named = f"{machine(options.threads, place)}, transformers {transformers.__version__}"
    print(f"{named}; {stated(best)}; {size}: {SIZES[size]}\n")
    columns = "| model | search | rows x tokens | ms, ours | without copies / ours | their class's `generate` / ours | our class's `generate` / ours "
    columns += (
        "| their class's / our class's `generate` | CTranslate2, fp32 / ours | int8 / ours | share of the peak, ours "
    )
    print(f"{columns}| MiB, ours | MiB, theirs |\n|{'---|' * 13}")
    for variant in CLASSES:
        for name, rows, beams, times in CASES:
            figures = measure((variant, size, rows, place), beams, times * tokens, rounds, best)
            print(f"| {variant} | {name} | {rows} x {times * tokens} | {' | '.join(figures)} |", flush=True)


if __name__ == "__main__":
    main()
