"""Why the scores are divided by sqrt(d_k), one head's and not d_model's (Vaswani et al. 2017, sec. 3.2.1, footnote 4).

Dimension letters: B batch, T queries, S keys, D d_model, H heads, K head_dim.
"""

import math
from argparse import Namespace
from statistics import mean

import torch
from matplotlib.figure import Figure

from lab.ablations import Additive, Unscaled, swapped
from lab.outcome import Outcome, Table
from lab.tagging import accuracy, by_seed, loss_of, rows, tagger
from lab.training import train
from modeling_vanilla.attention import MultiHeadAttention

TITLE = "the division by sqrt(d_k): scores, softmax and its gradient, trained with and without"
SECONDS = 80

WIDTHS = (4, 16, 64, 128, 256, 512, 1024)
KEYS, DRAWS = 32, 500
SCORES: dict[str, type[MultiHeadAttention]] = {
    "q.k / sqrt(d_k)": MultiHeadAttention,
    "q.k": Unscaled,
    "v.tanh(q + k)": Additive,
}
LENGTH = 12
STEPS = {True: 300, False: 400}
TRAINED = {True: (64, 256), False: (32, 64, 256)}
"""Training steps and widths d_k with --quick and without."""


def of_random(width: int, seed: int) -> dict[str, float]:
    """Compare one random query with 32 random keys, all numbers N(0, 1), 500 times.

    Returns:
        The standard deviation of q.k; and with and without the division the largest weight, and the size of the
        Jacobian of the softmax, |d weights / d scores| = |diag(w) - w w^T|.
    """
    draw = torch.Generator().manual_seed(seed)
    query = torch.randn(DRAWS, 1, width, generator=draw)  # (B, 1, K)
    key = torch.randn(DRAWS, KEYS, width, generator=draw)  # (B, S, K)
    scores = (query @ key.transpose(1, 2)).squeeze(1)  # (B, S)
    numbers = {"std": scores.std().item()}
    for name, factor in (("scaled", width**-0.5), ("unscaled", 1.0)):
        weights = (scores * factor).softmax(-1)
        jacobian = torch.diag_embed(weights) - weights.unsqueeze(2) * weights.unsqueeze(1)  # (B, S, S)
        numbers[f"largest {name}"] = weights.amax(-1).mean().item()
        numbers[f"gradient {name}"] = jacobian.flatten(1).norm(dim=1).mean().item()
    return numbers


def of_heads(heads: int, seed: int, width: int = 512) -> float:
    """Return the standard deviation of one head's q.k, of projections that keep the variance of states N(0, 1)."""
    draw = torch.Generator().manual_seed(seed)
    states = torch.randn(DRAWS, width, generator=draw)
    query, key = (states @ torch.randn(width, width, generator=draw) * width**-0.5 for _ in "qk")
    query, key = (x.unflatten(-1, (heads, -1)).transpose(0, 1) for x in (query, key))  # (H, T, K)
    scores = query @ key.transpose(1, 2)  # (H, T, S)
    return scores.std().item()


def of_training(width: int, name: str, seed: int, steps: int) -> list[float]:
    """Train two layers of one head, so that d_k = d_model, on reverse; return its last loss and its accuracy."""
    model = tagger(seed, d_model=width, d_ff=2 * width, num_heads=1, num_layers=2)
    swapped(model, MultiHeadAttention, SCORES[name], seed)
    losses = train(model, rows("reverse", seed, 32, LENGTH), loss_of, steps, lr=1e-3)
    test = next(rows("reverse", 10_000 + seed, 500, LENGTH))
    return [mean(losses[-20:]), accuracy(model, test)]


def run(options: Namespace) -> Outcome:
    """Measure random scores, then train."""
    seeds, steps = range(options.seeds), STEPS[options.quick]
    drawn = {width: [of_random(width, seed) for seed in seeds] for width in WIDTHS}
    names = ["std", "largest scaled", "largest unscaled", "gradient scaled", "gradient unscaled"]
    softmax = Table(
        f"One random query, {KEYS} random keys, no training",
        ["d_k", "sqrt(d_k)", "std of q.k", *names[1:]],
        [[k, math.sqrt(k), *([seed[name] for seed in drawn[k]] for name in names)] for k in WIDTHS],
    )
    heads = {h: [of_heads(h, seed) for seed in seeds] for h in (1, 8, 64)}
    of_one = Table(
        "d_model = 512: std of one head's q.k",
        ["heads", "d_k", "sqrt(d_k)", "std of q.k"],
        [[h, 512 // h, math.sqrt(512 // h), heads[h]] for h in heads],
    )
    widths = TRAINED[options.quick]
    trained = {(k, name): [of_training(k, name, seed, steps) for seed in seeds] for k in widths for name in SCORES}
    learned = Table(
        f"Trained: reverse, two layers of one head, {steps} steps; chance is a loss of {math.log(10):.2f}",
        ["d_k", "score", "loss", "accuracy"],
        [[k, name, *by_seed(numbers)] for (k, name), numbers in trained.items()],
    )
    return Outcome([softmax, of_one, learned], conclusion(drawn, heads, trained), picture(drawn, trained))


def conclusion(drawn: dict, heads: dict, trained: dict) -> str:
    """Say what the division keeps."""
    off = max(abs(seed["std"] / math.sqrt(k) - 1) for k, seeds in drawn.items() for seed in seeds)
    wide, small = max(k for k, _ in trained), min(k for k, _ in trained)
    loss = {key: mean(seed[0] for seed in seeds) for key, seeds in trained.items()}
    largest = [mean(seed[f"largest {name}"] for seed in drawn[WIDTHS[-1]]) for name in ("scaled", "unscaled")]
    compared = ", ".join(f"{loss[wide, name]:.2f} with {name} ({loss[small, name]:.2f})" for name in SCORES)
    return (
        f"The standard deviation of q.k is sqrt(d_k) within {off:.1%}; with 512 numbers in 8 heads it is "
        f"{mean(heads[8]):.1f}, one head's. At d_k {WIDTHS[-1]} one of {KEYS} keys takes {largest[1]:.2f} of the weight "
        f"without the division and {largest[0]:.2f} with it. Trained at d_k {wide} (in brackets at {small}) the loss is "
        f"{compared}."
    )


def picture(drawn: dict, trained: dict) -> Figure:
    """Draw the spread, the largest weight and the gradient by d_k, and the losses."""
    figure = Figure(figsize=(13, 3.4), layout="constrained")
    spread, largest, gradient, bars = figure.subplots(1, 4)
    spread.loglog(WIDTHS, [mean(seed["std"] for seed in drawn[k]) for k in WIDTHS], marker="o", label="std of q.k")
    spread.loglog(WIDTHS, [math.sqrt(k) for k in WIDTHS], "k--", linewidth=0.8, label="sqrt(d_k)")
    for axes, what in ((largest, "largest"), (gradient, "gradient")):
        for name, mark in (("scaled", "o"), ("unscaled", "s")):
            line = [mean(seed[f"{what} {name}"] for seed in drawn[k]) for k in WIDTHS]
            axes.semilogx(WIDTHS, line, marker=mark, label=name)
    spread.set(title="Spread of the scores", xlabel="d_k")
    largest.set(title="Largest of 32 weights", xlabel="d_k", ylim=(0, 1))
    gradient.set(title="|d weights / d scores|", xlabel="d_k", ylim=(0, None))
    widths = sorted({k for k, _ in trained})
    for at, name in enumerate(SCORES):
        losses = [mean(seed[0] for seed in trained[k, name]) for k in widths]
        drawn_bars = bars.bar([i + (at - 1) * 0.27 for i in range(len(widths))], losses, 0.25, label=name)
        bars.bar_label(drawn_bars, fmt="%.2f", fontsize=7)
    bars.axhline(math.log(10), color="black", linewidth=0.8, linestyle="--", label="ln 10: nothing learned")
    bars.set(title="Loss after training", xlabel="d_k", xticks=range(len(widths)), xticklabels=widths, ylim=(0, 3.9))
    for axes in (spread, largest, gradient, bars):
        axes.legend(frameon=False, fontsize=8)
    return figure
