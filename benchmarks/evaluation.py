"""A thousand sentences of Multi30k translated with 5 beams and scored: `evaluate` with our search, and with transformers'.

Both are the evaluation of `train` with its batches and its BLEU; only the search differs, and their texts are compared first. A model that
the recipe has trained, in the folder of its runs or `--model`, or random weights of its size: their sentences find no end, so each batch
writes as many tokens as its longest source has, and no source leaves a batch early. Products in full fp32, CPU seconds, in turns.

    python -m benchmarks.evaluation                   about four minutes; random weights before the recipe has been trained
    python -m benchmarks.evaluation --recipe train/recipes/multi30k-en-de-cpu.yaml --model FOLDER
"""

import gzip
import statistics
import tempfile
from functools import partial
from pathlib import Path

import accelerate
import torch
import transformers

from benchmarks.peak import peak, products, share, stated
from benchmarks.turns import CPU, in_turns, machine, parser, ratio
from modeling_vanilla import VanillaForConditionalGeneration
from modeling_vanilla.decoding_limits import hand_over
from train.data.dates import dates
from train.data.splits import load_splits
from train.errors import UserError
from train.measure import evaluate as measuring
from train.measure import scoring
from train.model import build
from train.settings.reading import load_recipe

RECIPE = "train/recipes/multi30k-de-en.yaml"
SMOKE = {"model.d_model": 24, "model.d_ff": 28, "model.num_heads": 4, "model.num_layers": 1, "tokenizer.kind": "char"}
FILES = ("train", "val", "test_2016_flickr")
DIFFERENT = 0.01
"""Share of the texts that may differ: where two hypotheses are nearer than rounding, the searches may choose differently."""


def transformers_search(model, input_ids, stopping_criteria, length_penalty_form, is_interrupted, **kwargs):
    """Search as the evaluation asks `decoding.search` to, by transformers' own."""
    return hand_over(model, input_ids, stopping_criteria, None, kwargs)


def recipe_of(path: str, overrides: dict):
    """Read a recipe with other values."""
    return load_recipe([path, *(f"--{name}={value}" for name, value in overrides.items())])


def splits_of(recipe) -> dict:
    """Load the data of a recipe; where they are missing, end with what to do."""
    try:
        return load_splits(recipe)
    except UserError as error:
        raise SystemExit(f"{error}; here the option is --data FOLDER") from None


def small_data(folder: Path) -> None:
    """Write dates into files as those of Multi30k are called."""
    for name, rows in zip(FILES, dates(train=60, validation=5, test=7).values(), strict=True):
        for side, column in (("en", "source"), ("de", "target")):
            with gzip.open(folder / f"{name}.{side}.gz", "wt", encoding="utf-8") as file:
                file.write("".join(f"{text}\n" for text in rows[column]))


def prepare(options, folder: Path):
    """Return recipe, splits, tokenizer and model."""
    overrides = {"data.root": options.data, "loop.seed": 0}
    if options.smoke:
        small_data(folder)
        overrides |= SMOKE | {"data.root": folder}
    if options.model is None:
        overrides["eval.max_extra_tokens"] = 0
    recipe = recipe_of(options.recipe, overrides)
    splits = splits_of(recipe)
    if options.model is not None:
        model = VanillaForConditionalGeneration.from_pretrained(options.model)
        return recipe, splits, build.load_tokenizer(options.model), model
    build.make_tokenizer(recipe, splits["train"], folder / "tokenizer")
    tokenizer = build.load_tokenizer(folder / "tokenizer")
    torch.manual_seed(0)
    model = build.make_model(recipe, tokenizer)
    for weight in model.parameters():
        if weight.dim() > 1:  # far from uniform, so that no two hypotheses are alike
            torch.nn.init.normal_(weight, std=0.1)
    return recipe, splits, tokenizer, model


def evaluated(search, options, prepared, accelerator) -> measuring.Results:
    """Translate and score with one search."""
    recipe, splits, tokenizer, model = prepared
    usual, scoring.search = scoring.search, search
    try:
        return measuring.evaluate(
            model, tokenizer, splits, recipe, accelerator, "test", ["bleu"], limit=options.sentences
        )
    finally:
        scoring.search = usual


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 3)
    arguments.add_argument("--recipe", default=RECIPE, help="one of Multi30k's")
    arguments.add_argument("--data", type=Path, default=Path("data/multi30k"), help="the folder of Multi30k's files")
    arguments.add_argument(
        "--model", type=Path, help="what the recipe has trained; by default runs/RECIPE/final, if it is there"
    )
    arguments.add_argument("--sentences", type=int, default=1000)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    trained = Path("runs", Path(options.recipe).stem, "final")
    options.model = None if options.smoke else options.model or (trained if trained.exists() else None)
    accelerator = accelerate.Accelerator(cpu=True)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(options, Path(folder))
        searches = {"ours": scoring.search, "theirs": transformers_search}
        work = {name: partial(evaluated, one, options, prepared, accelerator) for name, one in searches.items()}
        results = {name: run() for name, run in work.items()}
        texts = [result.details["predictions"] for result in results.values()]
        different = sum(one != other for one, other in zip(*texts, strict=True))
        if different > DIFFERENT * len(texts[0]):
            raise SystemExit(f"{different} of {len(texts[0])} texts differ")
        best = peak(CPU, options.rounds)
        seconds = in_turns(work, 1 if options.smoke else options.rounds)
        reached = share(products(work["ours"]), seconds["ours"], best)
    weights = "random weights" if options.model is None else "trained weights"
    named = f"{machine(options.threads)}, transformers {transformers.__version__}; {stated(best)}"
    print(f"{named}; {options.recipe}, {weights}\n")
    print("| sentences | beams | s, our search | s, transformers' | theirs / ours | share of the peak, ours ", end="")
    print("| BLEU, ours | BLEU, theirs | texts that differ |\n|---|---|---|---|---|---|---|---|---|")
    times = " | ".join(f"{statistics.median(taken):.1f}" for taken in seconds.values())
    bleu = " | ".join(f"{result['bleu']:.2f}" for result in results.values())
    gain = ratio(seconds["theirs"], seconds["ours"])
    row = f"{len(texts[0])} | {prepared[0].eval.beams} | {times} | {gain} | {reached} | {bleu} | {different}"
    print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
