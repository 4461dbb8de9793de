"""What is forgotten on a long way: a fixed context, gradients by distance, and two tokens that have to meet.

Dimension letters: B rows, S source length, D width.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from statistics import mean

import torch
from matplotlib.figure import Figure
from torch import nn

from lab import made
from lab.convolutional import ConvolutionalEncoder
from lab.outcome import Cell, Outcome, Table
from lab.recurrent import CELLS, Additive, Encoder, RecurrentTranslator
from lab.rungs import Build, Transformer, config_of, exact, fitted, loss_of
from lab.training import count, train
from modeling_vanilla import VanillaModel

TITLE = "what a fixed context loses, how gradients fade with distance, and what attention over an RNN inherits"
SECONDS = 70
WIDTH, SYMBOLS, PAIRED, TESTED = 32, 10, 6, 10
"""Width of the embeddings, ordinary tokens, those that are paired, and the length that tests the fixed context."""
STEPS = ((400, 500), (1500, 1500))
"""Of a translator with a fixed context and of a reader of pairs: with --quick, and without."""
DISTANCES = (1, 5, 12, 25, 50, 99)
LENGTHS = (2, 5, 10, 20, 50, 100)
LAYERS = 6
"""Of the convolution whose gradient is looked at: it sees as many places on either side."""


def run(options: argparse.Namespace) -> Outcome:
    """Run the three measurements."""
    seeds = range(options.seeds)
    steps = STEPS[0 if options.quick else 1]
    kept = kept_by_position(seeds, steps[0])
    ratios = {name: [fading(name, seed) for seed in seeds] for name in GRADIENTS}
    joined = joins(seeds, steps[1])
    tables = [_kept_table(kept, steps[0]), _gradient_table(ratios), _joined_table(joined, steps[1])]
    return Outcome(tables, _conclusion(kept, ratios, joined), _figure(kept, ratios, joined))


# A fixed context: which source tokens come through

Kept = dict[tuple[str, str], list[list[float]]]
"""(cell, task) -> for each seed the accuracy at each place of the source."""


def one_way(cell: str) -> Build:
    """Return the builder of a translator with a fixed context whose encoder reads from left to right alone."""
    return lambda vocabulary, width, size, longest: RecurrentTranslator(
        vocabulary, width, size, cell=cell, both_ways=False
    )


def kept_by_position(seeds: range, steps: int) -> Kept:
    """Train each cell on copying and on reversing 1 to 12 tokens, and test each place of `TESTED` tokens."""
    vocabulary = made.FIRST + SYMBOLS
    weights = count(RecurrentTranslator(vocabulary, WIDTH, 2 * WIDTH, both_ways=False))
    kept: Kept = {(cell, task): [] for cell in CELLS for task in ("copy", "reverse")}
    for seed in seeds:
        for (cell, task), accuracies in kept.items():
            torch.manual_seed(seed)
            model = fitted(one_way(cell), vocabulary, WIDTH, 0, weights)
            train(model, made.pairs(task, seed, 64, 1, 12, SYMBOLS), loss_of, steps, lr=3e-3)
            source, target = next(made.pairs(task, 10**6, 1000, TESTED, TESTED, SYMBOLS))
            accuracies.append(accuracy_by_source(model, source, target, task))
            text = " ".join(f"{share:.2f}" for share in accuracies[-1])
            print(f"seed {seed} {cell} {task}: {text}", file=sys.stderr, flush=True)
    return kept


@torch.no_grad()
def accuracy_by_source(model: nn.Module, source: torch.Tensor, target: torch.Tensor, task: str) -> list[float]:
    """Return the share of right answers for the token at each place of the source; the answers before it are given."""
    right = model(source, target[:, :-1]).argmax(-1).eq(target[:, 1:])[:, :-1].float().mean(0)
    return (right.flip(0) if task == "reverse" else right).tolist()


# Gradients by distance


class SelfAttention(nn.Module):
    """One layer of this package's encoder, over vectors."""

    def __init__(self, width: int):
        super().__init__()
        self.encoder = VanillaModel(config_of(9, width, variant="encoder", num_layers=1, max_position_embeddings=128))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map (B, S, D) to (B, S, D)."""
        return self.encoder(inputs_embeds=vectors).last_hidden_state


class States(Encoder):
    """A recurrent encoder that gives its states alone."""

    def forward(self, vectors: torch.Tensor, real: torch.Tensor | None = None) -> torch.Tensor:  # type: ignore[override]
        """Map (B, S, D) to (B, S, H)."""
        return super().forward(vectors, real)[0]


class AttentionOverStates(nn.Module):
    """Additive attention over the states of a GRU, asked by its last state (Bahdanau et al. 2015)."""

    def __init__(self, width: int):
        super().__init__()
        self.states = States(width, width, "gru", both_ways=False)
        self.score = Additive(width, 0)

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """Map (B, S, D) to the context of the last state, (B, 1, D)."""
        states = self.states(vectors)
        return self.score(states[:, -1:], self.score.keys(states)).softmax(-1) @ states


GRADIENTS = {
    "tanh RNN": lambda: States(2 * WIDTH, 2 * WIDTH, "rnn", both_ways=False),
    "LSTM": lambda: States(2 * WIDTH, 2 * WIDTH, "lstm", both_ways=False),
    "GRU": lambda: States(2 * WIDTH, 2 * WIDTH, "gru", both_ways=False),
    "attention over a GRU": lambda: AttentionOverStates(2 * WIDTH),
    "convolution": lambda: ConvolutionalEncoder(2 * WIDTH, LAYERS),
    "self-attention": lambda: SelfAttention(2 * WIDTH),
}


def fading(name: str, seed: int) -> list[float]:
    """Return |d out / d first token| / |d out / d last token| of an untrained model, for each of `DISTANCES`.

    `out` is one random direction of the last place's output; the median over five draws of the input.
    """
    torch.manual_seed(seed)
    model, ratios = GRADIENTS[name]().double().eval(), []  # fp32 would call 1e-46 zero
    for distance in DISTANCES:
        draws = []
        for _ in range(5):
            vectors = torch.randn(1, distance + 1, 2 * WIDTH, dtype=torch.float64, requires_grad=True)
            out = model(vectors)[0, -1] @ torch.randn(2 * WIDTH, dtype=torch.float64)
            (gradient,) = torch.autograd.grad(out, vectors)
            draws.append((gradient[0, 0].norm() / gradient[0, -1].norm()).item())
        ratios.append(sorted(draws)[2])
    return ratios


# Two tokens that have to meet

READERS: dict[str, Build] = {
    "GRU, last state": lambda vocabulary, width, size, longest: RecurrentTranslator(
        vocabulary, width, size, both_ways=False
    ),
    "GRU, additive attention": lambda vocabulary, width, size, longest: RecurrentTranslator(
        vocabulary, width, size, "additive", both_ways=False
    ),
    "self-attention": lambda vocabulary, width, size, longest: Transformer(
        config_of(vocabulary, width, d_ff=size, max_position_embeddings=longest)
    ),
}


def ends(seed: int, shortest: int, longest: int, rows: int = 64) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (source, target) without end: the answer, one token, names the pair of the first and the last token."""
    draw = torch.Generator().manual_seed(seed)
    edge = torch.ones(rows, 1, dtype=torch.long)
    while True:
        length = int(torch.randint(shortest, longest + 1, (1,), generator=draw))
        tokens = torch.randint(0, PAIRED, (rows, length), generator=draw)
        answer = tokens[:, :1] * PAIRED + tokens[:, -1:]
        source = torch.cat([tokens + made.FIRST, edge * made.END], 1)
        yield source, torch.cat([edge * made.START, answer + made.FIRST], 1)


Joined = dict[str, list[list[float]]]
"""Reader -> for each seed the accuracy at each of `LENGTHS`, and at last the seconds of training."""


def joins(seeds: range, steps: int) -> Joined:
    """Train each reader on sequences of 2 tokens up to the longest of `LENGTHS`, and test it at each of them."""
    vocabulary, longest = made.FIRST + PAIRED**2, LENGTHS[-1]
    weights = count(READERS["self-attention"](vocabulary, WIDTH, 2 * WIDTH, longest + 1))
    joined: Joined = {name: [] for name in READERS}
    for seed in seeds:
        for name, build in READERS.items():
            torch.manual_seed(seed)
            model = fitted(build, vocabulary, WIDTH, longest + 1, weights)
            start = time.process_time()
            train(model, ends(seed, 2, longest), loss_of, steps, lr=3e-3)
            seconds = time.process_time() - start
            tests = (next(ends(10**6, length, length, 500)) for length in LENGTHS)
            joined[name].append([*(exact(model, *test).float().mean().item() for test in tests), seconds])
            text = " ".join(f"{share:.2f}" for share in joined[name][-1])
            print(f"seed {seed} {name}: {text} s", file=sys.stderr, flush=True)
    return joined


# What is written of them


def _kept_table(kept: Kept, steps: int) -> Table:
    rows: list[list[Cell]] = [[cell, task, *_columns(accuracies)] for (cell, task), accuracies in kept.items()]
    title = f"A fixed context of a one-way encoder after {steps} steps: accuracy by the place of the source token"
    return Table(title, ["cell", "task", *map(str, range(1, TESTED + 1))], rows)


def _gradient_table(ratios: dict[str, list[list[float]]]) -> Table:
    title = "Untrained: gradient that reaches the first token over the last one's, by their distance"
    rows: list[list[Cell]] = [[name, *_columns(numbers)] for name, numbers in ratios.items()]
    return Table(title, ["model", *map(str, DISTANCES)], rows)


def _joined_table(joined: Joined, steps: int) -> Table:
    title = f"The answer names the pair of the first and the last token: accuracy by length, after {steps} steps"
    rows: list[list[Cell]] = [[name, *_columns(numbers)] for name, numbers in joined.items()]
    return Table(title, ["reader", *map(str, LENGTHS), "CPU s"], rows)


def _columns(numbers: list[list[float]]) -> list[list[float]]:
    """Return the cells of a row: seeds by columns become columns by seeds."""
    return [list(column) for column in zip(*numbers, strict=True)]


def _conclusion(kept: Kept, ratios: dict[str, list[list[float]]], joined: Joined) -> str:
    """Say what each of the three tables says, from its numbers."""
    ends_of = {key: [mean(column) for column in _columns(numbers)] for key, numbers in kept.items()}
    parts = [
        f"{cell.upper()} {numbers[0]:.2f} and {numbers[-1]:.2f}"
        for (cell, task), numbers in ends_of.items()
        if task == "copy"
    ]
    fades = {name: mean(column) for name, numbers in ratios.items() for column in [_columns(numbers)[-1]]}
    faint, strong = (name for name in ("tanh RNN", "self-attention"))
    zero = [name for name, share in fades.items() if share == 0]
    far = {name: mean(_columns(numbers)[len(LENGTHS) - 1]) for name, numbers in joined.items()}
    best = max(far, key=far.__getitem__)
    return (
        f"Copying {TESTED} tokens through a fixed context, the first and the last come through with accuracy "
        f"{', '.join(parts)}. At a distance of {DISTANCES[-1]} the first token's gradient is {fades[faint]:.0e} of the "
        f"last one's in a {faint}, {fades['GRU']:.0e} in a GRU, {fades[strong]:.1e} with {strong}"
        + (f", and exactly 0 with {' and '.join(zero)}. " if zero else ". ")
        + f"Attention over the states of a GRU has {fades['attention over a GRU']:.1e}: it repairs the way from the "
        f"answer to a token, while a state still hears of another token over all steps between, {fades['GRU']:.0e}. "
        f"Trained to name the pair of the first and the last of {LENGTHS[-1]} tokens, "
        f"{', '.join(f'{name} has {share:.2f}' for name, share in far.items())}; the best is {best}."
    )


ZERO = 1e-45
"""Where the picture draws a gradient that is exactly 0."""


def _figure(kept: Kept, ratios: dict[str, list[list[float]]], joined: Joined) -> Figure:
    """Draw the three tables."""
    figure = Figure(figsize=(11, 7), layout="constrained")
    (copy, reverse), (fade, meet) = figure.subplots(2, 2)
    for axes, task in ((copy, "copy"), (reverse, "reverse")):
        for cell in CELLS:
            axes.plot(range(1, TESTED + 1), _means(kept[cell, task]), marker="o", label=cell.upper())
        axes.set(xlabel="place of the token in the source", ylabel="accuracy", ylim=(0, 1.03))
        axes.set_title(f"fixed context, {task}: which tokens come through")
    for name, numbers in ratios.items():
        fade.plot(DISTANCES, [max(number, ZERO) for number in _means(numbers)], marker="o", label=name)
    fade.set(
        yscale="log",
        ylim=(ZERO / 100, 1e16),
        xlabel="distance of the two tokens",
        ylabel="first token's gradient / last one's",
    )
    fade.set_title("untrained: what reaches the first token (at the foot: 0)")
    for name, numbers in joined.items():
        meet.plot(list(map(str, LENGTHS)), _means(numbers)[:-1], marker="o", label=name)
    meet.set(xlabel="length of the sequence", ylabel="accuracy", ylim=(0, 1.03))
    meet.set_title("name the pair of the first and the last token")
    for axes in (copy, reverse, fade, meet):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8, **({"loc": "upper center", "ncols": 3} if axes is fade else {}))
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _means(numbers: list[list[float]]) -> list[float]:
    return [mean(column) for column in _columns(numbers)]
