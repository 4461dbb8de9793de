"""What is probably wrong with a file whose lines cannot be read: its encoding, its line ends, what stands between its fields."""

import gzip
from pathlib import Path

_LOOKED_AT = 1 << 16  # bytes, from the start
# Encodings that a Korean or a Western system still writes, and the letters that show it is the right one.
_BOUNDS = {"CP949": ("cp949", "\uac00", "\ud7a3"), "CP1252": ("cp1252", "\u00a1", "\u00ff")}
_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ENDS = "its lines end in a carriage return alone; a line must end in a line feed: tr '\\r' '\\n' < FILE > NEW"


def is_whole_file(line: bytes) -> bool:
    """Tell whether what was read as a first line is no line: another encoding, or other line ends.

    Args:
        line: with its own line end, where it has one.
    """
    return _is_utf16(line) or _has_bare_ends(line)


def _is_utf16(start: bytes) -> bool:
    """Tell UTF-16 by its mark, or by the zeros that ASCII letters have in it."""
    return start.startswith(_MARKS) or start.count(0) > len(start) // 4


def _has_bare_ends(line: bytes) -> bool:
    """Tell a whole file of lines that end in a carriage return alone."""
    ends = line.rstrip(b"\r\n").count(b"\r")
    return ends > 0 and (not line.endswith(b"\n") or ends > 100)


def guess(path: str | Path, kind: str = "text") -> str:
    """Return what is probably wrong with a file and how to put it right, as words that follow a message; "" = no idea.

    Args:
        path: the file, packed or not.
        kind: what it is read as: text, tsv, csv or json.
    """
    try:
        with gzip.open(path, "rb") if str(path).endswith(".gz") else open(path, "rb") as file:
            start = file.read(_LOOKED_AT)
    except (OSError, EOFError):
        return ""
    cause = _encoding(start) or _line_ends(start) or _separator(start, kind)
    return f"; {cause}" if cause else ""


def _encoding(start: bytes) -> str:
    """Recognise UTF-16 and the encodings of Korean and Western Windows."""
    if _is_utf16(start):
        return "it looks like UTF-16: iconv -f UTF-16 -t UTF-8 FILE > NEW"
    whole = start.rpartition(b"\n")[0] if len(start) == _LOOKED_AT else start  # the end may lie inside of a character
    try:
        whole.decode("utf-8-sig")
        return ""
    except UnicodeDecodeError:
        pass
    letters = [letter for letter in whole.decode("utf-8", errors="replace") if not letter.isascii()]
    if 2 * letters.count("\ufffd") < len(letters):
        return ""  # UTF-8 that is damaged
    for name, (codec, low, high) in _BOUNDS.items():
        text = whole.decode(codec, errors="replace")
        foreign = [letter for letter in text if not letter.isascii()]
        if sum(low <= letter <= high for letter in foreign) > 0.8 * len(foreign):
            return f"it looks like {name}: iconv -f {name} -t UTF-8 FILE > NEW"
    return ""


def _line_ends(start: bytes) -> str:
    return _ENDS if _has_bare_ends(start[: start.find(b"\n") + 1] or start) else ""


def _separator(start: bytes, kind: str) -> str:
    """Recognise fields that are separated by something else than the format says."""
    expected = {"tsv": b"\t", "csv": b","}.get(kind)
    lines = start.splitlines()[:20]
    if expected is None or not lines or sum(expected in line for line in lines) > len(lines) // 2:
        return ""
    for mark, remedy in ((b"\t", "tabs: data.format: tsv"), (b";", "';'; they must be commas"), (b",", "commas: csv")):
        if mark != expected and all(mark in line for line in lines):
            return f"its fields look separated by {remedy}"
    return ""
