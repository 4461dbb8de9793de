"""Read texts whose words have labels, one word a line: CoNLL-U of Universal Dependencies, and the columns of CoNLL-2003."""

import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from train.data.readers import Bad, Column, Row, read_lines
from train.errors import UserError

FORMATS = ("conllu", "conll")
MOST_WORDS = 100_000
"""Words of a sentence: a file without empty lines would be one of millions."""
CONLLU = "ID FORM LEMMA UPOS XPOS FEATS HEAD DEPREL DEPS MISC".split()
# An underscore means that a word has no such value, which for these is a word without a label.
_ALWAYS_GIVEN = ("UPOS", "XPOS")
_START = "-DOCSTART-"  # of a line that holds no word, in CoNLL-2003

Pair = tuple[str, str]
"""A word and its label."""


def read(path: Path, kind: str, words: Column | None = None, tags: Column | None = None) -> Iterator[Row]:
    """Yield a row of all words and all labels for each sentence; its line is that of its first word.

    A sentence with a bad line is one bad row.

    Args:
        path: the file.
        kind: one of `FORMATS`.
        words: column of the words, by default FORM, or the first.
        tags: column of the labels, by default UPOS, or the last.

    Raises:
        UserError: there is no such column.
    """
    parse = _conllu(words, tags) if kind == "conllu" else _columns(words, tags)
    pairs: list[Pair] = []
    first, bad = 0, None
    for number, text in itertools.chain(read_lines(path), [(0, "")]):
        if isinstance(text, str) and not text.strip():
            if bad is not None:
                yield bad
            elif pairs:
                yield str(path), first, tuple(zip(*pairs, strict=True))
            pairs, bad = [], None
            continue
        if bad is not None:
            continue
        pair = parse(number, text, len(pairs)) if isinstance(text, str) else text
        if isinstance(pair, Bad):
            bad = (str(path), number, pair)
        elif pair is not None:
            first = first if pairs else number
            pairs.append(pair)
        if len(pairs) > MOST_WORDS:
            bad = (str(path), number, Bad(f"a sentence of more than {MOST_WORDS:,} words; an empty line must end it"))


Parse = Callable[[int, str, int], Pair | Bad | None]
"""From the number of a line, its text and the words before it in its sentence; None = a line that holds no word."""


def _conllu(words: Column | None, tags: Column | None) -> Parse:
    """Read lines of ten columns; words of several lines (3-4), empty nodes (8.1) and comments hold no word."""
    numbers = [_place("words", "FORM" if words is None else words), _place("tags", "UPOS" if tags is None else tags)]
    must_be_given = CONLLU[numbers[1]] in _ALWAYS_GIVEN

    def parse(line: int, text: str, before: int) -> Pair | Bad | None:
        if text.startswith("#"):
            return None
        fields = text.split("\t")
        if len(fields) != len(CONLLU):
            return Bad(f"{len(fields)} column(s) found; CoNLL-U must have {len(CONLLU)}, with a tab between two")
        if re.fullmatch(r"\d+[-.]\d+", fields[0]):
            return None
        if fields[0] != str(before + 1):
            return Bad(f"ID {fields[0]!r} found; that of this word must be {before + 1}")
        word, tag = (fields[number] for number in numbers)
        if must_be_given and tag == "_":
            return Bad(f"word {before + 1}, {word!r}, has no {CONLLU[numbers[1]]}; each word must have its label")
        return word, tag

    return parse


def _place(name: str, column: Column) -> int:
    """Return the number of a column of CoNLL-U."""
    number = column if isinstance(column, int) else CONLLU.index(column) if column in CONLLU else len(CONLLU)
    if number >= len(CONLLU):
        raise UserError(f"data.{name}_column: {column!r} must be one of {', '.join(CONLLU)}, or a number below 10")
    return number


def _columns(words: Column | None, tags: Column | None) -> Parse:
    """Read lines of as many columns as the first, with a tab between two, or spaces where there is no tab."""
    word, tag = (_number(name, column) for name, column in (("words", words), ("tags", tags)))
    width = [0, 0]  # of the first line, and its number

    def parse(line: int, text: str, before: int) -> Pair | Bad | None:
        # Spaces of ASCII alone part columns: "10\u00a0000" is one word.
        with_tabs = [field.strip(" ") for field in text.split("\t")]
        fields = with_tabs if len(with_tabs) > 1 else [field for field in text.split(" ") if field]
        if _START in fields[:1]:
            return None
        width[:] = width if width[1] else (len(fields), line)
        least = 1 + max(1, word or 0, tag or 0)
        if len(fields) < least:
            return Bad(
                f"{len(fields)} column(s) found; there must be at least {least}, a word and its label among them"
            )
        if len(fields) != width[0]:
            rule = "each line must have as many"
            return Bad(f"{len(fields)} columns found, {width[0]} in line {width[1]}; {rule}")
        return fields[word or 0], fields[-1 if tag is None else tag]

    return parse


def _number(name: str, column: Column | None) -> int | None:
    """Return the number of a column that has no name."""
    if isinstance(column, str):
        raise UserError(f"data.{name}_column: {column!r} must be a number: columns of conll have no names")
    return column
