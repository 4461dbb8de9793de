"""Bounds on what is read at once, and long texts in pieces that give the tokens of the whole.

A library call holds about 200 bytes for each byte of its text, so a text of 100 MB in one call would take 20 GB.
"""

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator
from gzip import GzipFile
from io import BufferedReader
from pathlib import Path
from unicodedata import normalize

import numpy as np

LONGEST_LINE = 2**28
"""Bytes of a line, or of a file that is one text."""
FREE_BYTES, MOST_UNPACKED = 2**26, 200
"""A packed file may unpack to the first number of bytes, or to the second times its size; prose shrinks to a third."""
PIECE = 2**18
"""Characters of a piece: about 50 MB in the library."""
LONGEST_PIECE = 2**22
"""Characters to look through for a place to cut."""

# Where a text may be cut for training, by kind: what stands on either side falls into the same words as in the whole text.
# A space or line end between two words begins a word of its own in every kind; `bpe` would put a space before a line end
# that begins a text. No character composes with white space, so normalisation does not reach across either.
_PLACES = {
    "bpe": re.compile(r"(?<=\w)(?= \w)"),
    "byte_bpe": re.compile(r"(?<=\w)(?=[ \n]\w)"),
    "wordpiece": re.compile(r"(?<=\w)(?=[ \n]\w)"),
    "char": re.compile(r"(?=\s)"),
}
_COMPOSED = 32
"""Characters on either side of a place that normalisation might join; no word has so many accents on one letter."""


def read_lines(stream: GzipFile | BufferedReader, path: Path) -> Iterator[bytes | None]:
    """Yield the lines of a file with their ends; None stands for one that is longer than `LONGEST_LINE`.

    Raises:
        ValueError: a packed file unpacks to far more than text does.
    """
    unpacked = 0
    while line := stream.readline(LONGEST_LINE + 1):
        unpacked += len(line)
        refuse_bomb(path, unpacked)
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(2**20)
            unpacked += len(line)
            refuse_bomb(path, unpacked)
        yield None


def refuse_bomb(path: Path, unpacked: int) -> None:
    """Refuse a packed file from which more than `MOST_UNPACKED` times its own size has come.

    Raises:
        ValueError: names the file and both sizes.
    """
    if unpacked > FREE_BYTES and path.suffix == ".gz" and unpacked > MOST_UNPACKED * os.path.getsize(path):
        raise ValueError(
            f"{path}: {os.path.getsize(path)} bytes unpack to more than {unpacked}, over {MOST_UNPACKED} times as many; "
            "it must be packed text (unpack it yourself if it is)"
        )


def for_training(texts: Iterable[str], kind: str, size: int = PIECE, longest: int = LONGEST_PIECE) -> Iterator[str]:
    """Yield texts, long ones in pieces of the same words, so that the same tokenizer is learnt from them.

    Where no space stands between two words, as in Chinese, one word is cut in two: one of millions.

    Args:
        texts: whole texts.
        kind: of the tokenizer.
        size: characters from which a text is cut.
        longest: characters of a piece at most.
    """
    pattern = _PLACES[kind]
    for text in texts:
        start = 0
        while len(text) - start > size:
            match = pattern.search(text, start + size, min(len(text), start + longest) + 2)
            if match is None and len(text) - start <= longest:
                break
            end = _between_characters(text, start + longest, start) if match is None else match.start()
            yield text[start:end]
            start = end
        yield text[start:] if start else text


def _between_characters(text: str, at: int, start: int) -> int:
    """Return a place at or before another where no letter is parted from its accent, nor a syllable from its end."""
    for cut in range(at, max(start, at - PIECE), -1):
        left, right = text[max(start, cut - _COMPOSED) : cut], text[cut : cut + _COMPOSED]
        if all(
            normalize(form, left + right) == normalize(form, left) + normalize(form, right) for form in ("NFC", "NFD")
        ):
            return cut
    return at


Tokens = tuple[np.ndarray, np.ndarray]
"""Ids, (n), and for each the characters it stands for: the first, and one more than the last, (n, 2)."""

GUARD = 2**10
"""Characters on either side of a piece that are encoded with it and then dropped."""
_TRIES = 16


class NoPlaceError(ValueError):
    """A text cannot be encoded in pieces."""


def encode(
    text: str, tokens_of: Callable[[str], Tokens], size: int = PIECE, guard: int = GUARD
) -> Iterator[np.ndarray]:
    """Yield the ids of a text, piece by piece; together they are those of the whole text, without special tokens.

    Each piece is encoded with characters on both sides of it, so that neither the begin nor the end of a text is seen where
    there is none. A cut lies where a token ends and another begins, before a space if there is one, and counts only if the
    tokens around it come out the same whichever side the text is entered from.

    Args:
        text: the whole text.
        tokens_of: encodes a text; about `size` characters at once.
        size: characters of a piece.
        guard: characters that are encoded with it on either side.

    Raises:
        NoPlaceError: there is no such place.
    """
    start = 0
    while True:
        left = max(0, start - guard)
        ids, spans = tokens_of(text[left : start + size + guard])
        first = _index(spans, start - left) if start else 0
        if first is None:
            raise NoPlaceError(_complaint(start, start + size))
        if start + size + guard >= len(text):
            yield ids[first:]
            return
        cut = next(_cuts(text, left, (ids, spans), start, start + size, tokens_of, guard), None)
        if cut is None:
            raise NoPlaceError(_complaint(start, start + size))
        yield ids[first : _index(spans, cut - left)]
        start = cut


def _cuts(
    text: str, left: int, tokens: Tokens, start: int, end: int, tokens_of: Callable[[str], Tokens], guard: int
) -> Iterator[int]:
    """Yield places between two characters where the text may be cut, from the second half of a piece, the last ones first."""
    ends = left + np.unique(tokens[1][:, 1])[::-1]
    places = ends[(ends > (start + end) // 2) & (ends < end)].tolist()
    at_space = (at for at in places if text[at].isspace() and not text[at - 1].isspace())
    for at in [*itertools.islice(at_space, _TRIES), *places[:_TRIES]]:
        if _index(tokens[1], at - left) is None:
            continue
        begin = max(0, at - guard)
        if _near(tokens, at - left, guard // 2) == _near(tokens_of(text[begin : at + guard]), at - begin, guard // 2):
            yield at


def _complaint(start: int, end: int) -> str:
    return (
        f"characters {start + 1} to {end} have no place where this tokenizer could begin anew; a text of more than "
        f"{PIECE} characters must have one, such as a space between two words"
    )


def _index(spans: np.ndarray, at: int) -> int | None:
    """Return the number of the first token after a place, None where a token reaches across it."""
    starts, ends = spans[:, 0], spans[:, 1]
    right = int(np.searchsorted(ends, at, side="right"))
    if (np.diff(ends) < 0).any() or (right < len(ends) and starts[right] < at):
        return None
    # A token without characters at the place could belong to either side.
    return None if right and starts[right - 1] == at else right


def _near(tokens: Tokens, at: int, reach: int) -> list[list[int]]:
    """Return the tokens within reach of a place: where they stand beside it, and their ids."""
    ids, spans = tokens
    near = (spans[:, 0] >= at - reach) & (spans[:, 1] <= at + reach)
    return [*(spans[near] - at).tolist(), ids[near].tolist()]
