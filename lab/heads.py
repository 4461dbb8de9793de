"""Why there are several heads: one average cannot fetch two places, and what each head adds, costs, and is missed for.

Dimension letters: B batch, T length, D d_model, H heads, K head_dim.
"""

import copy
import time
from argparse import Namespace
from collections.abc import Callable
from statistics import mean, median

import torch
from matplotlib.figure import Figure
from torch import nn

from lab import date_pairs
from lab.outcome import Cell, Outcome, Table
from lab.tagging import Batch, accuracy, attention_of, by_seed, config, loss_of, rows, tagger
from lab.training import count, train
from modeling_vanilla import VanillaForConditionalGeneration, VanillaForTokenClassification
from modeling_vanilla.attention import MultiHeadAttention

TITLE = "one head, two, four ...: two places at once, the sum over heads, time, heads removed"
SECONDS = 100

HEADS = (1, 2, 4, 8, 16)
SYMBOLS, LENGTH = 6, 8
STEPS, DATE_STEPS = {True: 700, False: 2000}, {True: 250, False: 800}
"""Training steps with --quick and without; of the task of two places, and of the dates."""
DATES = 20_000
"""Pairs of dates to train on."""
PRUNED = 4
"""Heads of the model from which they are removed one at a time."""


def two_places(seed: int, heads: int, steps: int) -> tuple[VanillaForTokenClassification, Batch]:
    """Train one layer to name x_(t-1) and x_(n-1-t) at each place t at once; return it and a test."""
    sizes = dict(vocab_size=SYMBOLS, num_labels=SYMBOLS**2, d_model=32, d_ff=64)
    model = tagger(seed, num_heads=heads, **sizes)
    train(model, rows("two places", seed, 64, LENGTH, SYMBOLS), loss_of, steps, lr=3e-3)
    return model, next(rows("two places", 10_000 + seed, 500, LENGTH, SYMBOLS))


@torch.no_grad()
def halves(model: nn.Module, batch: Batch) -> tuple[float, float]:
    """Return the shares of places where x_(t-1) is right, and where x_(n-1-t) is."""
    answers = model(batch[0]).logits.argmax(-1)
    shares = [
        part(answers).eq(part(batch[1])).float().mean().item()
        for part in (lambda pair: pair // SYMBOLS, lambda pair: pair % SYMBOLS)
    ]
    return shares[0], shares[1]


@torch.no_grad()
def without_head(model: VanillaForTokenClassification, head: int) -> VanillaForTokenClassification:
    """Return a copy of a model of one layer whose head adds nothing: its rows of W^O are 0 (Michel et al. 2019)."""
    pruned = copy.deepcopy(model)
    attention = attention_of(pruned)
    width = attention.v_head_dim
    attention.out_proj.weight[:, head * width : (head + 1) * width] = 0
    return pruned


def missed(models: list[tuple[VanillaForTokenClassification, Batch]]) -> tuple[list[Table], list[tuple[float, float]]]:
    """Remove heads one at a time.

    Returns:
        A table of which half is lost with which head of the first seed; one over all seeds, where the heads are sorted,
        since head 0 of one seed is not that of another; and the numbers of the first: those of the whole model, then
        those without each head.
    """
    model, test = models[0]
    of_first = [halves(model, test), *(halves(without_head(model, head), test) for head in range(PRUNED))]
    names = ["none", *(f"head {head}" for head in range(PRUNED))]
    first = Table(
        f"{PRUNED} heads, the first seed, one removed at a time; chance is {1 / SYMBOLS:.2f}",
        ["removed", "x_(t-1) right", "x_(n-1-t) right"],
        [[name, *numbers] for name, numbers in zip(names, of_first)],
    )
    without = [sorted(accuracy(without_head(m, head), t) for head in range(PRUNED)) for m, t in models]
    ranks = ["most missed", *(f"number {rank}" for rank in range(2, PRUNED)), "least missed"]
    lines: list[list[Cell]] = [["none", [accuracy(*each) for each in models]]]
    lines += [[rank, list(seeds)] for rank, seeds in zip(ranks, zip(*without))]
    every = Table(f"{PRUNED} heads, one removed, all seeds", ["removed", "accuracy (both right)"], lines)
    return [first, every], of_first


def joined_and_summed(attention: MultiHeadAttention, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return Concat(head_1 ... head_h) W^O as the attention computes it, and the sum of head_i W_i^O; both (B, T, D)."""
    read: list[torch.Tensor] = []
    hook = attention.out_proj.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    joined = attention(states)[0]
    hook.remove()
    contexts = read[0].split(attention.v_head_dim, dim=-1)  # H of (B, T, K)
    matrices = attention.out_proj.weight.T.split(attention.v_head_dim)  # H of (K, D)
    return joined, sum(context @ matrix for context, matrix in zip(contexts, matrices)) + attention.out_proj.bias


def numbers_read(attention: MultiHeadAttention, states: torch.Tensor) -> list[int]:
    """Return for each head how many of the d_model numbers of a token can change its output."""
    read: list[torch.Tensor] = []
    hook = attention.out_proj.register_forward_pre_hook(lambda _, given: read.append(given[0]))
    states = states.clone().requires_grad_()
    attention(states)
    hook.remove()
    heads = read[0].split(attention.v_head_dim, dim=-1)
    gradients = [torch.autograd.grad(head.sum(), states, retain_graph=True)[0] for head in heads]
    return [int(gradient.abs().sum((0, 1)).gt(0).sum()) for gradient in gradients]


def of_base() -> tuple[float, int]:
    """Return of eight heads at d_model 512: |joined W^O - sum of head_i W_i^O|, and the fewest numbers that one reads."""
    torch.manual_seed(0)
    attention, states = MultiHeadAttention(config(d_model=512, num_heads=8), 0), torch.randn(2, 11, 512)
    joined, summed = joined_and_summed(attention, states)
    return (joined - summed).abs().max().item(), min(numbers_read(attention, states))


@torch.no_grad()
def times(heads: int, length: int = 512, width: int = 512, batch: int = 4) -> list[float]:
    """Return milliseconds on one core: the whole attention, its two products, its softmax."""
    attention = MultiHeadAttention(config(d_model=width, num_heads=heads), 0)
    states = torch.randn(batch, length, width)
    query = torch.randn(batch, heads, length, width // heads)
    scores = torch.randn(batch, heads, length, length)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = [
        _median(lambda: attention(states)),
        _median(lambda: (query @ query.transpose(2, 3)) @ query),
        _median(lambda: scores.softmax(-1)),
    ]
    torch.set_num_threads(threads)
    return [1000 * each for each in seconds]


def _median(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the median of the seconds of this thread alone, so that other work on the machine does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.thread_time()
        work()
        seconds.append(time.thread_time() - start)
    return median(seconds)


def translated(pairs: date_pairs.DatePairs, seed: int, heads: int, steps: int) -> tuple[float, float]:
    """Train a small translator of dates (Table 3, rows (A)); return its loss and exact match on days not seen."""
    torch.manual_seed(seed)
    special = dict(pad_token_id=date_pairs.PAD, decoder_start_token_id=date_pairs.START, eos_token_id=date_pairs.END)
    sizes = dict(vocab_size=pairs.vocab_size, num_heads=heads, num_layers=2, attn_implementation="sdpa")
    model = VanillaForConditionalGeneration(config("encoder-decoder", **(sizes | special)))
    train(model, pairs.batches(seed, 32), date_pairs.loss_of, steps)
    return date_pairs.measured(model, pairs.test())


def run(options: Namespace) -> Outcome:
    """Train by number of heads, remove heads, check the sum, take the time."""
    seeds, steps = range(options.seeds), STEPS[options.quick]
    models = {heads: [two_places(seed, heads, steps) for seed in seeds] for heads in HEADS}
    both = {heads: [accuracy(*each) for each in models[heads]] for heads in HEADS}
    sizes = {heads: count(models[heads][0][0]) for heads in HEADS}
    tables_of_missed, of_first = missed(models[PRUNED])
    date_steps = DATE_STEPS[options.quick]
    pairs = [date_pairs.DatePairs(seed, DATES) for seed in seeds]
    dates = {heads: [translated(pairs[seed], seed, heads, date_steps) for seed in seeds] for heads in HEADS}
    taken = {heads: times(heads) for heads in HEADS}
    gap, read = of_base()
    tables = [
        Table(
            f"x_(t-1) and x_(n-1-t) named at once, one layer, d_model 32, {steps} steps",
            ["heads", "weights", "accuracy"],
            [[heads, sizes[heads], both[heads]] for heads in HEADS],
        ),
        *tables_of_missed,
        Table(
            f"Dates, English to Korean (rows (A) of Table 3 in small), d_model 64, {date_steps} steps",
            ["heads", "d_k", "nats a letter", "exact match"],
            [[heads, 64 // heads, *by_seed(dates[heads])] for heads in HEADS],
        ),
        Table(
            "Milliseconds on one core, 4 rows of 512 tokens, d_model 512",
            ["heads", "attention", "two products", "softmax"],
            [[heads, *taken[heads]] for heads in HEADS],
        ),
        Table(
            "Eight heads, d_model 512",
            ["joined W^O - sum of head_i W_i^O", "numbers of a token that each head reads"],
            [[gap, read]],
        ),
    ]
    return Outcome(tables, conclusion(both, of_first, dates, taken, gap, read), picture(both, of_first, dates, taken))


def conclusion(both: dict, of_first: list, dates: dict, taken: dict, gap: float, read: int) -> str:
    """Say what a second head brings and what many cost."""
    mean_of = {heads: mean(both[heads]) for heads in HEADS}
    best = max(mean_of, key=lambda heads: mean_of[heads])
    lowest, highest = ([pick(column) for column in zip(*of_first[1:])] for pick in (min, max))
    losses = {heads: mean(seed[0] for seed in dates[heads]) for heads in HEADS}
    return (
        f"Two places at once: one head {mean_of[1]:.2f}, two {mean_of[2]:.2f}, four {mean_of[4]:.2f}, sixteen "
        f"{mean_of[16]:.2f}, at equal weights; {best} do best. Without one of {PRUNED} "
        f"heads, by the head, x_(t-1) is right in {lowest[0]:.2f} to {highest[0]:.2f} of places and x_(n-1-t) in "
        f"{lowest[1]:.2f} to {highest[1]:.2f} (first seed). On dates the loss is lowest with "
        f"{min(losses, key=lambda heads: losses[heads])} heads. Heads joined times W^O is the sum of head_i W_i^O to "
        f"{gap:.0e}, and each head reads {read} of the 512 numbers. From one head to sixteen the two products take "
        f"{taken[16][1] / taken[1][1]:.1f} times as long and the softmax {taken[16][2] / taken[1][2]:.0f} times, one map for "
        f"each head: {taken[1][0]:.0f} ms become {taken[16][0]:.0f}."
    )


def picture(both: dict, of_first: list, dates: dict, taken: dict) -> Figure:
    """Draw accuracy by heads, heads removed, dates, and time."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    places, removed, loss, clock = figure.subplots(2, 2).flat
    names, at = [str(heads) for heads in HEADS], range(len(HEADS))
    places.bar_label(places.bar(names, [mean(both[heads]) for heads in HEADS]), fmt="%.2f", fontsize=8)
    places.set(title="Two places at once", xlabel="heads", ylabel="accuracy", ylim=(0, 1.1))
    for half, label in enumerate(("x_(t-1)", "x_(n-1-t)")):
        heights = [numbers[half] for numbers in of_first]
        removed.bar([i + half * 0.4 - 0.2 for i in range(PRUNED + 1)], heights, 0.38, label=label)
    ticks = ["none", *map(str, range(PRUNED))]
    removed.set(title=f"{PRUNED} heads (first seed), one removed", xlabel="head removed", ylabel="accuracy")
    removed.set(xticks=range(PRUNED + 1), xticklabels=ticks, ylim=(0, 1.4))
    removed.axhline(1 / SYMBOLS, color="black", linewidth=0.8, linestyle="--", label="chance")
    bars = loss.bar(names, [mean(seed[0] for seed in dates[heads]) for heads in HEADS])
    loss.bar_label(bars, fmt="%.2f", fontsize=8)
    loss.set(title="Dates: loss on days not seen", xlabel="heads", ylabel="nats a letter")
    for i, label in enumerate(("attention", "two products", "softmax")):
        clock.plot(at, [taken[heads][i] for heads in HEADS], marker="o", label=label)
    clock.set(title="Time, 4 rows of 512 tokens", xlabel="heads", ylabel="ms", xticks=at, xticklabels=names)
    clock.set(ylim=(0, None))
    for axes in (removed, clock):
        axes.legend(frameon=False, fontsize=8, ncols=3 if axes is removed else 1)
    return figure
