# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The command line: `python -m modeling_vanilla COMMAND ...`. It parses, calls, and turns errors into one line."""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers.utils import logging

from .base import VanillaPreTrainedModel
from .convert import for_ctranslate2, from_transformers, load, to_transformers
from .convert.folders import check_target, complete_folder, copy_tokenizer, write_folder
from .doctor.report import Parser, doctor
from .doctor.subject import printable

USAGE = """usage: python -m modeling_vanilla COMMAND ...

  convert SOURCE TARGET    BERT, RoBERTa, GPT-2, BART or Marian to Vanilla, or back
  doctor MODEL             look for what goes wrong in any text model without an error

COMMAND -h describes a command and its options.

Exit codes: 0 done, 1 a check failed, 2 a mistake in the input: one line says which, and nothing is written."""


def convert(words: list[str]) -> None:
    """Convert one model folder into another."""
    parser = Parser(
        "convert",
        "Convert BERT, RoBERTa, GPT-2, BART or Marian to Vanilla, or Vanilla to BERT, GPT-2, BART or Marian, with "
        "tokenizer, special ids and generation settings.",
        "convert openai-community/gpt2 runs/my-gpt2",
    )
    parser.add_argument("source", metavar="SOURCE", help="a model folder, a run folder (its final/), or a Hub id")
    parser.add_argument("target", metavar="TARGET", type=Path, help="a new or an empty folder")
    parser.add_argument(
        "--ctranslate2",
        action="store_true",
        help="the Marian model of which ct2-transformers-converter makes the same translator",
    )
    options = parser.parse_args(words)
    source, target = options.source, options.target
    check_target(target)
    model = load(source)
    if not isinstance(model, VanillaPreTrainedModel):
        if options.ctranslate2:
            raise ValueError(f"--ctranslate2 needs a Vanilla model, {source} holds a {type(model).__name__}")
        converted = from_transformers(model)
    else:
        converted = for_ctranslate2(model) if options.ctranslate2 else to_transformers(model)

    def fill(folder: Path) -> None:
        converted.save_pretrained(folder)
        copy_tokenizer(complete_folder(source, lambda config: None), folder)

    write_folder(target, fill)
    print(f"{target}: {type(converted).__name__}, from {type(model).__name__}")


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {"convert": convert, "doctor": doctor}


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
        return COMMANDS[words[0]](words[1:]) or 0
    except SystemExit:  # argparse, after the help of a command
        return 0
    except (ValueError, OSError) as error:
        print(f"modeling_vanilla: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    # What is wrong is said in one line of ours, not in a table and two bars.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.exit(main())
