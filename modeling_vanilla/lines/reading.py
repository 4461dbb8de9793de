# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Lines of a file or of standard input, and what tells one input from another."""

import contextlib
import hashlib
import itertools
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

WINDOW = 4096
"""Lines that are read at once: sorted by length within, and written in the order in which they came."""
BLOCK = 1 << 20  # bytes


def name_of(path: Path | None) -> str:
    """Return what an input is called in messages."""
    return "standard input" if path is None else str(path)


def lines(path: Path | None, start: int = 0) -> Iterator[str]:
    """Yield the lines of a file, or of standard input, without their ends; the first `start` are left out.

    Raises:
        ValueError: A line is not UTF-8.
        OSError: The file cannot be read.
    """
    source = contextlib.nullcontext(sys.stdin.buffer) if path is None else path.open("rb")
    with source as file:
        for number, line in enumerate(file):
            if number < start:
                continue
            try:
                text = line.decode("utf-8" if number else "utf-8-sig")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{name_of(path)}, line {number + 1}: byte {error.start + 1} is not UTF-8 ({error.reason})"
                ) from error
            yield text.rstrip("\r\n")


def windows(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield up to `WINDOW` texts at a time."""
    iterator = iter(texts)
    while window := list(itertools.islice(iterator, WINDOW)):
        yield window


def count_and_hash(path: Path) -> tuple[int, str]:
    """Return the number of lines of a file, and its sha256."""
    count, last, digest = 0, b"\n", hashlib.sha256()
    with path.open("rb") as file:
        for block in blocks(file):
            digest.update(block)
            count += block.count(b"\n")
            last = block[-1:]
    return count + (last != b"\n"), digest.hexdigest()


def hash_of_files(paths: Iterable[Path]) -> str:
    """Return one sha256 of the names and contents of files."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        with path.open("rb") as file:
            for block in blocks(file):
                digest.update(block)
    return digest.hexdigest()


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the content of a file piece by piece."""
    return iter(lambda: file.read(BLOCK), b"")
