# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""Where lines go: standard output, or a file that gets its name once it is whole and that a later run can go on with."""

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..convert.folders import make_parents, read_json

Job = dict[str, Any]
"""What decides over every line: the sha256 of the input and of the model, and the options that change a text."""


def partial_of(path: Path) -> Path:
    """Return the name of a file while it is being written."""
    return path.with_name(f"{path.name}.partial")


def job_of(path: Path) -> Path:
    """Return the file that says what the partial file beside it is made of."""
    return path.with_name(f"{path.name}.partial.json")


def check(path: Path, resumes: bool) -> None:
    """See that nothing would be overwritten.

    Raises:
        ValueError: The file exists, or a part of it that is not to be gone on with.
    """
    if path.exists():
        raise ValueError(f"{path}: exists; nothing is overwritten")
    if partial_of(path).exists() and not resumes:
        raise ValueError(f"{partial_of(path)}: exists; --resume goes on with it, without it a new run can begin")


@contextlib.contextmanager
def to_file(path: Path, job: Job, lines_per_text: int, resumes: bool) -> Iterator[tuple[BinaryIO, int]]:
    """Give a file to write to, and the number of texts that an earlier run has written there.

    The file has its name when the block has come to its end. What is left by an error can be gone on with.

    Raises:
        ValueError: See `check` and `make_parents`; or the part that is there was made of another input, model or options.
    """
    check(path, resumes)
    partial, facts = partial_of(path), job_of(path)
    make_parents(path)
    done = 0
    if partial.exists():
        earlier = read_json(facts)
        if different := sorted(key for key in job.keys() | earlier.keys() if job.get(key) != earlier.get(key)):
            raise ValueError(f"{partial}: was made with another {', '.join(different)}; it cannot be gone on with")
        done = whole_texts(partial, lines_per_text)
    else:
        facts.write_text(json.dumps(job, indent=2) + "\n", encoding="utf-8")
    try:
        with partial.open("ab") as file:
            yield file, done
        partial.replace(path)
        facts.unlink()
    finally:
        if partial.exists() and not partial.stat().st_size:
            partial.unlink()
            facts.unlink()


def whole_texts(path: Path, lines_per_text: int) -> int:
    """Count the texts all of whose lines are there, and cut off what is behind them: a torn line, a part of a text."""
    count = size = end = 0
    with path.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            count, size = count + 1, size + len(line)
            if count % lines_per_text == 0:
                end = size
        file.truncate(end)
    return count // lines_per_text


def write(file: BinaryIO, rows: list[str]) -> None:
    """Write lines so that they outlast the process."""
    file.write("".join(f"{row}\n" for row in rows).encode("utf-8"))
    file.flush()
    if file is not sys.stdout.buffer:
        os.fsync(file.fileno())


def one_line(text: str) -> str:
    """Return a text without breaks, so that it stays one line for every reader."""
    return " ".join(text.splitlines())
