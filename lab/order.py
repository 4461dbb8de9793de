"""What positions are for: order is nothing to attention (Vaswani et al. 2017, sec. 3.5), unless a mask tells of it.

Dimension letters: B batch, T length, D width, P positions.
"""

import argparse
import sys
from collections.abc import Iterator
from statistics import mean
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.nn import functional as F

from lab.ablations import without_positions
from lab.made import FIRST
from lab.outcome import Outcome, Table
from lab.training import count, train
from modeling_vanilla import VanillaConfig, VanillaForTokenClassification, VanillaModel
from modeling_vanilla.embeddings import sinusoid_table

TITLE = "without positions a sentence is a bag of words, but not to a causal decoder; sinusoids rotate"
SECONDS = 60
TRAINED, LONGEST, SYMBOLS, ROWS = 20, 40, 20, 64
"""The longest sequence of the training and of the test, in tokens; how many tokens there are; rows of a batch."""
STEPS = (500, 2000)
"""Of training, with --quick and without."""
STACKS = {"encoder": "encoder (sees both sides)", "decoder": "decoder (sees what is before)"}
KINDS = ("sinusoidal", "learned", "none")
WIDTH = 64


def config_of(variant: str, positions: str = "sinusoidal", **changes) -> VanillaConfig:
    """Return the config of a small stack that names a token at each place."""
    sizes = {"vocab_size": FIRST + SYMBOLS, "d_model": WIDTH, "d_ff": 2 * WIDTH, "num_heads": 4, "num_layers": 2}
    plain = {"dropout": 0.0, "max_position_embeddings": LONGEST, "num_labels": FIRST + SYMBOLS}
    return VanillaConfig(variant=variant, positions=positions, **(sizes | plain | changes))


def tagger(variant: str, kind: str) -> VanillaForTokenClassification:
    """Build a stack that names a token at each place, with one kind of positions; "none" takes them away."""
    model = VanillaForTokenClassification(config_of(variant, "sinusoidal" if kind == "none" else kind))
    model.set_attn_implementation("eager")
    return without_positions(model) if kind == "none" else model


def rows(seed: int, shortest: int, longest: int) -> Iterator[torch.Tensor]:
    """Yield batches of random tokens (B, T) without end, all of a batch of one length."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        length = int(torch.randint(shortest, longest + 1, (1,), generator=draw))
        yield torch.randint(FIRST, FIRST + SYMBOLS, (ROWS, length), generator=draw)


def loss_of(model, tokens: torch.Tensor) -> torch.Tensor:
    """Return the loss in nats of naming, at each place but the first, the token before it."""
    logits = model(tokens, use_cache=False).logits if model.config.is_decoder else model(tokens).logits
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), tokens[:, :-1].flatten())


@torch.no_grad()
def by_place(model, tokens: torch.Tensor) -> list[float]:
    """Return the share of right answers at each place from the second on."""
    return model(tokens).logits[:, 1:].argmax(-1).eq(tokens[:, :-1]).float().mean(0).tolist()


def permuted(kind: str, seed: int) -> tuple[float, float]:
    """Return how far an encoder is from commuting with a permutation, and how far two places of one word lie apart.

    Both are largest differences between two numbers of the output, in double precision, of a model that is not trained.
    """
    torch.manual_seed(seed)
    model = VanillaModel(config_of("encoder"))
    if kind == "none":
        without_positions(model)
    model.double().eval()
    tokens, order = torch.randint(FIRST, FIRST + SYMBOLS, (1, 12)), torch.randperm(12)
    tokens[0, 9] = tokens[0, 2]
    with torch.no_grad():
        states, other = (model(ids).last_hidden_state for ids in (tokens, tokens[:, order]))
    moved = (other - states[:, order]).abs().max().item()
    return moved, (states[0, 9] - states[0, 2]).abs().max().item()


def rotation(distance: int, dim: int) -> torch.Tensor:
    """Return the matrix (D, D) that turns PE(p) into PE(p + distance), whatever p is: a rotation of each pair."""
    angle = distance * 10000.0 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
    pairs = torch.stack([torch.stack([angle.cos(), angle.sin()]), torch.stack([-angle.sin(), angle.cos()])])
    return torch.block_diag(*pairs.permute(2, 0, 1))


def rotated(positions: int = 500, dim: int = WIDTH, distances: tuple[int, ...] = (1, 10, 100)) -> float:
    """Return the largest difference between PE(p + k) and the rotation of PE(p), over all p and some k."""
    table = sinusoid_table(positions, dim).double()
    errors = [(table[k:] - table[:-k] @ rotation(k, dim).T).abs().max().item() for k in distances]
    return max(errors)


Places = dict[tuple[str, str], list[list[float]]]
"""(variant, kind of positions) -> for each seed the accuracy at each place from the second on."""


def run(options: argparse.Namespace) -> Outcome:
    """Measure what is exact, then train the six taggers."""
    steps = STEPS[0 if options.quick else 1]
    seeds = range(options.seeds)
    exact = {kind: [permuted(kind, seed) for seed in seeds] for kind in ("none", "sinusoidal")}
    draws = rows(10**6, LONGEST, LONGEST)
    test = torch.cat([next(draws) for _ in range(5)])
    places: Places = {(variant, kind): [] for variant in STACKS for kind in KINDS}
    for seed in seeds:
        for (variant, kind), accuracies in places.items():
            torch.manual_seed(seed)
            model = tagger(variant, kind)
            train(model, rows(seed, 2, TRAINED), loss_of, steps)
            accuracies.append(by_place(model, test))
            inside, beyond = (share[-1] for share in _shares(accuracies))
            print(f"seed {seed} {variant}, {kind}: {inside:.2f}, beyond {beyond:.2f}", file=sys.stderr, flush=True)
    note = f"PE(p + k) is PE(p) turned by a matrix that k alone decides: largest difference {rotated():.1e}."
    tables = [_exact_table(exact), _trained_table(steps, places)]
    return Outcome(tables, _conclusion(exact, places), _figure(steps, places), [note])


def _shares(accuracies: list[list[float]]) -> tuple[list[float], list[float]]:
    """Return the mean accuracy within the lengths of the training and beyond them, for each seed."""
    edge = TRAINED - 1
    return [mean(numbers[:edge]) for numbers in accuracies], [mean(numbers[edge:]) for numbers in accuracies]


def _exact_table(exact: dict[str, list[tuple[float, float]]]) -> Table:
    return Table(
        "An encoder, not trained: the largest difference",
        ["positions", "output of the permuted input and permuted output", "one word at two places"],
        [[kind, *map(list, zip(*pairs, strict=True))] for kind, pairs in exact.items()],
    )


def _trained_table(steps: int, places: Places) -> Table:
    return Table(
        f"Name the token before you: accuracy after {steps} steps on 2 to {TRAINED} tokens",
        ["stack", "positions", "weights", f"places 2 to {TRAINED}", f"places {TRAINED + 1} to {LONGEST} (beyond)"],
        [
            [STACKS[variant], kind, count(tagger(variant, kind)), *_shares(accuracies)]
            for (variant, kind), accuracies in places.items()
        ],
    )


def _conclusion(exact: dict[str, list[tuple[float, float]]], places: Places) -> str:
    """Say what the numbers say of order without positions, and of positions beyond the training."""
    moved = {kind: max(pair[0] for pair in pairs) for kind, pairs in exact.items()}
    inside, beyond = (
        {key: mean(_shares(accuracies)[side]) for key, accuracies in places.items()} for side in range(2)
    )
    best = max(beyond, key=beyond.__getitem__)
    return (
        f"Without positions a permutation of the input permutes the output to {moved['none']:.0e} (with sinusoids it "
        f"changes it by {moved['sinusoidal']:.1f}), and the encoder names the token before it in "
        f"{inside['encoder', 'none']:.2f} of the places, where counting the tokens is all it can do. The causal decoder "
        f"without positions reaches {inside['decoder', 'none']:.2f}: its mask tells it the order. Beyond the lengths of "
        f"the training the decoder has {beyond['decoder', 'sinusoidal']:.2f} with sinusoids, "
        f"{beyond['decoder', 'learned']:.2f} with learned positions and {beyond['decoder', 'none']:.2f} with none; the "
        f"best of all six there is the {best[0]} with {best[1]}, {beyond[best]:.2f}. A sinusoid exists at each place, but "
        "what to do with it was learned at the places of the training."
    )


COLORS = {"sinusoidal": "#1b6ca8", "learned": "#e08214", "none": "#888888"}


def _figure(steps: int, places: Places) -> Figure:
    """Draw the table of sinusoids, and the accuracy by place of both stacks."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    halves: Any = figure.subfigures(2, 1, height_ratios=(0.8, 1))
    top, bottom = halves
    bottom.suptitle(f"name the token before you, after {steps} steps")
    left, right = top.subplots(1, 2)
    table = sinusoid_table(100, WIDTH)
    image = left.imshow(table.T.numpy(), aspect="auto", cmap="RdBu", interpolation="nearest")
    left.set(xlabel="position", ylabel="dimension", title="sinusoids: each row a wave, the next pair slower")
    top.colorbar(image, ax=left)
    for position in (0, 30, 60):
        right.plot((table @ table[position] / (WIDTH / 2)).numpy(), label=f"with position {position}")
    right.set(xlabel="position", ylabel="PE . PE / (D / 2)", title="their products depend on the distance alone")
    right.legend(frameon=False, fontsize=8)
    lower: Any = bottom.subplots(1, 2, sharey=True)
    for axes, variant in zip(lower, STACKS, strict=True):
        for kind in KINDS:
            numbers = [mean(at) for at in zip(*places[variant, kind], strict=True)]
            axes.plot(range(2, LONGEST + 1), numbers, color=COLORS[kind], label=f"positions: {kind}")
        axes.axvspan(TRAINED + 0.5, LONGEST, color="#00000010")
        axes.text(TRAINED + 1, 1.02, "beyond training", fontsize=8, va="top")
        axes.set(xlabel="place", title=STACKS[variant])
        axes.grid(alpha=0.3)
    lower[0].set_ylabel("accuracy")
    lower[1].legend(frameon=False)
    return figure
