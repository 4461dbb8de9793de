"""Sentences as rows of words: made dates, or a corpus below data/.

Dimension letters: B batch, T tokens.
"""

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from modeling_vanilla.losses import IGNORE
from train.data.dates import dates

PAD, UNKNOWN, MASK, FIRST = 0, 1, 2, 3
"""Special ids, and the id of the first word."""
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass
class Corpus:
    """A file of sentences.

    Attributes:
        path: Where it is looked for.
        fetch: The line that gets it.
        column: Of tab-separated files with a header, the one that holds the text.
        shown: Words whose neighbours are shown.
    """

    path: Path
    fetch: str
    shown: str
    column: str | None = None


CORPORA = {
    "multi30k": Corpus(
        Path("data/multi30k/train.en.gz"),
        "curl -fL --create-dirs -o data/multi30k/train.en.gz https://raw.githubusercontent.com/multi30k/dataset/"
        "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/train.en.gz",
        "man woman dog red two snow guitar running street small",
    ),
    "nsmc": Corpus(
        Path("data/nsmc/ratings_train.txt.gz"),
        "curl -fL --create-dirs -o data/nsmc/ratings_train.txt https://raw.githubusercontent.com/e9t/nsmc/"
        "cc0670e872d4ac27bfe36c87456783004b39ef6c/ratings_train.txt && gzip data/nsmc/ratings_train.txt",
        "영화 배우 재밌어요 지루하다 최고 감동 정말 한국 드라마 결말",
        column="document",
    ),
}


def sentences(name: str, count: int, seed: int = 0) -> list[list[str]]:
    """Return so many sentences of "dates" or of a corpus, each a list of words.

    Raises:
        ValueError: The corpus is not there; the message holds the line that fetches it.
    """
    if name == "dates":
        rows = dates(seed=seed, train=count)["train"]
        return [
            [*WORD.findall(source), "=", *target.split()]
            for source, target in zip(rows["source"], rows["target"], strict=True)
        ]
    corpus = CORPORA[name]
    if not corpus.path.is_file():
        raise ValueError(f"--data {name}: {corpus.path} is missing; get it from this folder with: {corpus.fetch}")
    with gzip.open(corpus.path, "rt", encoding="utf-8") as lines:
        texts = _column(lines, corpus.column)
        split = [WORD.findall(text.lower())[:48] for text in texts]
    return [words for words in split if len(words) > 1][:count]


def _column(lines: Iterable[str], column: str | None) -> Iterator[str]:
    """Yield lines, or one column of lines with tabs and a header."""
    if column is None:
        yield from lines
        return
    header, *rows = (line.rstrip("\n").split("\t") for line in lines)
    place = header.index(column)
    yield from (row[place] for row in rows)


class Vocabulary:
    """The most frequent words of some sentences; others share one id."""

    def __init__(self, rows: Iterable[list[str]], size: int, least: int = 3):
        counts = Counter(word for row in rows for word in row)
        self.words = [word for word, count in counts.most_common(size) if count >= least]
        self.ids = {word: number for number, word in enumerate(self.words, FIRST)}

    def __len__(self) -> int:
        return FIRST + len(self.words)

    def encode(self, rows: list[list[str]]) -> torch.Tensor:
        """Return ids (B, T), padded on the right."""
        width = max(len(row) for row in rows)
        return torch.tensor(
            [[self.ids.get(word, UNKNOWN) for word in row] + [PAD] * (width - len(row)) for row in rows]
        )


def hidden_words(
    ids: torch.Tensor, seed: int, batch: int, share: float = 0.25
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches in which words are hidden (Devlin et al. 2019, sec. 3.1): ids (B, T) with MASK, and labels (B, T).

    Args:
        ids: All sentences, padded (rows, T).
        share: Of the words that are hidden; the mask always stands in their place.
    """
    draw = torch.Generator().manual_seed(seed)
    while True:
        rows = ids[torch.randint(len(ids), (batch,), generator=draw)]
        rows = rows[:, : int(rows.ne(PAD).sum(1).max())]
        hidden = (torch.rand(rows.shape, generator=draw) < share) & rows.ne(PAD)
        yield rows.masked_fill(hidden, MASK), rows.masked_fill(~hidden, IGNORE)
