"""What padding costs: training steps over the same sentences in plain batches, in batches of one length, packed, and beside MarianMT.

Real lengths: the first sentences of a recipe's training data. Plain batches hold shuffled rows, as many as a batch of one length holds on
average; batches of one length and packed rows are those of `train`, at most `batch.max_tokens` tokens a side. Forward, backward, clipping and
AdamW on the recipe's model and kernel, without label smoothing, which MarianMT with the same weights does not have; it takes the batches of
one length, on its default kernel and on the other; CPU seconds for all sentences, in turns. The share is that of the peak of a matrix product at
the recipe's precision, measured in the same run.

    python -m benchmarks.batches                                       Multi30k, about six minutes
    python -m benchmarks.batches --recipe train/recipes/dates-en-ko.yaml
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.evaluation import RECIPE, SMOKE, recipe_of, small_data, splits_of
from benchmarks.peak import peak, products, share, stated
from benchmarks.turns import CPU, in_turns, machine, parser, ratio
from modeling_vanilla.convert import to_transformers
from train.data import batching, encoding, training
from train.data.collate import Batch, Collator
from train.data.examples import Examples
from train.model import build

SENTENCES = 1500
SORTED = "of one length"


def plain(rows: int, batches: int) -> list[list[int]]:
    """Cut shuffled rows into so many batches, as a plain loader does."""
    order = np.random.default_rng(0).permutation(rows)
    return [part.tolist() for part in np.array_split(order, batches)]


def batches_of(recipe, split, tokenizer) -> dict[str, list[Batch]]:
    """Return the sentences of a split in batches, three ways."""
    collator = Collator(recipe.task, tokenizer, recipe)

    def collated(examples: Examples, plan: list[list[int]]) -> list[Batch]:
        return [collator([examples.row(0, number) for number in batch], 0) for batch in plan]

    def planned(examples: Examples) -> list[list[int]]:
        return batching.plan_epoch(examples.lengths(0), recipe.batch.max_tokens, recipe.batch.max_rows, 0, 0)

    single = encoding.encode(split, tokenizer, recipe)
    recipe.batch.packing = True
    packed = training.encode(split, tokenizer, recipe)
    recipe.batch.packing = False
    sorted_plan = planned(single)
    return {
        "shuffled": collated(single, plain(len(single), len(sorted_plan))),
        SORTED: collated(single, sorted_plan),
        "packed": collated(packed, planned(packed)),
    }


def epoch(model: torch.nn.Module, kernel: str, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that takes a step on each batch."""
    model.train().set_attn_implementation(kernel)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        for batch in batches:
            model(**batch.inputs).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return run


def prepare(options, folder: Path) -> tuple[Any, int, dict[str, list[Batch]], dict[str, tuple[torch.nn.Module, str]]]:
    """Return the recipe, the number of sentences, the batches of each way, and its model and kernel."""
    overrides = {"model.label_smoothing": 0.0} | ({} if options.data is None else {"data.root": options.data})
    if options.smoke:
        small_data(folder)
        overrides |= SMOKE | {"data.root": folder, "batch.max_tokens": 300}
    recipe = recipe_of(options.recipe, overrides)
    split = splits_of(recipe)["train"]
    build.make_tokenizer(recipe, split, folder / "tokenizer")
    tokenizer = build.load_tokenizer(folder / "tokenizer")
    split = split.select(range(min(options.sentences, len(split))))
    ways = batches_of(recipe, split, tokenizer)
    models = {name: (build.make_model(recipe, tokenizer), recipe.model.attn_implementation) for name in ways}
    for kernel in ("sdpa", "eager"):
        name = f"of one length, MarianMT on {kernel}"
        ways[name], models[name] = ways[SORTED], (to_transformers(models[SORTED][0]), kernel)
    return recipe, len(split), ways, models


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 3)
    arguments.add_argument("--recipe", default=RECIPE, help="of a translator")
    arguments.add_argument("--data", type=Path, help="the folder of its data; by default the recipe's")
    arguments.add_argument("--sentences", type=int, default=SENTENCES)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        recipe, sentences, ways, models = prepare(options, Path(folder))
    torch.set_float32_matmul_precision(recipe.loop.matmul_precision)
    best = peak(CPU, options.rounds)
    work = {name: epoch(*models[name], batches) for name, batches in ways.items()}
    seconds = in_turns(work, 1 if options.smoke else options.rounds)
    settings = f"{recipe.model.attn_implementation}, precision {recipe.loop.matmul_precision}"
    print(f"{machine(options.threads)}; {stated(best)}; {recipe.name}, {sentences} sentences, {settings}\n")
    print(
        "| batches | number | padding | real tokens/s, both sides | over shuffled | ours of one length / this ", end=""
    )
    print("| share of the peak |\n|---|---|---|---|---|---|---|")
    for name, batches in ways.items():
        real, padded = (sum(getattr(one, field) for one in batches) for field in ("real_tokens", "padded_tokens"))
        speed = f"{real / statistics.median(seconds[name]):,.0f}"
        gains = [ratio(seconds["shuffled"], seconds[name]), ratio(seconds[name], seconds[SORTED])]
        gains.append(share(products(work[name]), seconds[name], best))
        print(f"| {name} | {len(batches)} | {1 - real / padded:.1%} | {speed} | {' | '.join(gains)} |", flush=True)


if __name__ == "__main__":
    main()
