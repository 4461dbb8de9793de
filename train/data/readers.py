r"""Read text, tables and parallel text, gz or not, and say of every row where it stands.

A line ends at "\n" and nowhere else (not at U+2028 or a form feed); "\r" before it belongs to the line end. Text is UTF-8; a
byte order mark at the start of a file is not part of it. A table is tsv (no quoting), csv (quoting as in RFC 4180) or json:
an object per line, or one array of objects.
"""

import csv
import gzip
import itertools
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from tokenizer import pieces
from tokenizer.pieces import LONGEST_LINE
from train import files
from train.data import causes
from train.errors import UserError
from train.tasks import LISTS, NUMBERS

LARGEST_ARRAY = 2**32
"""Bytes of a file that holds one JSON array: it is read as a whole."""
SUFFIXES = {".jsonl": "json"} | {f".{kind}": kind for kind in ("tsv", "csv", "json", "conllu", "conll")}
Column = int | str


@dataclass(frozen=True)
class Bad:
    """A line that breaks a rule: stands where its values would stand."""

    rule: str


Values = tuple[Any, ...]  # each a text, or a tuple of texts
Row = tuple[str, int, Values | Bad]  # file, line counted from 1, values


def format_of(path: Path) -> str:
    """Return text, or a format that has columns, by the file's name."""
    name = path.name.removesuffix(".gz")
    return SUFFIXES.get(Path(name).suffix.lower(), "text")


def read_text(path: Path) -> Iterator[Row]:
    for line, text in read_lines(path):
        yield str(path), line, text if isinstance(text, Bad) else (text,)


def read_parallel(paths: Sequence[Path]) -> Iterator[Row]:
    """Yield the lines of several files side by side.

    Raises:
        UserError: one file has more lines than another.
    """
    for number, sides in enumerate(itertools.zip_longest(*map(read_text, paths)), start=1):
        if None in sides:
            counts = [f"{path} has {sum(1 for _ in read_lines(path))} lines" for path in paths]
            raise UserError(f"{paths[0]}:{number}: {', '.join(counts)}; parallel files must have equally many")
        joined: Values = ()
        for side in sides:
            if isinstance(side[2], Bad):
                yield side
                break
            joined += side[2]
        else:
            yield sides[0][0], number, joined


def read_table(path: Path, kind: str, columns: dict[str, Column]) -> Iterator[Row]:
    """Yield the named columns of a tsv, csv or json file.

    Args:
        path: the file.
        kind: tsv, csv or json.
        columns: field of the recipe -> name or number of the column. A name means that a tsv or csv file has a header line.

    Raises:
        UserError: a column is missing from the header.
    """
    if kind == "json":
        yield from _json_rows(path, columns)
        return
    records: Iterator[tuple[int, list[str] | Bad]]
    if kind == "tsv":  # nothing is quoted
        records = ((line, text if isinstance(text, Bad) else text.split("\t")) for line, text in read_lines(path))
    else:
        records = _csv_records(path)
    header: list[str] | None = None
    for line, record in records:
        if isinstance(record, Bad):
            yield str(path), line, record
        elif header is None and any(isinstance(column, str) for column in columns.values()):
            header = record
            columns = {name: _position(path, kind, header, name, column) for name, column in columns.items()}
        else:
            yield str(path), line, _pick(record, columns)


def read_whole(path: Path, most: int = LONGEST_LINE) -> str:
    """Return the text of a file, every character of it.

    Args:
        path: the file.
        most: bytes that it may have, unpacked.

    Raises:
        UserError: the file is missing, is not UTF-8 or has too many bytes.
    """
    blocks, size = [], 0
    with _open(path) as file:
        while block := _guard(path, lambda: file.read(1 << 20)):
            size += len(block)
            _guard(path, lambda: pieces.refuse_bomb(path, size))  # noqa: B023
            if size > most:
                raise UserError(f"{path}: more than {most} bytes; one text must be shorter")
            blocks.append(block)
    data = b"".join(blocks)
    del blocks
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        rule = f"byte 0x{data[error.start]:02x} found; text must be UTF-8"
        raise UserError(f"{path}:{line}: {rule}{causes.guess(path)}") from None


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file for its bytes, unpacked."""
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; it must be a readable file") from None


def _guard(path: Path, read: Any) -> Any:
    """Read, and name the file where its compression is broken."""
    try:
        return read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: {error}; it must be a readable, complete file") from None
    except ValueError as error:  # of `pieces`: too much comes out of a packed file
        raise UserError(str(error)) from None


def read_lines(path: Path) -> Iterator[tuple[int, str | Bad]]:
    """Yield (line number, line) with the line end taken off."""
    with _open(path) as file:
        lines = pieces.read_lines(file, path)
        for number in itertools.count(1):
            data = _guard(path, lambda: next(lines, b""))
            if data is None:
                yield number, Bad(f"a line of more than {LONGEST_LINE} bytes; it must be shorter")
                continue
            if not data:
                return
            if number == 1 and causes.is_whole_file(data):
                raise UserError(f"{path}:1: no line of UTF-8 text{causes.guess(path)}")
            data = data.removesuffix(b"\n").removesuffix(b"\r")
            try:
                yield number, data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                yield number, Bad(f"byte 0x{data[error.start]:02x} found; text must be UTF-8")


def _csv_records(path: Path) -> Iterator[tuple[int, list[str] | Bad]]:
    """Yield the fields between commas, with the line a record starts on; a quoted field may hold line ends."""
    csv.field_size_limit(LONGEST_LINE)  # the default of 128 KiB refuses long documents
    broken: list[tuple[int, Bad]] = []

    def feed() -> Iterator[str]:
        for line, text in read_lines(path):
            if isinstance(text, Bad):
                broken.append((line, text))
                text = ""  # keeps the reader's count of lines right; csv drops an empty line
            yield text + "\n"

    reader = csv.reader(feed(), strict=True)
    start = 1
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            yield start, Bad(f"{error}; csv must close its quotes and double those inside")
            record = []
        yield from broken
        broken.clear()
        if record is None:
            return
        if record:
            yield start, record
        start = reader.line_num + 1


def _position(path: Path, kind: str, header: list[str], name: str, column: Column) -> int:
    if isinstance(column, int):
        return column
    if header.count(column) != 1:
        raise UserError(
            f"{path}:1: data.{name}: {column!r} must be exactly one of the header's columns, {', '.join(header)!r}"
            + causes.guess(path, kind)
        )
    return header.index(column)


def _pick(record: list[str], columns: dict[str, Any]) -> Values | Bad:
    last = max(columns.values())
    if len(record) <= last:
        return Bad(f"{len(record)} column(s) found; there must be at least {last + 1}")
    return tuple(record[column] for column in columns.values())


def _json_rows(path: Path, columns: dict[str, Column]) -> Iterator[Row]:
    """Yield the columns of objects; for one array, the line is the number of the element."""
    records: Iterable[tuple[int, Any]] = _json_array(path) if _starts_with_bracket(path) else _json_lines(path)
    for line, record in records:
        yield str(path), line, record if isinstance(record, Bad) else pick_fields(record, columns)


def _starts_with_bracket(path: Path) -> bool:
    """Tell one array from an object per line."""
    with _open(path) as file:
        return _guard(path, lambda: file.read(64)).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def _json_array(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield the elements of the one array a file holds."""
    try:
        elements = files.parse_json(read_whole(path, most=LARGEST_ARRAY))
    except files.JsonError as error:
        raise UserError(f"{path}:{error.line}: {error.rule}") from None
    yield from enumerate(elements, start=1)


def _json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield an object per line; an empty line is no row."""
    for line, text in read_lines(path):
        if isinstance(text, Bad):
            yield line, text
        elif text.strip():
            try:
                yield line, files.parse_json(text)
            except files.JsonError as error:
                yield line, Bad(f"{error.rule}, one object a line")


def pick_fields(record: Any, columns: dict[str, Column]) -> Values | Bad:
    """Take the columns out of an object; `a.b` reaches into an object inside it, a label may be a number.

    Args:
        record: a row.
        columns: field of the recipe -> name; those of `LISTS` hold lists. An answer may stand alone, or be none.
    """
    if not isinstance(record, dict):
        return Bad(f"{type(record).__name__} found; a row must be a JSON object")
    values = []
    for name, column in columns.items():
        value: Any = record
        for key in [column] if column in record else str(column).split("."):
            value = value.get(key) if isinstance(value, dict) else None
        is_list, is_label = name.removesuffix("_column") in LISTS, name in ("label_column", "tags_column")
        is_number = name.removesuffix("_column") in NUMBERS
        if name in ("answer_column", "start_column") and not isinstance(value, list):
            value = [] if value in (None, "") else [value]
        if is_list and not isinstance(value, list):
            return Bad(f"{column!r} is {_shown(value)}; it must be a list of texts")
        texts = [
            str(int(one)) if is_label and isinstance(one, int) else one for one in (value if is_list else [value])
        ]
        if fault := next((_fault(one, is_number) for one in texts if _fault(one, is_number)), None):
            return Bad(f"{column!r} {'has an item that ' * is_list}{fault}")
        values.append(tuple(texts) if is_list else texts[0])
    return tuple(values)


def _fault(value: Any, is_number: bool = False) -> str | None:
    """Say what is wrong with what should be a text, or a number."""
    if is_number:
        is_right = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**31
        return None if is_right else f"is {_shown(value)}; it must be a whole number"
    if not isinstance(value, str):
        return f"is {_shown(value)}; it must be text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair; it must be Unicode text"
    return None


def _shown(value: Any) -> str:
    """Return a value that is no text in few words."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "null" if value is None else str(value).lower()[:40]
