"""What residual connections and normalisation are for, at 1 to 8 layers; and why post-norm needs a warm-up.

Dimension letters: B batch, T length, D d_model, L layers.
"""

from argparse import Namespace
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure

from lab.ablations import Bare, NoNorm, NoResidual, swapped
from lab.outcome import Outcome, Table
from lab.tagging import Batch, accuracy, by_seed, loss_of, rows, tagger
from lab.training import train
from modeling_vanilla import VanillaForTokenClassification
from modeling_vanilla.layers import EncoderLayer

TITLE = "residual connections and normalisation, on and off, by depth; pre-norm, post-norm and warm-up"
SECONDS = 100

AROUND: dict[str, type[EncoderLayer]] = {
    "both": EncoderLayer,
    "no residual": NoResidual,
    "no norm": NoNorm,
    "neither": Bare,
}
DEPTHS = (1, 2, 4, 8)
LENGTH = 8
STEPS, ORDER_STEPS = {True: 150, False: 300}, {True: 200, False: 300}
"""Training steps with --quick and without; by depth, and by the order of the norm."""
RATE = 1e-3
DEEP, DEEP_RATE, WARMUP = 12, 3e-3, 100
"""Layers, learning rate and warm-up (steps) of the comparison of pre-norm and post-norm."""


def build(around: str, layers: int, seed: int) -> VanillaForTokenClassification:
    """Return a model of so many layers with that much around its sub-layers."""
    return swapped(tagger(seed, num_layers=layers), EncoderLayer, AROUND[around], seed)


def at_the_start(model: VanillaForTokenClassification, batch: Batch) -> list[float]:
    """Return before any training: |gradient| of W1 in the first and in the last layer, cosine of two places' states."""
    loss_of(model, batch).backward()
    layers: Any = model.model.encoder.layers
    gradients = [layers[at].feed_forward.fc1.weight.grad.norm().item() for at in (0, -1)]
    model.zero_grad()
    return [*gradients, alike(states_by_layer(model, batch[0])[-1])]


@torch.no_grad()
def states_by_layer(model: VanillaForTokenClassification, digits: torch.Tensor) -> list[torch.Tensor]:
    """Return what each layer reads, and what the last one writes: L + 1 of (B, T, D)."""
    out = model.model.encoder(digits, output_hidden_states=True)
    return list(out.hidden_states)


def alike(states: torch.Tensor) -> float:
    """Return the mean cosine of two places, the first and the middle one, of (B, T, D)."""
    middle = states.shape[1] // 2
    return torch.cosine_similarity(states[:, 0], states[:, middle], dim=-1).mean().item()


def run(options: Namespace) -> Outcome:
    """Measure each stack before training and train it on copy, the easiest task; then pre-norm and post-norm."""
    seeds, steps = range(options.seeds), STEPS[options.quick]
    numbers: dict[tuple[int, str], list[list[float]]] = {}
    for layers in DEPTHS:
        for around in AROUND:
            for seed in seeds:
                model = build(around, layers, seed)
                start = at_the_start(model, next(rows("copy", 5000 + seed, 32, LENGTH)))
                losses = train(model, rows("copy", seed, 32, LENGTH), loss_of, steps, lr=RATE)
                right = accuracy(model, next(rows("copy", 10_000 + seed, 500, LENGTH)))
                numbers.setdefault((layers, around), []).append([*start, mean(losses[-20:]), right])
    spread = {around: spread_of(build(around, DEPTHS[-1], 0)) for around in AROUND}
    spread["both, pre-norm"] = spread_of(tagger(0, num_layers=DEPTHS[-1], norm_order="pre"))
    steps_of_orders = ORDER_STEPS[options.quick]
    orders = {
        (order, warmup): [of_order(order, warmup, seed, steps_of_orders) for seed in seeds]
        for order in ("post", "pre")
        for warmup in (1, WARMUP)
    }
    tables = [
        Table(
            f"Copy, {steps} steps; gradients and cosine are those before the first step",
            ["layers", "around", "|grad| first", "|grad| last", "cosine of two places", "loss", "accuracy"],
            [[layers, around, *by_seed(each)] for (layers, around), each in numbers.items()],
        ),
        Table(
            f"States by layer at {DEPTHS[-1]} layers before training: mean, standard deviation, cosine of two places",
            ["after layer", *spread],
            [
                [at, *(f"{m:+.2f} {s:.2g} {c:.3f}" for m, s, c in each)]
                for at, each in enumerate(zip(*spread.values()))
            ],
        ),
        Table(
            f"{DEEP} layers, copy, {steps_of_orders} steps, learning rate {DEEP_RATE:g}",
            ["norm", "warm-up", "|grad| first", "|grad| last", "loss", "accuracy"],
            [[f"{order}-norm", warmup, *by_seed(each)] for (order, warmup), each in orders.items()],
        ),
    ]
    return Outcome(tables, conclusion(numbers, orders), picture(numbers, spread, orders))


def spread_of(model: VanillaForTokenClassification) -> list[tuple[float, float, float]]:
    """Return mean, standard deviation and likeness of two places of the states, before each layer and at the end."""
    states = states_by_layer(model, next(rows("copy", 5000, 32, LENGTH))[0])
    return [(s.mean().item(), s.std().item(), alike(s)) for s in states]


def of_order(order: str, warmup: int, seed: int, steps: int) -> list[float]:
    """Train a deep stack; return its gradients at the start (first and last layer), last loss and accuracy."""
    model = tagger(seed, num_layers=DEEP, norm_order=order)
    gradients = at_the_start(model, next(rows("copy", 5000 + seed, 32, LENGTH)))[:2]
    losses = train(model, rows("copy", seed, 32, LENGTH), loss_of, steps, lr=DEEP_RATE, warmup=warmup)
    return [*gradients, mean(losses[-20:]), accuracy(model, next(rows("copy", 10_000 + seed, 500, LENGTH)))]


def conclusion(numbers: dict, orders: dict) -> str:
    """Say what is lost without each."""
    value = {key: [mean(column) for column in zip(*seeds)] for key, seeds in numbers.items()}
    ratio = value[4, "no norm"][0] / value[4, "both"][0]
    right = {key: mean(seed[3] for seed in seeds) for key, seeds in orders.items()}
    return (
        f"Without residual connections two places of a row have a cosine of {value[2, 'no residual'][2]:.3f} at 2 layers "
        f"and of {value[4, 'no residual'][2]:.4f} at 4 ({value[4, 'both'][2]:.3f} with them), and copy is learned to "
        f"{value[4, 'no residual'][4]:.2f} at 4 layers and {value[8, 'no residual'][4]:.2f} at 8, with both to "
        f"{value[8, 'both'][4]:.2f}. Without normalisation the first layer's gradient is {ratio:.0f} times as large at 4 "
        f"layers and {value[8, 'no norm'][0] / value[8, 'both'][0]:.0e} times at 8. At {DEEP} layers post-norm is right in "
        f"{right['post', 1]:.2f} without warm-up and {right['post', WARMUP]:.2f} with it, pre-norm in "
        f"{right['pre', 1]:.2f} and {right['pre', WARMUP]:.2f}."
    )


def picture(numbers: dict, spread: dict, orders: dict) -> Figure:
    """Draw accuracy and gradient by depth, the spread of the states, and pre-norm against post-norm."""
    figure = Figure(figsize=(11, 6.4), layout="constrained")
    learned, gradient, states, bars = figure.subplots(2, 2).flat
    for at, around in enumerate(AROUND):
        values = [[mean(column) for column in zip(*numbers[layers, around])] for layers in DEPTHS]
        places = [i + (at - 1.5) * 0.2 for i in range(len(DEPTHS))]
        learned.bar(places, [value[4] for value in values], 0.19, label=around)
        gradient.plot(DEPTHS, [value[0] for value in values], marker="o", label=around)
    for name, layers in spread.items():
        states.plot([s for _, s, _ in layers], marker="o", markersize=4, label=name)
    learned.set(title="Copy: accuracy", xlabel="layers", xticks=range(len(DEPTHS)), xticklabels=DEPTHS, ylim=(0, 1.35))
    gradient.set(title="|gradient| of the first layer at the start", xlabel="layers", yscale="log", xticks=DEPTHS)
    states.set(title=f"Standard deviation of the states, {DEPTHS[-1]} layers", xlabel="after layer", yscale="log")
    names = [f"{order}-norm\n{'no warm-up' if warmup == 1 else 'warm-up'}" for order, warmup in orders]
    drawn = bars.bar(names, [mean(seed[3] for seed in seeds) for seeds in orders.values()])
    bars.bar_label(drawn, fmt="%.2f", fontsize=8)
    bars.set(title=f"Copy at {DEEP} layers: accuracy", ylim=(0, 1.15))
    for axes in (learned, gradient, states):
        axes.legend(frameon=False, fontsize=8, ncols=2)
    return figure
