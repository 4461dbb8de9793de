"""What the mask is for: a decoder that sees what it is to write, an encoder that may not look to its right, and padding.

Dimension letters: B batch, T length, H heads, K head_dim.
"""

import inspect
import math
import warnings
from argparse import Namespace
from collections.abc import Iterator
from statistics import mean

import torch
from matplotlib.figure import Figure
from torch import nn

from lab.ablations import Causal, Unmasked, swapped
from lab.outcome import Cell, Outcome, Table
from lab.tagging import Batch, by_seed, config
from lab.training import train
from modeling_vanilla import VanillaForCausalLM, VanillaForMaskedLM
from modeling_vanilla.attention import MultiHeadAttention

TITLE = "the causal mask and the padding mask: what leaks without them"
SECONDS = 50

LETTERS, LENGTH = 26, 12
FLOOR = math.log(LETTERS)
"""Nats a letter: letters drawn at random cannot be guessed better."""
START, HIDDEN, PADDING = 26, 27, 28
KERNELS = ("eager", "sdpa", "flex_attention")
STEPS = {True: 500, False: 1000}
"""Training steps with --quick and without."""


def four_lines(q, k, v):
    """Attend as learners copy it."""
    scores = q @ k.transpose(-2, -1)
    scores = scores / q.shape[-1] ** 0.5
    weights = scores.softmax(dim=-1)
    return weights @ v


def with_the_missing_line(q, k, v):
    """Attend as a decoder does."""
    scores = q @ k.transpose(-2, -1)
    scores = scores / q.shape[-1] ** 0.5
    scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)  # nothing after one's own place
    weights = scores.softmax(dim=-1)
    return weights @ v


def random_letters(seed: int, batch: int) -> Iterator[torch.Tensor]:
    """Yield START and 12 letters, (B, 13), without end."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        letters = torch.randint(LETTERS, (batch, LENGTH), generator=draw)
        yield torch.cat([torch.full((batch, 1), START), letters], 1)


def twins(seed: int, batch: int, hidden: int | None = None) -> Iterator[Batch]:
    """Yield rows a a b b c c ... with one of each two hidden, and labels (-100 elsewhere), both (B, 12), without end.

    Args:
        hidden: 0 hides the first letter of a pair, whose answer stands to its right; 1 the second; None either.
    """
    draw = torch.Generator().manual_seed(seed)
    while True:
        letters = torch.randint(LETTERS, (batch, LENGTH // 2), generator=draw).repeat_interleave(2, dim=1)
        side = torch.randint(2, (batch, LENGTH // 2), generator=draw) if hidden is None else torch.tensor(hidden)
        at = (torch.arange(2) == side.unsqueeze(-1)).expand(batch, LENGTH // 2, 2).flatten(1)
        yield letters.masked_fill(at, HIDDEN), letters.masked_fill(~at, -100)


def writer(seed: int, is_masked: bool) -> nn.Module:
    """Return a language model of two layers, with its causal mask or without."""
    torch.manual_seed(seed)
    model = VanillaForCausalLM(config("decoder", vocab_size=29, num_layers=2))
    return model if is_masked else swapped(model, MultiHeadAttention, Unmasked, seed)


def filler(seed: int, sees_both_sides: bool) -> nn.Module:
    """Return an encoder of two layers that fills hidden letters, seeing both sides or nothing to its right."""
    torch.manual_seed(seed)
    model = VanillaForMaskedLM(config(vocab_size=29, num_layers=2))
    return model if sees_both_sides else swapped(model, MultiHeadAttention, Causal, seed)


@torch.no_grad()
def losses_of_writing(model: nn.Module, ids: torch.Tensor) -> tuple[float, float]:
    """Return the loss of all letters at once, as in training, and of each as the last one, as in writing.

    The last letter counts in neither: read at once, no token after it can give it away.
    """
    at_once = nn.functional.cross_entropy(model(ids[:, :-1]).logits[:, :-1].flatten(0, 1), ids[:, 1:-1].flatten())
    in_turn = [
        nn.functional.cross_entropy(model(ids[:, :end]).logits[:, -1], ids[:, end]).item()
        for end in range(1, ids.shape[1] - 1)
    ]
    return at_once.item(), mean(in_turn)


@torch.no_grad()
def losses_of_filling(model: nn.Module, seed: int) -> list[float]:
    """Return the loss where the answer stands to the right, and where it stands to the left."""
    batches = [next(twins(10_000 + seed, 500, hidden)) for hidden in (0, 1)]
    return [model(ids, labels=labels).loss.item() for ids, labels in batches]


@torch.no_grad()
def padded(model: nn.Module, seed: int, width: int, is_masked: bool) -> list[float]:
    """Return the loss of rows with `width` places of padding behind them, and the largest change of a score."""
    ids, labels = next(twins(10_000 + seed, 500, 0))
    longer = nn.functional.pad(ids, (0, width), value=PADDING)
    mask = longer.ne(PADDING).long() if is_masked else torch.ones_like(longer)
    scores = model(longer, attention_mask=mask).logits[:, :LENGTH]
    loss = nn.functional.cross_entropy(scores.flatten(0, 1), labels.flatten())
    return [loss.item(), (scores - model(ids).logits).abs().max().item()]


@torch.no_grad()
def leak(kernel: str, is_causal: bool) -> float:
    """Change the last of 7 states; return the largest change of an earlier output, relative to the last one's."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(config(attn_implementation=kernel), 0, is_causal)
    states = torch.randn(2, 7, 64)
    other = states.clone()
    other[:, -1] += 1
    # The compiled flex kernel would take a minute to build on a CPU.
    with torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        change = (attention(states)[0] - attention(other)[0]).abs()
    return (change[:, :-1].max() / change[:, -1].max()).item()


def leak_of_lines(attend) -> float:
    """Return the same of a function of Q, K and V (B, H, T, K): the last key and value change."""
    q, k, v = (torch.randn(2, 3, 7, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    others = [x.clone() for x in (k, v)]
    for x in others:
        x[:, :, -1] += 1
    change = (attend(q, k, v) - attend(q, *others)).abs()
    return (change[:, :, :-1].max() / change[:, :, -1].max()).item()


def run(options: Namespace) -> Outcome:
    """Train a writer and a filler, each with its mask and without."""
    steps = STEPS[options.quick]
    curves: dict[bool, list[list[float]]] = {True: [], False: []}
    written: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    filled: dict[bool, list[list[float]]] = {True: [], False: []}
    pads: dict[tuple[int, bool], list[list[float]]] = {}
    for seed in range(options.seeds):
        test = next(random_letters(10_000 + seed, 200))
        for is_masked in (True, False):
            model = writer(seed, is_masked)
            batches = random_letters(seed, 32)
            curves[is_masked].append(train(model, batches, lambda m, ids: m(ids, labels=ids).loss, steps))
            written[is_masked].append(losses_of_writing(model, test))
        for sees_both_sides in (True, False):
            model = filler(seed, sees_both_sides)
            train(model, twins(seed, 64), lambda m, batch: m(batch[0], labels=batch[1]).loss, steps)
            filled[sees_both_sides].append(losses_of_filling(model, seed))
            if sees_both_sides:
                for width in (4, 16):
                    for is_masked in (True, False):
                        pads.setdefault((width, is_masked), []).append(padded(model, seed, width, is_masked))
    tables = [*tables_of_training(curves, written, filled, pads, steps), table_of_kernels()]
    figure = picture(curves, written, filled)
    return Outcome(tables, conclusion(curves, written, filled, pads), figure, [lines_side_by_side()])


def tables_of_training(curves: dict, written: dict, filled: dict, pads: dict, steps: int) -> list[Table]:
    """Return the tables of the writer, the filler and the padding."""
    names = {True: "with its mask", False: "without"}
    sides = {True: "both sides", False: "nothing to its right"}
    return [
        Table(
            f"A decoder on letters drawn at random, {steps} steps; floor ln 26 = {FLOOR:.3f} nats a letter",
            ["mask", "training", "all at once", "one at a time"],
            [[names[m], [mean(curve[-20:]) for curve in curves[m]], *by_seed(written[m])] for m in (True, False)],
        ),
        Table(
            "An encoder that fills the hidden letters of a a b b c c ..., one of each two, in nats",
            ["it sees", "answer to the right", "answer to the left"],
            [[sides[m], *by_seed(filled[m])] for m in (True, False)],
        ),
        Table(
            "The encoder of both sides, with padding behind the rows",
            ["padding", "mask", "nats", "largest change of a score"],
            [[width, names[m], *by_seed(numbers)] for (width, m), numbers in pads.items()],
        ),
    ]


def table_of_kernels() -> Table:
    """Return what a change of the last state does to earlier outputs, for each kernel and for the copied lines."""
    rows: list[list[Cell]] = [[kernel, leak(kernel, True), leak(kernel, False)] for kernel in KERNELS]
    lines: list[Cell] = ["lines below", leak_of_lines(with_the_missing_line), leak_of_lines(four_lines)]
    return Table(
        "The last token is changed: change of earlier outputs / change of the last",
        ["kernel", "is_causal", "not"],
        [*rows, lines],
    )


def lines_side_by_side() -> str:
    """Return the source of the four lines and of the five."""
    sources = [inspect.getsource(function) for function in (four_lines, with_the_missing_line)]
    code = "\n\n\n".join(source.rstrip() for source in sources)
    return f"What is copied, and what it lacks to be a decoder's:\n```python\n{code}\n```"


def conclusion(curves: dict, written: dict, filled: dict, pads: dict) -> str:
    """Say what each mask keeps apart."""
    trained = {m: mean(mean(curve[-20:]) for curve in curves[m]) for m in (True, False)}
    in_turn = {m: mean(seed[1] for seed in written[m]) for m in (True, False)}
    right = {m: mean(seed[0] for seed in filled[m]) for m in (True, False)}
    change = {m: mean(seed[1] for seed in pads[16, m]) for m in (True, False)}
    return (
        f"No model can guess letters drawn at random: the floor is {FLOOR:.3f} nats. With the mask training ends at "
        f"{trained[True]:.2f}; without it at {trained[False]:.2g}, and writing one token at a time it is at "
        f"{in_turn[False]:.1f} ({in_turn[True]:.2f} with the mask): it had read the answer. An encoder finds an answer "
        f"to its right with {right[True]:.2g} nats where it sees both sides, with {right[False]:.2f} under a causal mask. "
        f"16 places of padding change a score by {change[True]:.0e} with their mask, by {change[False]:.1f} without."
    )


def picture(curves: dict, written: dict, filled: dict) -> Figure:
    """Draw the training losses, what writing makes of them, and the hidden letters."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    names = {True: "with the mask", False: "without"}
    for at, is_masked in enumerate((True, False)):
        curve = torch.tensor(curves[is_masked]).mean(0).unflatten(0, (-1, 10)).mean(1)
        left.plot(range(0, 10 * len(curve), 10), curve.tolist(), label=names[is_masked])
        heights = [mean(seed[i] for seed in written[is_masked]) for i in (0, 1)]
        drawn = middle.bar([i + at * 0.4 - 0.2 for i in (0, 1)], heights, 0.38, label=names[is_masked])
        middle.bar_label(drawn, fmt="%.2f", fontsize=8)
        heights = [mean(seed[i] for seed in filled[is_masked]) for i in (0, 1)]
        label = "sees both sides" if is_masked else "causal mask"
        drawn = right.bar([i + at * 0.4 - 0.2 for i in (0, 1)], heights, 0.38, label=label)
        right.bar_label(drawn, fmt="%.2f", fontsize=8)
    for axes in (left, middle, right):
        axes.axhline(FLOOR, color="black", linewidth=0.8, linestyle="--", label="ln 26")
        axes.set(ylabel="nats a letter", ylim=(0, None))
    left.set(title="Training on random letters", xlabel="step")
    middle.set(title="The same decoders, tested", xticks=(0, 1), xticklabels=("all at once", "one at a time"))
    answers = ("answer to the right", "answer to the left")
    right.set(title="Filling hidden letters", xticks=(0, 1), xticklabels=answers, ylim=(0, 4.6))
    for axes in (left, middle, right):
        axes.legend(frameon=False, fontsize=8)
    return figure
