"""What came after: Transformer-XL and Sparse Transformer, by bits per character at equal steps and equal weights.

Dimension letters: B batch, T segment, M memory, D d_model, V characters.
"""

import argparse
import gzip
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from lab import memory, sparse
from lab.cost_layers import counted
from lab.outcome import Cell, Outcome, Table
from lab.training import count, train
from modeling_vanilla import VanillaConfig
from modeling_vanilla.attention import MultiHeadAttention
from modeling_vanilla.embeddings import Embeddings, TokenEmbedding
from modeling_vanilla.layers import DecoderLayer

TITLE = "memory of earlier segments and sparse patterns: bits per character (--data FILE: a real text)"
SECONDS = 170

SEGMENT, LONG = 64, 512
"""Tokens of a short segment and of a long one."""
FETCH = (
    "mkdir -p data/tinyshakespeare && curl -fL https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/input.txt | gzip > data/tinyshakespeare/input.txt.gz"
)
PERIOD, REPEATS, LETTERS = 89, 4, 16
"""Made text: 89 letters drawn at random stand four times in a row. What tells the next letter stands 88 back: beyond a
segment of 64, within its memory, and at four times the stride of the strided pattern, as the rows of a picture do."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument(
        "--data", type=Path, help="a text, .gz or not, such as data/tinyshakespeare/input.txt.gz; made text without it"
    )


@dataclass
class Rung:
    """A model to compare.

    Attributes:
        length: Tokens of a segment.
        memory: States of earlier segments that each layer keeps.
        through: Whether the gradient runs through the memory, into the segment before.
        pattern: "absolute" (this package's attention and sinusoids), or with relative positions "full", "strided", "fixed".
    """

    name: str
    length: int
    pattern: str = "full"
    memory: int = 0
    through: bool = False


RUNGS = (
    Rung("segments of 64, absolute", SEGMENT, "absolute"),
    Rung("segments of 64", SEGMENT),
    Rung("memory 64", SEGMENT, memory=64),
    Rung("memory 64, gradient through it", SEGMENT, memory=64, through=True),
    Rung("memory 256", SEGMENT, memory=256),
    Rung("full, 512", LONG),
    Rung("sparse strided, 512", LONG, "strided"),
    Rung("sparse fixed, 512", LONG, "fixed"),
)


class Writer(nn.Module):
    """A language model of characters from this package's decoder layers, with the attention of a rung."""

    def __init__(self, rung: Rung, characters: int, width: int, layers: int):
        super().__init__()
        self.rung = rung
        self.config = VanillaConfig(
            variant="decoder", vocab_size=characters, d_model=width, d_ff=4 * width, num_heads=4, num_layers=layers,
            dropout=0.0, max_position_embeddings=LONG,
        )  # fmt: skip
        self.config._attn_implementation = "eager"
        self.embed = TokenEmbedding(characters, width, math.sqrt(width))
        self.embeddings = Embeddings(self.config) if rung.pattern == "absolute" else None
        self.layers = nn.ModuleList(DecoderLayer(self.config, at, cross_attention=False) for at in range(layers))
        for at, layer in enumerate(self.layers):
            layer.self_attn = attention_of(rung, self.config, at)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.normal_(self.embed.weight, std=width**-0.5)

    def forward(
        self, ids: torch.Tensor, memories: list[torch.Tensor] | None = None, memory: int | None = None
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return logits (B, T, V) for ids (B, T), and what each layer remembers, (B, at most M, D).

        Args:
            memories: What the call before returned.
            memory: M, by default the rung's.
        """
        states = self.embed(ids)
        if self.embeddings is not None:
            states = self.embeddings(states, torch.arange(ids.shape[1])[None])
        memory = self.rung.memory if memory is None else memory
        kept = []
        for at, layer in enumerate(self.layers):
            before = memories[at] if memories else states[:, :0]
            kept.append(torch.cat([before, states], 1)[:, max(0, before.shape[1] + ids.shape[1] - memory) :])
            states = layer(states, memory=before) if self.embeddings is None else layer(states)
        return states @ self.embed.weight.T, kept


def attention_of(rung: Rung, config: VanillaConfig, layer: int) -> MultiHeadAttention:
    """Return the attention of a rung."""
    if rung.pattern == "absolute":
        return MultiHeadAttention(config, layer, is_causal=True)
    if rung.pattern == "full":
        return memory.RelativeAttention(config, layer)
    return sparse.SparseAttention(config, layer, rung.pattern)


def run(options: argparse.Namespace) -> Outcome:
    """Train every rung for equal steps on equal text."""
    text, held_out, characters = made_text() if options.data is None else read_text(options.data)
    size, steps, tokens = (64, 2), 300 if options.quick else 1200, 1024
    held_out = held_out[: 16_384 if options.quick else 65_536]
    bits: dict[str, list[float]] = {}
    longer: dict[str, dict[int, list[float]]] = {}
    for rung in RUNGS:
        for seed in range(options.seeds):
            torch.manual_seed(seed)
            model = Writer(rung, characters, *size)
            train(model, batches(text, rung.length, tokens), loss_of(rung), steps, lr=3e-3)
            bits.setdefault(rung.name, []).append(bits_per_character(model, held_out))
            for length in (0, 64, 256, 512) if rung.memory else ():
                by_length = longer.setdefault(rung.name, {}).setdefault(length, [])
                by_length.append(bits_per_character(model, held_out, length))
    models = {rung.name: Writer(rung, characters, *size) for rung in RUNGS}
    tables = [bits_table(bits, models, steps), memory_table(longer), work_table(VanillaConfig(variant="decoder"))]
    subject = "made text" if options.data is None else options.data.name
    note = f"Data: {subject}, {characters} characters; {tokens:,} of them a step, {len(held_out):,} held out."
    return Outcome(tables, conclusion(bits, longer, subject), figure(bits, longer, subject), [note])


def made_text(count: int = 1_000_000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return ids of training text and of held-out text, and the number of characters; see PERIOD."""
    draw = torch.Generator().manual_seed(seed)
    blocks = torch.randint(LETTERS, (count // (PERIOD * REPEATS), 1, PERIOD), generator=draw)
    ids = blocks.expand(-1, REPEATS, -1).flatten()
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:], LETTERS


def read_text(path: Path) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Return ids of the first nine tenths of a text and of the last, and the number of its characters.

    Raises:
        ValueError: There is no such file, or it is too short.
    """
    if not path.is_file():
        raise ValueError(f"--data {path}: no such file; Tiny Shakespeare comes with: {FETCH}")
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        text = file.read()
    if len(text) < 100 * LONG:
        raise ValueError(f"--data {path}: {len(text)} characters; must be at least {100 * LONG}")
    number_of = {character: number for number, character in enumerate(sorted(set(text)))}
    ids = torch.tensor([number_of[character] for character in text])
    cut = len(ids) * 9 // 10
    return ids[:cut], ids[cut:], len(number_of)


Batch = tuple[torch.Tensor, bool]


def batches(text: torch.Tensor, length: int, tokens: int) -> Iterator[Batch]:
    """Yield rows that go on where those of the batch before ended, and whether they start anew.

    Each row holds two segments of a short model, so that a gradient can reach from the second into the first.

    Returns:
        ids (B, n + 1) with B x n = tokens: the inputs, and one more for the last label.
    """
    width = max(2 * SEGMENT, length)
    rows = tokens // width
    streams = text[: len(text) // rows * rows].view(rows, -1)
    while True:
        for start in range(0, streams.shape[1] - width, width):
            yield streams[:, start : start + width + 1], start == 0


def loss_of(rung: Rung) -> Callable[[nn.Module, Batch], torch.Tensor]:
    """Return the mean loss of a batch, segment after segment, which remembers the batch before."""
    memories: list[torch.Tensor] | None = None

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        nonlocal memories
        ids, anew = batch
        total, starts = torch.zeros(()), range(0, ids.shape[1] - 1, rung.length)
        memories = None if anew or memories is None else [kept.detach() for kept in memories]
        for start in starts:
            logits, memories = model(ids[:, start : start + rung.length], memories)
            labels = ids[:, start + 1 : start + rung.length + 1]
            total = total + nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
            if not rung.through:
                memories = [kept.detach() for kept in memories]
        return total / len(starts)

    return loss


@torch.no_grad()
def bits_per_character(model: Writer, text: torch.Tensor, memory_length: int | None = None, rows: int = 8) -> float:
    """Return the mean bits a character of a text, read in segments with the memory that the model has, or another."""
    streams = text[: len(text) // rows * rows].view(rows, -1)
    length, memories, nats, tokens = model.rung.length, None, 0.0, 0
    for start in range(0, streams.shape[1] - length, length):
        logits, memories = model(streams[:, start : start + length], memories, memory_length)
        labels = streams[:, start + 1 : start + length + 1]
        nats += nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum").item()
        tokens += labels.numel()
    return nats / tokens / math.log(2)


def bits_table(bits: dict[str, list[float]], models: dict[str, Writer], steps: int) -> Table:
    """Show bits per character of each rung, beside how far back its first and its last position of a segment read."""
    rows: list[list[Cell]] = []
    for rung in RUNGS:
        reach = f"{rung.memory} to {rung.memory + rung.length - 1}"
        rows.append([rung.name, f"{count(models[rung.name]):,}", reach, bits[rung.name]])
    columns = ["model", "weights", "a layer reads back", "bits per character"]
    return Table(f"after {steps} equal steps", columns, rows)


def memory_table(longer: dict[str, dict[int, list[float]]]) -> Table:
    """Show bits per character with less memory and with more than in training."""
    lengths = list(next(iter(longer.values())))
    rows: list[list[Cell]] = [[name, *by_length.values()] for name, by_length in longer.items()]
    return Table("bits per character by the memory in evaluation", ["trained with", *map(str, lengths)], rows)


def work_table(config: VanillaConfig) -> Table:
    """Count the operations of one attention of the base model on 512 tokens, and hold them against the formulas."""
    states = torch.randn(1, LONG, config.d_model)
    full = counted(Remembering(memory.RelativeAttention(config, 0), states[:, :0]), states)
    rows = [work_row("full", full, memory.operations(config, LONG, 0), full)]
    for name, pattern in sparse.PATTERNS.items():
        keys = sparse.keys_of(pattern(LONG))[0].shape[1]
        work = counted(Gathered(sparse.SparseAttention(config, 0, name)), states)
        rows.append(
            work_row(f"sparse {name}, at most {keys} keys", work, memory.operations(config, LONG, 0, keys), full)
        )
    for length in (0, 64, 256):
        before = states[:, :length]
        work = counted(Remembering(memory.RelativeAttention(config, 0), before), states[:, :SEGMENT])
        formula = memory.operations(config, SEGMENT, length)
        times = LONG // SEGMENT
        rows.append(work_row(f"segments of 64, memory {length}", work * times, formula * times, full))
    columns = ["attention", "operations counted", "counted / formula", "of full attention"]
    return Table(f"one attention of the base model, {LONG} tokens", columns, rows)


def work_row(name: str, work: int, formula: int, full: int) -> list[Cell]:
    """Return a row of the table of operations."""
    return [name, f"{work:,}", f"{work / formula:.4f}", f"{work / full:.0%}"]


class Gathered(nn.Module):
    """The pairs of a pattern alone, as a module that can be counted."""

    def __init__(self, layer: sparse.SparseAttention):
        super().__init__()
        self.layer = layer

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.layer.gathered(states)


class Remembering(nn.Module):
    """A relative attention with its memory, as a module that can be counted."""

    def __init__(self, layer: memory.RelativeAttention, before: torch.Tensor):
        super().__init__()
        self.layer, self.before = layer, before

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return self.layer(states, memory=self.before)[0]


def mean(numbers: list[float]) -> float:
    """Return the mean over seeds."""
    return sum(numbers) / len(numbers)


def conclusion(bits: dict[str, list[float]], longer: dict[str, dict[int, list[float]]], subject: str) -> str:
    """Say what memory, its gradient, more of it, and a sparse pattern are worth."""
    said = {name: f"{mean(numbers):.3f}" for name, numbers in bits.items()}
    last = longer["memory 256"]
    best = min(last, key=lambda length: mean(last[length]))
    return (
        f"On {subject}, in bits per character: segments of 64 {said['segments of 64']} (with absolute positions "
        f"{said['segments of 64, absolute']}), with memory 64 {said['memory 64']} (with the gradient through it "
        f"{said['memory 64, gradient through it']}), with memory 256 {said['memory 256']}. Of the memories 0 to 512 in "
        f"evaluation, {best} is best for the last one: {mean(last[best]):.3f}. At 512 tokens full attention has "
        f"{said['full, 512']}, the strided pattern {said['sparse strided, 512']}, the fixed one {said['sparse fixed, 512']}."
    )


def figure(bits: dict[str, list[float]], longer: dict[str, dict[int, list[float]]], subject: str) -> Figure:
    """Draw bits per character of the rungs, and by the memory in evaluation."""
    drawing = Figure(figsize=(11, 4), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=(1.3, 1))
    left.barh(list(bits), [mean(numbers) for numbers in bits.values()])
    for at, numbers in enumerate(bits.values()):
        left.plot(numbers, [at] * len(numbers), "k.", markersize=4)  # each seed
        left.annotate(f"{mean(numbers):.2f}", (mean(numbers), at), xytext=(8, -3), textcoords="offset points")
    left.invert_yaxis()
    left.set_xlim(0, 1.15 * max(mean(numbers) for numbers in bits.values()))
    left.set_xlabel("bits per character")
    left.set_title(subject)
    for name, by_length in longer.items():
        right.plot(
            list(by_length), [mean(numbers) for numbers in by_length.values()], "o-", label=f"trained with {name}"
        )
    right.set_xlabel("memory in evaluation, states")
    right.set_ylabel("bits per character")
    right.legend()
    return drawing
