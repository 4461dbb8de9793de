# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The command line: `python -m modeling_vanilla COMMAND ...`. It parses, calls, and turns errors into one line."""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers.utils import logging

from .base import VanillaPreTrainedModel
from .bridge_files import check_target, complete_folder, copy_tokenizer, write_folder
from .bridges import for_ctranslate2, from_transformers, load, to_transformers
from .doctor import doctor
from .doctor_subject import printable

USAGE = """usage: python -m modeling_vanilla COMMAND ...

  convert SOURCE TARGET [--ctranslate2]   BERT, RoBERTa, GPT-2, BART or Marian to Vanilla, or Vanilla to BERT, GPT-2,
                                          BART or Marian, with tokenizer, special ids and generation settings.
                                          SOURCE is a folder or a Hub id, TARGET a new or an empty folder.
                                          --ctranslate2: the Marian model of which ct2-transformers-converter makes
                                          the same translator.
  doctor MODEL [--checks NAME,...] [--json] [--seed N] [--trust-remote-code] [--transformers VERSION,...]
                                          Look for what goes wrong in any text model without an error: padding, caches,
                                          generate, masks, labels, saved files. MODEL is a folder or a Hub id.
                                          --transformers 5.17,5.24,newest: with each of these versions, side by side.

Exit codes: 0 done, 1 a check failed, 2 a mistake in the input: one line says which, and nothing is written."""


def convert(words: list[str]) -> None:
    """Convert one model folder into another."""
    paths = [word for word in words if not word.startswith("-")]
    flags = set(words) - set(paths)
    if len(paths) != 2 or flags - {"--ctranslate2"}:
        raise ValueError(f"convert: expected SOURCE TARGET [--ctranslate2], got {' '.join(words) or 'nothing'}")
    source, target = paths[0], Path(paths[1])
    check_target(target)
    model = load(source)
    if not isinstance(model, VanillaPreTrainedModel):
        if flags:
            raise ValueError(f"--ctranslate2 needs a Vanilla model, {source} holds a {type(model).__name__}")
        converted = from_transformers(model)
    else:
        converted = for_ctranslate2(model) if flags else to_transformers(model)

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
    if not words or {"-h", "--help"} & set(words):
        print(USAGE)
        return 0 if words else 2
    try:
        if words[0] not in COMMANDS:
            raise ValueError(f"{words[0]}: no such command; one of {', '.join(COMMANDS)}")
        return COMMANDS[words[0]](words[1:]) or 0
    except (ValueError, OSError) as error:
        print(f"modeling_vanilla: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    # What is wrong is said in one line of ours, not in a table and two bars.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    sys.exit(main())
