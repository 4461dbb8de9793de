"""What padding costs: training steps over the same sentences in plain batches, in batches of one length, and packed into rows.

Real lengths: the first sentences of a recipe's training data. Plain batches hold shuffled rows, as many as a batch of one length holds on
average; batches of one length and packed rows are those of `train`, at most `batch.max_tokens` tokens a side. Forward, backward, clipping and
AdamW on the recipe's model and kernel; CPU seconds for all sentences, in turns.

    python -m benchmarks.batches                                       Multi30k, about six minutes
    python -m benchmarks.batches --recipe train/recipes/dates-en-ko.yaml
"""

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.evaluation import RECIPE, SMOKE, recipe_of, small_data
from benchmarks.turns import in_turns, machine, parser, ratio
from modeling_vanilla import VanillaForConditionalGeneration
from train.data import batching, encoding, training
from train.data.collate import Batch, Collator
from train.data.examples import Examples
from train.data.splits import load_splits
from train.model import build

SENTENCES = 1500


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
        "of one length": collated(single, sorted_plan),
        "packed": collated(packed, planned(packed)),
    }


def epoch(config, kernel: str, batches: list[Batch]) -> Callable[[], None]:
    """Return a function that takes a step on each batch."""
    torch.manual_seed(0)
    model = VanillaForConditionalGeneration(config).train()
    model.set_attn_implementation(kernel)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        for batch in batches:
            model(**batch.inputs).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return run


def main() -> None:
    """Print the table."""
    arguments = parser(__doc__, 5)
    arguments.add_argument("--recipe", default=RECIPE, help="of a translator")
    arguments.add_argument("--data", type=Path, help="the folder of its data; by default the recipe's")
    arguments.add_argument("--sentences", type=int, default=SENTENCES)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        overrides = {} if options.data is None else {"data.root": options.data}
        if options.smoke:
            small_data(Path(folder))
            overrides = SMOKE | {"data.root": folder, "batch.max_tokens": 300}
        recipe = recipe_of(options.recipe, overrides)
        torch.set_float32_matmul_precision(recipe.loop.matmul_precision)
        split = load_splits(recipe)["train"]
        build.make_tokenizer(recipe, split, Path(folder) / "tokenizer")
        tokenizer = build.load_tokenizer(Path(folder) / "tokenizer")
        split = split.select(range(min(options.sentences, len(split))))
        ways = batches_of(recipe, split, tokenizer)
        config = build.make_model(recipe, tokenizer).config
    work = {name: epoch(config, recipe.model.attn_implementation, batches) for name, batches in ways.items()}
    seconds = in_turns(work, 1 if options.smoke else options.rounds)
    print(f"{machine(options.threads)}; {recipe.name}, {len(split)} sentences, {recipe.model.attn_implementation}\n")
    print("| batches | number | padding | real tokens/s, both sides | over shuffled |\n|---|---|---|---|---|")
    for name, batches in ways.items():
        real, padded = (sum(getattr(one, field) for one in batches) for field in ("real_tokens", "padded_tokens"))
        speed = f"{real / statistics.median(seconds[name]):,.0f}"
        gain = ratio(seconds["shuffled"], seconds[name])
        print(f"| {name} | {len(batches)} | {1 - real / padded:.1%} | {speed} | {gain} |", flush=True)


if __name__ == "__main__":
    main()
