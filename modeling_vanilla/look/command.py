# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla look`: what a model looks at while it reads and writes: a page, a picture, a table."""

import contextlib
import re
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from transformers.utils import logging

from ..doctor.subject import Subject, load
from . import measuring
from .reading import Choice, NamedHead, look
from .view import Kind, View
from .writing import WRITERS, write, writer_of

KINDS = get_args(Kind)
PICTURES = (".png", ".svg", ".pdf")


def command(parser: ArgumentParser, words: Sequence[str]) -> int:
    """Look inside the model that the words of a command line name, and write what was seen.

    Raises:
        ValueError: A word is wrong, the model cannot be loaded, or what was asked for does not exist.
    """
    options = _parsed(parser, words)
    measuring.check(options)
    if options.to is not None:
        writer_of(options.to)
    choice = _choice(options)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        # Some models print; the output holds the name of the file and nothing else.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            subject = load(options.model, options.trust_remote_code)
            if subject.tokenizer is None:
                reason = subject.tokenizer_error or "it holds no files of one"
                raise ValueError(f"{options.model}: no tokenizer ({reason})")
            printed = _measured(subject, options, choice)
    finally:
        logging.set_verbosity(verbosity)
    print("\n\n".join(printed))
    return 0


def _measured(subject: Subject, options: Namespace, choice: Choice) -> list[str]:
    """Do what was asked for, and return what is printed of it: a report, a search, the name of the file."""
    model, tokenizer = subject.model, subject.tokenizer
    printed = [measuring.reported(model, tokenizer, options)] if options.report else []
    results = measuring.searched(model, tokenizer, options) if options.search else []
    printed += [measuring.shown(results, options)] if results else []
    if options.to is not None:
        view = look(model, tokenizer, measuring.text_of(options), options.target, choice, options.model)
        view.search = results[0].search if results else None
        if options.to.suffix.lower() in PICTURES:
            view = of_picture(view, choice)
        write(view, options.to)
        printed.append(str(options.to))
    return printed


def of_picture(view: View, choice: Choice) -> View:
    """Keep what one picture shows: unless chosen, the last layer, of the attention to the source where there is one."""
    maps = view.maps if choice.kinds is not None else view.maps[-1:]
    if choice.layers is None:
        maps = [replace(seen, layers=seen.layers[-1:], weights=seen.weights[-1:]) for seen in maps]
    return replace(view, maps=maps)


def _parsed(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    parser.description = (
        "Read a text with any text model of transformers and see where its heads look: a page with every weight, a "
        "picture, or the numbers. A decoder goes on writing, a translator translates, with settings of its own."
    )
    parser.epilog = 'example: python -m modeling_vanilla look runs/dates-en-ko "the 3rd of May, 1999" --to look.html'
    parser.add_argument("model", metavar="MODEL", help="a model folder, a run folder (its final/), or a Hub id")
    parser.add_argument("text", metavar="TEXT", nargs="?", help="what it reads")
    parser.add_argument("--target", metavar="TEXT", help="what it writes; default: what it writes by itself")
    parser.add_argument("--question", metavar="TEXT", help="what is asked about TEXT, for a model that answers")
    endings = ", ".join(ending.removeprefix(".") for ending in WRITERS)
    parser.add_argument("--to", metavar="FILE", type=Path, help=f"the file to write: {endings}")
    parser.add_argument("--layers", metavar="N,...", help="from 0; default: all, in a picture the last")
    parser.add_argument("--heads", metavar="N,...", help="from 0; default: all")
    parser.add_argument(
        "--kind", metavar="KIND,...", help=f"{', '.join(KINDS)}; default: all, in a picture the last that it has"
    )
    parser.add_argument(
        "--exact",
        metavar="[KIND.]LAYER.HEAD,...",
        help="heads with exact weights on the page; default: the four strongest",
    )
    parser.add_argument(
        "--numbers",
        metavar="[KIND.]LAYER.HEAD,...",
        help="heads with queries, keys and values, four at most; default: the strongest",
    )
    measuring.add_options(parser)
    parser.add_argument("--trust-remote-code", action="store_true", help="run code of the folder; read it first")
    return parser.parse_args(words)


def _choice(options: Namespace) -> Choice:
    kinds = None if options.kind is None else cast("list[Kind]", options.kind.split(","))
    for kind in kinds or ():
        if kind not in KINDS:
            raise ValueError(f"--kind: {kind!r} does not exist; one of {', '.join(KINDS)}")
    return Choice(
        layers=_whole_numbers("--layers", options.layers),
        heads=_whole_numbers("--heads", options.heads),
        kinds=kinds,
        exact=_heads("--exact", options.exact, kinds),
        numbers=_heads("--numbers", options.numbers, kinds),
    )


def _whole_numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,6}(,\d{1,6})*", text, re.ASCII):
        raise ValueError(f"{option}: {text!r} must be whole numbers from 0, such as 0,3")
    return [int(number) for number in text.split(",")]


def _heads(option: str, text: str | None, kinds: list[Kind] | None) -> list[NamedHead] | None:
    """Read heads: kind.layer.head, or layer.head where one kind is chosen."""
    if text is None:
        return None
    heads: list[NamedHead] = []
    for word in text.split(","):
        match = re.fullmatch(rf"(?:({'|'.join(KINDS)})\.)?(\d{{1,6}})\.(\d{{1,6}})", word, re.ASCII)
        if match is None:
            raise ValueError(f"{option}: {word!r} must be layer.head or kind.layer.head, such as 0.3 or cross.0.3")
        kind = match[1] or (kinds[0] if kinds and len(kinds) == 1 else None)
        heads.append((cast(Kind, kind), int(match[2]), int(match[3])))
    return heads
