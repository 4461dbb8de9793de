"""Texts from files: one text per line, or one per row and column of a table; `.gz` anywhere."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokenizer.pieces import LONGEST_LINE, read_lines

_DELIMITERS = {".tsv": "\t", ".csv": ","}


def read_texts(paths: Sequence[str | Path], columns: Sequence[str] = (), keep_newlines: bool = False) -> Iterator[str]:
    """Yield the texts of the files, in order.

    A line ends at a line feed and nowhere else (not at U+2028 or a vertical tab); a carriage return before it belongs
    to the line end. A byte order mark at the start is dropped.

    Args:
        paths: text files, or `.tsv` / `.csv` tables; each may end in `.gz`.
        columns: of a table: names from its first row, or 0-based numbers (then the first row is data like the others).
        keep_newlines: end each line of a text file with its line feed, for tokenizers to which it is a character.

    Raises:
        ValueError: a file is missing, empty, not UTF-8, or lacks a column.
    """
    for path in map(Path, paths):
        check_file(path, columns)
    for path in map(Path, paths):
        delimiter = _delimiter(path)
        if delimiter is not None:
            yield from _cells(path, delimiter, columns)
            continue
        for line in _lines(path):
            text = line.removesuffix("\n").removesuffix("\r")
            yield text + "\n" if keep_newlines else text


def check_file(path: Path, columns: Sequence[str] = ()) -> None:
    """Refuse a file that cannot be read before the first one is opened, so that no work is lost.

    Raises:
        ValueError: the file is missing, a folder, empty, or a table for which no column is named.
    """
    if not path.is_file():
        raise ValueError(f"{path}: {'is a folder, must be a file' if path.is_dir() else 'no such file'}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: the file is empty, must hold at least one line")
    if _delimiter(path) is not None and not columns:
        raise ValueError(f"{path}: a table needs --column NAME, or --column 0 for its first column")


def _delimiter(path: Path) -> str | None:
    """Return what separates the cells of a table, or None for plain text."""
    name = path.name.removesuffix(".gz")
    return _DELIMITERS.get(Path(name).suffix.lower())


def _lines(path: Path) -> Iterator[str]:
    """Yield the lines with their ends. Bytes are split first, so that a wrong one can be named by its line."""
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            for number, line in enumerate(read_lines(stream, path), start=1):
                if line is None:
                    raise ValueError(f"{path}:{number}: a line of more than {LONGEST_LINE} bytes, must be shorter")
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        bad = error.object[error.start : error.start + 1].hex()
        raise ValueError(f"{path}:{number}: byte 0x{bad} is not UTF-8, convert the file to UTF-8") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: not a whole gzip file ({error})") from error
    if number == 0:
        raise ValueError(f"{path}: the file is empty, must hold at least one line")


def _cells(path: Path, delimiter: str, columns: Sequence[str]) -> Iterator[str]:
    # A tab-separated file has no quoting: a lone " in a sentence must not swallow the lines after it.
    rows = csv.reader(
        _lines(path), delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    )
    indices: list[int] = []
    try:
        for row in rows:
            if not indices:
                indices = _indices(path, row, columns)
                if not all(column.isdecimal() for column in columns):
                    continue
            for column, index in zip(columns, indices, strict=True):
                if index >= len(row):
                    raise ValueError(f"{path}:{rows.line_num}: no column {column}, the row has {len(row)} cells")
                yield row[index]
    except csv.Error as error:
        raise ValueError(f"{path}:{rows.line_num}: not a readable table ({error})") from error


def _indices(path: Path, first_row: list[str], columns: Sequence[str]) -> list[int]:
    """Return the place of each column: by number if all are numbers, else by its name in the first row."""
    if all(column.isdecimal() for column in columns):
        return [int(column) for column in columns]
    for column in columns:
        if column not in first_row:
            raise ValueError(f"{path}:1: column {column!r} must be one of {', '.join(first_row)}")
    return [first_row.index(column) for column in columns]
