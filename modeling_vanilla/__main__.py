# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The command line: `python -m modeling_vanilla COMMAND ...`. It parses, calls, and turns errors into one line."""

import argparse
import gc
import io
import sys
from collections.abc import Callable, Sequence

from transformers.utils import logging

from .convert.command import convert
from .doctor.command import doctor
from .doctor.subject import printable
from .lines.command import classify, fill, generate, translate
from .look.command import command as look
from .serve.command import serve

USAGE = """usage: python -m modeling_vanilla COMMAND ...

  translate MODEL [FILE]   each line of a file or of standard input, to standard output or --output
  generate MODEL [FILE]    go on writing behind each line
  fill MODEL [FILE]        what stands in the place of the mask of each line
  classify MODEL [FILE]    the class of each line
  serve MODEL              a decoder behind the interface of OpenAI, by transformers' own server
  convert SOURCE TARGET    BERT, RoBERTa, GPT-2, BART or Marian to Vanilla, or back
  doctor MODEL             look for what goes wrong in any text model without an error
  look MODEL TEXT          see where the heads of any text model look: a page, a picture, numbers

COMMAND -h describes a command and its options.

Exit codes: 0 done, 1 a check failed, 2 a mistake in the input: one line says which, and nothing is written."""


# One word, one function: it adds its options to the parser, parses the words behind its own, and returns the exit code.
COMMANDS: dict[str, Callable[[argparse.ArgumentParser, Sequence[str]], int]] = {
    "translate": translate,
    "generate": generate,
    "fill": fill,
    "classify": classify,
    "serve": serve,
    "convert": convert,
    "doctor": doctor,
    "look": look,
}


class Parser(argparse.ArgumentParser):
    """A parser of one command: `-h` prints its help, and a wrong word is a ValueError of one line."""

    def __init__(self, command: str):
        super().__init__(prog=f"python -m modeling_vanilla {command}", allow_abbrev=False)
        self.command = command

    def error(self, message: str):
        raise ValueError(f"{self.command}: {message}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a console that cannot print a character shows its escape
            stream.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if words else 2
    try:
        if words[0] not in COMMANDS:
            raise ValueError(f"{words[0]}: no such command; one of {', '.join(COMMANDS)}")
        return COMMANDS[words[0]](Parser(words[0]), words[1:])
    except SystemExit:  # argparse, after the help of a command
        return 0
    except (ValueError, OSError) as error:
        print(f"modeling_vanilla: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    gc.freeze()  # what is imported stays: no search for garbage there, above all not at the end
    # What is wrong is told in one line of ours, not in a table and two bars.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.exit(main())
