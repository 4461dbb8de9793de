"""Training speed of a translation recipe beside Hugging Face's MarianMT, in one process.

Both models get the same dimensions, batches, optimiser, dropout, precision and (no) label smoothing, and take turns step
by step, so that a change in the machine's speed hits both. Reported are medians of real target tokens per second (padding
not counted) and their ratio.

    python -m benchmarks.train_step train/recipes/multi30k-en-de-cpu.yaml --data.root data/multi30k
"""

import argparse
import platform
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import MarianConfig, MarianMTModel

from modeling_vanilla import VanillaConfig, VanillaForConditionalGeneration
from train.data import batching, collate, encoding
from train.data.splits import load_splits
from train.model import build
from train.settings.reading import load_recipe


def parse() -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what is not known here is an override of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--steps", type=int, default=30, help="timed steps of each model")
    parser.add_argument("--warmup", type=int, default=5, help="steps before them")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_known_args()


def recipe_batches(recipe, count: int) -> tuple[VanillaConfig, list[collate.Batch]]:
    """Return the recipe's model config and the first `count` batches of its first epoch."""
    splits = load_splits(recipe)
    with tempfile.TemporaryDirectory() as folder:
        build.make_tokenizer(recipe, splits["train"], Path(folder) / "tokenizer")
        tokenizer = build.load_tokenizer(Path(folder) / "tokenizer")
    rows = encoding.encode(splits["train"], tokenizer, recipe)
    plan = batching.plan_epoch(rows.lengths(0), recipe.batch.max_tokens, recipe.batch.max_rows, recipe.loop.seed, 0)
    collator = collate.Collator(recipe.task, tokenizer, recipe)
    config = build.make_model(recipe, tokenizer).config
    return config, [collator([rows.row(0, i) for i in batch], 0) for batch in plan[:count]]


def marian(config: VanillaConfig, attention: str) -> MarianMTModel:
    """Build MarianMT with the numbers of a Vanilla config."""
    peer = MarianConfig(
        vocab_size=config.vocab_size,
        d_model=config.d_model,
        encoder_layers=config.num_layers,
        decoder_layers=config.num_decoder_layers,
        encoder_attention_heads=config.num_heads,
        decoder_attention_heads=config.num_heads,
        encoder_ffn_dim=config.d_ff,
        decoder_ffn_dim=config.d_ff,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
        activation_function=config.activation,
        max_position_embeddings=config.max_position_embeddings,
        scale_embedding=config.scale_embeddings,
        pad_token_id=config.pad_token_id,
        eos_token_id=config.eos_token_id,
        forced_eos_token_id=config.eos_token_id,
        decoder_start_token_id=config.decoder_start_token_id,
    )
    model = MarianMTModel(peer)
    model.set_attn_implementation(attention)
    return model


def timed_step(model, optimizer, batch: collate.Batch) -> float:
    """Take one training step and return its seconds."""
    started = time.perf_counter()
    model(**batch.inputs).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - started


def main() -> None:
    """Time the models in turn and print a Markdown table."""
    args, overrides = parse()
    torch.set_num_threads(args.threads)
    recipe = load_recipe([args.recipe, *overrides, "--model.label_smoothing", "0"])
    torch.set_float32_matmul_precision(recipe.loop.matmul_precision)
    torch.manual_seed(recipe.loop.seed)
    config, batches = recipe_batches(recipe, args.steps + args.warmup)
    ours = VanillaForConditionalGeneration(config)
    ours.set_attn_implementation(recipe.model.attn_implementation)
    models = {f"modeling_vanilla ({recipe.model.attn_implementation})": ours}
    models |= {f"MarianMT ({kernel})": marian(config, kernel) for kernel in ("sdpa", "eager")}
    optimizers = {name: torch.optim.AdamW(m.parameters(), lr=1e-4, fused=True) for name, m in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for number, batch in enumerate(batches):
        names = list(models)
        for turn in range(len(names)):
            name = names[(number + turn) % len(names)]  # who goes first finds other things in the caches
            taken = timed_step(models[name].train(), optimizers[name], batch)
            if number >= args.warmup:
                seconds[name].append(taken / batch.targets)
    sizes = {name: sum(p.numel() for p in m.parameters()) for name, m in models.items()}
    print(f"{platform.machine()}, {args.threads} threads, torch {torch.__version__}, ", end="")
    print(f"fp32 matmul precision '{recipe.loop.matmul_precision}', ", end="")
    print(f"{args.steps} batches of at most {recipe.batch.max_tokens} tokens, dropout {config.dropout}\n")
    print("| model | parameters | real target tokens/s | ours / this |\n|---|---|---|---|")
    first = next(iter(seconds.values()))
    for name, values in seconds.items():
        ratio = statistics.median(b / a for a, b in zip(first, values, strict=True))
        print(f"| {name} | {sizes[name]:,} | {1 / statistics.median(values):,.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
