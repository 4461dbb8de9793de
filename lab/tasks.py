"""The tasks of the ladder: made sequences, dates, and Multi30k, each with test data in groups by length.

Dimension letters: B rows, S source length, T target length.
"""

import gzip
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import sacrebleu
import torch
from torch import nn

from lab import made
from lab.rungs import exact, greedy
from tokenizer.build import build
from train.data.dates import dates
from train.settings.get_it import command

Batch = tuple[torch.Tensor, torch.Tensor]
"""Source (B, S), which ends in END, and target (B, T) from START to END; padded on the right."""
Pair = tuple[list[int], list[int]]
"""The ids of a source, and of a target with START before it."""
TASKS = ("reverse", "copy", "dates", "multi30k")
RECIPE = Path(__file__).parents[1] / "train/recipes/multi30k-en-de.yaml"


@dataclass
class Task:
    """What the rungs learn, and how it is measured.

    Attributes:
        figure: What `score` gives, in words.
        steps: Of training, with --quick and without.
        rows: Of a batch.
        longest: The longest sequence on either side, in tokens.
        batches: Endless training batches of a seed.
        groups: Test batches by the length of the source; the names begin with a length.
        beyond: The groups that are longer than anything in training.
        score: The figure of a model on some test batches.
    """

    name: str
    unit: str
    figure: str
    vocabulary: int
    width: int
    steps: tuple[int, int]
    rows: int
    longest: int
    batches: Callable[[int], Iterator[Batch]]
    groups: dict[str, list[Batch]]
    beyond: set[str]
    score: Callable[[nn.Module, list[Batch]], float]


def task_of(name: str, data: Path) -> Task:
    """Return a task by its name.

    Raises:
        ValueError: Multi30k is not in the folder `data`; the message has the line that fetches it.
    """
    if name in ("reverse", "copy"):
        return _made(name)
    return _dates() if name == "dates" else _multi30k(data)


def exact_match(model: nn.Module, batches: list[Batch]) -> float:
    """Return the share of the rows that greedy writing gets right to the last token."""
    return torch.cat([exact(model, source, target) for source, target in batches]).float().mean().item()


def _made(name: str) -> Task:
    lengths = (4, 8, 12, 16, 20)
    return Task(
        *(name, "tokens", "exact match"),
        vocabulary=made.FIRST + 20,
        width=64,
        steps=(700, 2000),
        rows=64,
        longest=32,
        batches=lambda seed: made.pairs(name, seed, 64, 1, 16),
        groups={str(n): [next(made.pairs(name, 1_000_000 + n, 200, n, n))] for n in lengths},
        beyond={"20"},
        score=exact_match,
    )


@dataclass
class Dates:
    """The dates of the recipe dates-en-ko as texts, (sources, targets) of each split, and as ids, a token a character."""

    texts: dict[str, tuple[list[str], list[str]]]
    train: list[Pair]
    test: list[Pair]
    vocabulary: int


def dates_of(train: int = 20_000, test: int = 1000) -> Dates:
    """Make dates, encoded by a tokenizer of characters; no day of the test occurs in training."""
    splits = dates(train=train, validation=1, test=test)
    texts = {name: (rows["source"], rows["target"]) for name, rows in splits.items()}
    tokenizer = build("char", [*texts["train"][0], *texts["train"][1]], 200, "seq2seq", show_progress=False)
    pairs = {name: encoded(tokenizer, *texts[name]) for name in ("train", "test")}
    return Dates(texts, pairs["train"], pairs["test"], len(tokenizer))


def _dates() -> Task:
    data = dates_of()
    lengths = [len(text) for text in data.texts["test"][0]]
    return Task(
        *("dates", "characters", "exact match"),
        vocabulary=data.vocabulary,
        width=64,
        steps=(600, 2000),
        rows=64,
        longest=48,
        batches=lambda seed: shuffled(data.train, 64, seed),
        groups=grouped(data.test, lengths, (0, 13, 19, 25, 99)),
        beyond=set(),
        score=exact_match,
    )


def _multi30k(data: Path) -> Task:
    texts = {name: [_lines(data / f"{name}.{side}.gz") for side in ("en", "de")] for name in ("train", _TEST)}
    tokenizer = build("bpe", [*texts["train"][0], *texts["train"][1]], 4000, "seq2seq", show_progress=False)
    train, test = (encoded(tokenizer, *texts[name]) for name in ("train", _TEST))
    references = {tuple(target): text for (_, target), text in zip(test, texts[_TEST][1], strict=True)}

    def bleu(model: nn.Module, batches: list[Batch]) -> float:
        """Return cased BLEU (sacreBLEU, 13a) of greedy writing."""
        written = [row for source, _ in batches for row in greedy(model, source, source.shape[1] + 10)]
        truth = [references[tuple(row[row.ne(made.PAD)].tolist())] for _, target in batches for row in target]
        return sacrebleu.corpus_bleu(tokenizer.batch_decode(written), [truth], force=True).score

    return Task(
        *("multi30k", "words", "BLEU"),
        vocabulary=len(tokenizer),
        width=128,
        steps=(200, 3000),
        rows=64,
        longest=96,
        batches=lambda seed: shuffled([pair for pair in train if max(map(len, pair)) <= 60], 64, seed),
        groups=grouped(test, [len(text.split()) for text in texts[_TEST][0]], (0, 9, 12, 15, 19, 99)),
        beyond=set(),
        score=bleu,
    )


_TEST = "test_2016_flickr"


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path} is missing; --data names its folder, and this fetches it: {command(RECIPE)}")
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return stream.read().splitlines()


def encoded(tokenizer, sources: Iterable[str], targets: Iterable[str]) -> list[Pair]:
    """Return (source ids, target ids) of each pair; a tokenizer of this project ends both, and has made.py's ids."""
    sides = (tokenizer(list(texts))["input_ids"] for texts in (sources, targets))
    return [(source, [made.START, *target]) for source, target in zip(*sides, strict=True)]


def padded(pairs: list[Pair]) -> Batch:
    """Return some pairs as two tensors (B, S) and (B, T), padded on the right."""
    sides = ([torch.tensor(ids) for ids in side] for side in zip(*pairs, strict=True))
    source, target = (nn.utils.rnn.pad_sequence(side, True, made.PAD) for side in sides)
    return source, target


def shuffled(pairs: list[Pair], rows: int, seed: int) -> Iterator[Batch]:
    """Yield batches of pairs of about one length without end, in an order that the seed decides."""
    draw = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(pairs), generator=draw).tolist()
        for first in range(0, len(order), 50 * rows):
            pool = sorted(order[first : first + 50 * rows], key=lambda number: tuple(map(len, pairs[number])))
            starts = range(0, len(pool), rows)
            for at in torch.randperm(len(starts), generator=draw).tolist():
                yield padded([pairs[number] for number in pool[starts[at] : starts[at] + rows]])


def grouped(pairs: list[Pair], lengths: list[int], edges: Iterable[int]) -> dict[str, list[Batch]]:
    """Return batches of at most 100 pairs, by the length of the source: from one edge up to the next."""
    groups: dict[str, list[Batch]] = {}
    for low, high in pairwise(edges):
        rows = [pair for pair, length in zip(pairs, lengths, strict=True) if low <= length < high]
        if rows:
            within = [length for length in lengths if low <= length < high]
            batches = [padded(rows[at : at + 100]) for at in range(0, len(rows), 100)]
            groups[f"{min(within)} to {max(within)}"] = batches
    return groups
