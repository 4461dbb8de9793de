"""What the feed-forward network is for: taken away, without its ReLU, its weights given to attention; and what it costs.

Dimension letters: B batch, T length, D d_model, F d_ff.
"""

from argparse import Namespace
from statistics import mean

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lab.ablations import LinearFeedForward, NoFeedForward, swapped
from lab.outcome import Outcome, Table
from lab.tagging import accuracy, by_seed, config, loss_of, matched, rows, tagger
from lab.training import count, train
from modeling_vanilla.layers import EncoderLayer, FeedForward

TITLE = "the feed-forward network: taken away, without its ReLU, its weights given to attention; its share of the work"
SECONDS = 60

RUNGS = ("as it is", "taken away", "without its ReLU", "weights given to attention")
ASKED = ("copy", "sum")
LENGTH, HEADS = 6, 2
STEPS = {True: 1200, False: 3000}
"""Training steps with --quick and without; copy takes a quarter of them."""
NS = (50, 128, 512, 2048, 8192)
PARTS = ("projections", "products of attention", "feed-forward")


def build(rung: str, seed: int) -> nn.Module:
    """Return a model of one layer with the feed-forward network of that rung."""
    full = tagger(seed, num_heads=HEADS)
    if rung == "taken away":
        return swapped(full, FeedForward, NoFeedForward)
    if rung == "without its ReLU":
        return swapped(full, FeedForward, LinearFeedForward)
    if rung == "weights given to attention":
        # Wider heads, until the number of weights is that of the whole model.
        return matched(
            lambda width: swapped(tagger(seed, num_heads=HEADS, head_dim=width), FeedForward, NoFeedForward),
            count(full),
        )
    return full


def of_training(rung: str, task: str, seed: int, steps: int) -> list[float]:
    """Train a model; return its last loss and its accuracy."""
    model = build(rung, seed)
    losses = train(model, rows(task, seed, 64, LENGTH), loss_of, steps, lr=3e-3)
    return [mean(losses[-20:]), accuracy(model, next(rows(task, 10_000 + seed, 500, LENGTH)))]


@torch.no_grad()
def alone_and_among(others: int, seed: int) -> tuple[float, float]:
    """Send one token alone, and among others, through a layer of the base model.

    Returns:
        The largest change of its numbers, for the feed-forward network and for attention.
    """
    torch.manual_seed(seed)
    layer = EncoderLayer(config(d_model=512, d_ff=2048, num_heads=8), 0)
    states = torch.randn(1, 1 + others, 512)
    changes = [
        (part(states)[:, 0] - part(states[:, :1])[:, 0]).abs().max().item()
        for part in (layer.feed_forward, lambda x: layer.self_attn(x)[0])
    ]
    return changes[0], changes[1]


def shares_by_formula(length: int, width: int = 512, inner: int = 2048) -> dict[str, float]:
    """Return the share of each part of an encoder layer in its operations, 2 for each multiply-add.

    Projections 2 n 4 d^2, the two products 2 n 2 n d, feed-forward 2 n 2 d d_ff (Vaswani et al. 2017, table 1).
    """
    work = dict(zip(PARTS, (8 * length * width**2, 4 * length**2 * width, 4 * length * width * inner)))
    return {part: operations / sum(work.values()) for part, operations in work.items()}


def shares_counted(length: int, width: int = 512, inner: int = 2048) -> dict[str, float]:
    """Return the same, counted by torch while a layer runs on eager: its counter does not see the CPU's fused kernel."""
    with torch.device("meta"):  # shapes alone are enough to count
        layer = EncoderLayer(config(d_model=width, d_ff=inner, num_heads=8), 0)
        states = torch.empty(1, length, width)
    with FlopCounterMode(display=False) as counter:
        layer(states)
    work = {name: sum(each.values()) for name, each in counter.get_flop_counts().items()}
    attention = work["EncoderLayer.self_attn"]
    projections = sum(work[f"EncoderLayer.self_attn.{name}_proj"] for name in ("q", "k", "v", "out"))
    parts = (projections, attention - projections, work["EncoderLayer.feed_forward"])
    return {part: operations / work["Global"] for part, operations in zip(PARTS, parts)}


def run(options: Namespace) -> Outcome:
    """Train each rung on each task, and count."""
    seeds, steps = range(options.seeds), STEPS[options.quick]
    trained = {
        (rung, task): [of_training(rung, task, seed, steps if task == "sum" else steps // 4) for seed in seeds]
        for task in ASKED
        for rung in RUNGS
    }
    sizes = {rung: count(build(rung, 0)) for rung in RUNGS}
    learned = Table(
        f"copy ({steps // 4} steps), and the sum modulo 10 of x_(t-1) and x_(n-1-t) ({steps} steps); chance is 0.1",
        ["feed-forward network", "task", "weights", "loss", "accuracy"],
        [[rung, task, sizes[rung], *by_seed(numbers)] for (rung, task), numbers in trained.items()],
    )
    among = {others: [alone_and_among(others, seed) for seed in seeds] for others in (9, 19)}
    places = Table(
        "One token alone, and the same token among others: largest change of its numbers",
        ["tokens", "through the feed-forward network", "through attention"],
        [[1 + others, *by_seed(numbers)] for others, numbers in among.items()],
    )
    formula = {n: shares_by_formula(n) for n in NS}
    shares = Table(
        "Share of an encoder layer's operations, d_model 512, d_ff 2,048: formula (counted by torch)",
        ["n", *PARTS],
        [[n, *(f"{formula[n][part]:.1%} ({shares_counted(n)[part]:.1%})" for part in PARTS)] for n in NS],
    )
    return Outcome([learned, places, shares], conclusion(trained, among, formula), picture(trained, formula))


def conclusion(trained: dict, among: dict, formula: dict) -> str:
    """Say what the network can do that attention cannot, and what it costs."""
    right = {key: mean(seed[1] for seed in seeds) for key, seeds in trained.items()}
    copied = [right[rung, "copy"] for rung in RUNGS]
    summed = ", ".join(f"{rung} {right[rung, 'sum']:.2f}" for rung in RUNGS)
    change = [max(seed[at] for seeds in among.values() for seed in seeds) for at in (0, 1)]
    return (
        f"Accuracy on copy is {min(copied):.2f} to {max(copied):.2f} with and without; on the sum of two attended digits: {summed}. A token goes through the network "
        f"to the same numbers alone and among 20 (to {change[0]:.0e}; attention changes them by {change[1]:.1f}). At 50 "
        f"tokens it is {formula[50]['feed-forward']:.0%} of a layer's work and the two products of attention "
        f"{formula[50]['products of attention']:.1%}; at 2,048 the products are "
        f"{formula[2048]['products of attention']:.0%}."
    )


def picture(trained: dict, formula: dict) -> Figure:
    """Draw the accuracies, and the shares by n."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for at, task in enumerate(ASKED):
        heights = [mean(seed[1] for seed in trained[rung, task]) for rung in RUNGS]
        bars = left.bar([i + at * 0.4 - 0.2 for i in range(len(RUNGS))], heights, 0.38, label=task)
        left.bar_label(bars, fmt="%.2f", fontsize=8)
    ticks = [rung.replace(" ", "\n", 1).replace("given to", "given\nto") for rung in RUNGS]
    left.set(
        title="Accuracy by what is left of the network", xticks=range(len(RUNGS)), xticklabels=ticks, ylim=(0, 1.3)
    )
    left.legend(frameon=False, ncols=2)
    ground = [0.0] * len(NS)
    for part in PARTS:
        heights = [formula[n][part] for n in NS]
        right.bar([f"{n:,}" for n in NS], heights, bottom=ground, label=part)
        ground = [low + height for low, height in zip(ground, heights)]
    right.set(title="Share of a layer's operations (base)", xlabel="tokens n", ylim=(0, 1.25))
    right.legend(frameon=False, ncols=3, fontsize=8, loc="upper center")
    return figure
