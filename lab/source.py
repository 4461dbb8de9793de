"""What a translator owes to its source: the source taken away or exchanged, beside a decoder that never had one.

Dimension letters: B rows, S source length, T target length, V vocabulary.
"""

import argparse
import math
import re
import sys
from collections.abc import Callable
from datetime import date
from statistics import mean

import torch
from matplotlib.figure import Figure
from torch import nn
from torch.nn import functional as F

from lab.made import END, PAD
from lab.outcome import Cell, Outcome, Table
from lab.rungs import Transformer, config_of, exact, fitted, loss_of
from lab.tasks import Batch, Dates, dates_of, padded, shuffled
from lab.training import count, train
from modeling_vanilla import VanillaForCausalLM
from modeling_vanilla.look.fonts import chosen
from train.data.dates import ENGLISH_DATES

TITLE = "a translator without its source, or with another's: what the outputs alone can tell, in nats a token"
SECONDS = 90
ROWS = 64
SIZES = ((64, 700), (128, 1500))
"""Width and steps, with --quick and without."""
YEARS = (1900, 2099)

KINDS = {
    "year": r"\d+(?=년)",
    "month": r"\d+(?=월)",
    "day": r"\d+(?=일)",
    "weekday": r".(?=요일)",
    "other letters": r".",
}
"""Which characters of a target belong together; the first pattern that finds a character has it."""


class Writer(nn.Module):
    """This package's decoder alone, behind the interface of a translator: it gets the source and does not look at it."""

    def __init__(self, vocabulary: int, width: int, size: int, longest: int):
        super().__init__()
        config = config_of(vocabulary, width, variant="decoder", d_ff=size, max_position_embeddings=longest)
        self.decoder = VanillaForCausalLM(config)
        self.decoder.set_attn_implementation("eager")

    def forward(self, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        """Map what was written so far (B, T) to the logits (B, T, V) of the next tokens."""
        return self.decoder(written, use_cache=False).logits


def exchanged(source: torch.Tensor) -> torch.Tensor:
    """Give each row of a batch (B, S) the source of the row after it."""
    return source.roll(1, 0)


def emptied(source: torch.Tensor) -> torch.Tensor:
    """Return sources (B, 1) of no text: their end alone."""
    return torch.full((len(source), 1), END)


def blind(model: Transformer, source: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Return the logits of a translator whose attention over the source may look at none of it: its context is 0."""
    hidden = torch.zeros_like(source)
    translator = model.translator
    return translator(
        source, source.ne(PAD), decoder_input_ids=written, cross_attention_mask=hidden, use_cache=False
    ).logits


Logits = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(source, written) -> logits."""


def conditions(translator: Transformer, writer: nn.Module) -> dict[str, Logits]:
    """Return each way in which a target is read."""
    return {
        "its own source": translator,
        "another's source": lambda source, written: translator(exchanged(source), written),
        "an empty source": lambda source, written: translator(emptied(source), written),
        "attention that sees nothing": lambda source, written: blind(translator, source, written),
        "decoder trained without a source": writer,
    }


@torch.no_grad()
def nats(logits_of: Logits, batch: Batch) -> list[list[float]]:
    """Return -ln of the probability of each target token after START, for each row."""
    source, target = batch
    logits = logits_of(source, target[:, :-1])
    losses = F.cross_entropy(logits.transpose(1, 2), target[:, 1:], reduction="none")  # (B, T)
    return [row[real].tolist() for row, real in zip(losses, target[:, 1:].ne(PAD), strict=True)]


def kinds_of(text: str) -> list[str]:
    """Return the kind of each character of a Korean date, and of the end."""
    kinds = ["other letters"] * (len(text) + 1)
    for kind, pattern in reversed(KINDS.items()):
        for match in re.finditer(pattern, text):
            kinds[match.start() : match.end()] = [kind] * len(match[0])
    kinds[-1] = "end"
    return kinds


def entropy() -> float:
    """Return the nats of one target: each day as likely as the other, its weekday named or not by the source's form."""
    days = date(YEARS[1], 12, 31).toordinal() - date(YEARS[0], 1, 1).toordinal() + 1
    share = sum("E" in pattern for pattern in ENGLISH_DATES) / len(ENGLISH_DATES)
    return math.log(days) - share * math.log(share) - (1 - share) * math.log(1 - share)


def run(options: argparse.Namespace) -> Outcome:
    """Train a translator and a decoder on the same targets, and read the test's targets in five ways."""
    width, steps = SIZES[0 if options.quick else 1]
    data = dates_of()
    figures: dict[str, list[dict[str, float]]] = {}
    example = max(range(50), key=lambda row: len(data.texts["test"][1][row]))
    curves: dict[str, list[float]] = {}
    matches, weights = [], {}
    for seed in range(options.seeds):
        translator, writer = trained(data, width, steps, seed)
        weights = {"translator": count(translator), "decoder": count(writer)}
        for name, logits_of in conditions(translator, writer).items():
            rows = [row for batch in batches_of_test(data) for row in nats(logits_of, batch)]
            figures.setdefault(name, []).append(by_kind(rows, data.texts["test"][1]))
            curves.setdefault(name, rows[example])
            print(f"seed {seed} {name}: {figures[name][-1]['all']:.3f} nats a token", file=sys.stderr, flush=True)
        matches.append(torch.cat([exact(translator, *batch) for batch in batches_of_test(data)]).float().mean().item())
    lengths = [len(text) + 1 for text in data.texts["test"][1]]
    floor = entropy() / mean(lengths)
    sizes = ", ".join(f"{name} {number}" for name, number in weights.items())
    note = (
        f"Weights: {sizes}. The translator writes {mean(matches):.3f} of the test's dates without an error. One target "
        f"has {entropy():.2f} nats (a day of {YEARS[0]} to {YEARS[1]}, its weekday named or not), {floor:.2f} a token: "
        "what a reader has to pay who knows the calendar and no source."
    )
    with chosen():  # a font that has Hangul
        figure = _figure(figures, curves, data.texts["test"][1][example], floor)
    return Outcome([_table(figures, steps)], _conclusion(figures, floor), figure, [note])


def trained(data: Dates, width: int, steps: int, seed: int) -> tuple[Transformer, nn.Module]:
    """Train the translator and the decoder on the same batches; both have about the same number of weights."""
    torch.manual_seed(seed)
    translator = Transformer(config_of(data.vocabulary, width))
    writer = fitted(Writer, data.vocabulary, width, 64, count(translator))
    for model in (translator, writer):
        train(model, shuffled(data.train, ROWS, seed), loss_of, steps)
    return translator, writer


def batches_of_test(data: Dates) -> list[Batch]:
    """Return the test's pairs in their own order, 100 a batch."""
    return [padded(data.test[at : at + 100]) for at in range(0, len(data.test), 100)]


def by_kind(rows: list[list[float]], texts: list[str]) -> dict[str, float]:
    """Return the mean nats of a token, of all and of each kind."""
    groups: dict[str, list[float]] = {"all": [], **{kind: [] for kind in KINDS}, "end": []}
    for row, text in zip(rows, texts, strict=True):
        for number, kind in zip(row, kinds_of(text), strict=True):
            groups[kind].append(number)
            groups["all"].append(number)
    return {kind: mean(numbers) for kind, numbers in groups.items()}


def _table(figures: dict[str, list[dict[str, float]]], steps: int) -> Table:
    kinds = list(next(iter(figures.values()))[0])
    rows: list[list[Cell]] = [
        [name, *([seed[kind] for seed in seeds] for kind in kinds)] for name, seeds in figures.items()
    ]
    return Table(f"Nats a token of the test's targets, after {steps} steps", ["read with", *kinds], rows)


def _conclusion(figures: dict[str, list[dict[str, float]]], floor: float) -> str:
    """Compare the five ways, and say which kind the outputs alone know best and least."""
    means = {name: {kind: mean(seed[kind] for seed in seeds) for kind in seeds[0]} for name, seeds in figures.items()}
    everything = {name: kinds["all"] for name, kinds in means.items()}
    alone = everything["decoder trained without a source"]
    kinds = {kind: number for kind, number in means["decoder trained without a source"].items() if kind != "all"}
    least, most = min(kinds, key=kinds.__getitem__), max(kinds, key=kinds.__getitem__)
    wrong = everything["another's source"]
    return (
        f"With its source the translator needs {everything['its own source']:.3f} nats a token, a decoder that never had "
        f"one {alone:.2f} (the entropy of the targets is {floor:.2f}): the difference, {alone - everything['its own source']:.2f}, "
        f"is what the source tells. The outputs alone tell most of {least} ({kinds[least]:.3f} nats left) and least "
        f"of {most} ({kinds[most]:.2f}). With another's source the translator needs {wrong:.2f}, {wrong / alone:.1f} times "
        f"as much as without any: it {'believes' if wrong > alone else 'does not believe'} what it reads. With an empty "
        f"source it needs {everything['an empty source']:.2f}, with an attention that sees nothing "
        f"{everything['attention that sees nothing']:.2f}: a source taken away is not a source never had."
    )


COLORS = ("#1b6ca8", "#c0392b", "#e08214", "#d9a5a5", "#888888")


def _figure(figures: dict, curves: dict[str, list[float]], text: str, floor: float) -> Figure:
    """Draw the nats of each way, and those of each character of one date."""
    figure = Figure(figsize=(9.5, 6), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(1, 1.5))
    names = list(figures)
    values = [mean(seed["all"] for seed in figures[name]) for name in names]
    bars = top.barh(names, values, color=COLORS)
    top.bar_label(bars, [f"{value:.3g}" for value in values], padding=3)
    top.axvline(floor, color="black", linestyle=":", label=f"entropy of the targets, {floor:.2f}")
    top.legend(frameon=False)
    top.invert_yaxis()
    top.set(xlabel="nats a token, all targets of the test")
    for name, color in zip(names, COLORS, strict=True):
        bottom.plot(curves[name], color=color, marker="o", markersize=4, label=name)
    letters = ["␣" if letter == " " else letter for letter in text]
    bottom.set_xticks(range(len(text) + 1), [*letters, "end"])
    bottom.set(ylabel="nats", title="one date, character by character, in the colours above (first seed)")
    bottom.grid(alpha=0.3)
    for axes in (top, bottom):
        axes.spines[["top", "right"]].set_visible(False)
    return figure
