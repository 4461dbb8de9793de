"""What the trainer costs around a step: `python -m train fit` beside a bare loop over the same batches.

The dates recipe, without evaluation and saving on the way. CPU milliseconds a step: of the trainer the difference between a long run
and a short one, so that start and end of a run do not count; of the bare loop forward, backward, clipping and AdamW.

    python -m benchmarks.trainer                       about four minutes
"""

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.turns import machine, parser
from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from train.data import batching, collate, encoding
from train.data.splits import load_splits
from train.model import build
from train.settings.reading import load_recipe

RECIPE = "train/recipes/dates-en-ko.yaml"
QUIET = "--loop.eval_every 100000 --loop.save_every 100000 --loop.tracker none --optim.warmup_steps null".split()


def recipe_batches(recipe, count: int) -> tuple[VanillaConfig, list[collate.Batch]]:
    """Return the config of a recipe's model and the first `count` batches of its first epoch."""
    splits = load_splits(recipe)
    with tempfile.TemporaryDirectory() as folder:
        build.make_tokenizer(recipe, splits["train"], Path(folder) / "tokenizer")
        tokenizer = build.load_tokenizer(Path(folder) / "tokenizer")
    rows = encoding.encode(splits["train"], tokenizer, recipe)
    plan = batching.plan_epoch(rows.lengths(0), recipe.batch.max_tokens, recipe.batch.max_rows, recipe.loop.seed, 0)
    collator = collate.Collator(recipe.task, tokenizer, recipe)
    config = build.make_model(recipe, tokenizer).config
    return config, [collator([rows.row(0, i) for i in batch], 0) for batch in plan[:count]]


def bare(steps: int) -> float:
    """Return the CPU seconds of a step of a plain loop."""
    recipe = load_recipe([RECIPE])
    torch.set_float32_matmul_precision(recipe.loop.matmul_precision)
    config, batches = recipe_batches(recipe, steps)
    model = VanillaForConditionalGeneration(config).train()
    model.set_attn_implementation(recipe.model.attn_implementation)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    start = time.process_time()
    for batch in batches:
        model(**batch.inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - start) / len(batches)


def fit(steps: int) -> float:
    """Return the CPU seconds of a whole run of so many steps."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        run_dir = str(Path(folder) / "run")
        command = [sys.executable, "-m", "train", "fit", RECIPE, *QUIET]
        command += ["--loop.max_steps", str(steps), "--run_dir", run_dir]
        subprocess.run(command, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Print the table."""
    options = parser(__doc__, 3).parse_args()
    torch.set_num_threads(options.threads)
    rounds, (short, long) = (1, (2, 4)) if options.smoke else (options.rounds, (50, 250))
    steps = [(bare(long), (fit(long) - fit(short)) / (long - short)) for _ in range(rounds)]
    print(f"{machine(options.threads)}; {RECIPE}\n")
    print("| ms, a bare step | ms, a step of fit | fit / bare |\n|---|---|---|")
    plain, trainer = (1000 * statistics.median(values) for values in zip(*steps, strict=True))
    print(f"| {plain:.1f} | {trainer:.1f} | {statistics.median(b / a for a, b in steps):.2f} |")


if __name__ == "__main__":
    main()
