# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Lines come as they stand in the file, whatever their ends; what is not text is named by its line."""

import hashlib
import io
import sys

import pytest

from modeling_vanilla.lines import reading


@pytest.fixture
def file_of(tmp_path):
    """Return a function that writes bytes to a file."""

    def write(content: bytes):
        path = tmp_path / "text"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\n\nb", ["a", "", "b"]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),  # a mark of the file, a character of the line
        (" a\u2028b\x0c\t\n".encode(), [" a\u2028b\x0c\t"]),  # breaks for Python, not for `wc -l`
    ],
)
def test_lines(file_of, monkeypatch, content, texts):
    path = file_of(content)
    assert list(reading.lines(path)) == texts
    assert list(reading.lines(path, start=1)) == texts[1:]
    assert reading.count_and_hash(path) == (len(texts), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert list(reading.lines(None)) == texts


def test_a_line_that_is_no_text_is_named(file_of):
    path = file_of("a\nzwölf\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"text, line 2: byte 3 is not UTF-8 \(invalid"):
        list(reading.lines(path))


def test_windows_hold_everything_once(monkeypatch):
    monkeypatch.setattr(reading, "WINDOW", 3)
    for count in (0, 2, 3, 7):
        windows = list(reading.windows(map(str, range(count))))
        assert [len(window) for window in windows] == [3] * (count // 3) + [count % 3] * (count % 3 > 0)
        assert [text for window in windows for text in window] == [str(number) for number in range(count)]


def test_a_hash_tells_names_and_contents_apart(tmp_path):
    paths = [tmp_path / name for name in ("ab", "c")]
    hashes = set()
    for contents in (("d", ""), ("", "d"), ("e", "")):
        for path, content in zip(paths, contents, strict=True):
            path.write_text(content)
        hashes |= {reading.hash_of_files(paths), reading.hash_of_files(reversed(paths))}
    assert len(hashes) == 3
