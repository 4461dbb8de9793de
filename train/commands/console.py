"""What the commands share: how words are parsed, errors reported, and bars kept away."""

import os
import sys
from argparse import ArgumentError
from typing import TYPE_CHECKING

from train.errors import UserError, bounded, plain

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace


def parser_of(command: str, description: str) -> "ArgumentParser":
    """Return an empty parser for one command."""
    from jsonargparse import ArgumentParser

    return ArgumentParser(
        prog=f"python -m train {command}", description=description, exit_on_error=False, allow_abbrev=False
    )


def parse(parser: "ArgumentParser", words: list[str]) -> "Namespace":
    """Parse a command's words; a wrong one is the user's error."""
    try:
        return parser.parse_args(words)
    except (ArgumentError, TypeError, ValueError) as error:
        raise UserError(f"{parser.prog.rsplit(maxsplit=1)[-1]}: {error}") from None


def add_trust(parser: "ArgumentParser", what: str) -> None:
    """Add the flag that runs code of a repository."""
    names = ("--trust-remote-code", "--trust_remote_code")
    parser.add_argument(*names, dest="trust", action="store_true", help=f"{what}; read it first")


def without_bars() -> None:
    """Keep the bars of transformers away, which stay on the screen; those of uploads are for people at a terminal."""
    from huggingface_hub import constants
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging

    logging.disable_progress_bar()
    if sys.stderr.isatty() and not constants.HF_HUB_DISABLE_PROGRESS_BARS:
        enable_progress_bars()


def report(error: Exception | str, code: int, remedy: str = "") -> int:
    """Print an error as one line, once per machine, and what may help as another; return the exit code."""
    rank, local = os.environ.get("RANK", "0"), os.environ.get("LOCAL_RANK", "0")
    if local == "0":
        prefix = "" if rank == "0" else f"rank {rank}: "
        line = bounded(" ".join(str(error).split()))
        kind = "error: " if code <= 2 else "" if line.startswith("stopped") else "stopped: "
        print(f"{kind}{prefix}{plain(line)}", file=sys.stderr)
        if remedy:
            print(plain(remedy), file=sys.stderr)
    return code
