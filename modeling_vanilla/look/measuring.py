# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`look --report` and `look --search`: their options, and what they print."""

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from . import report_figure, report_text, search_text
from .examples import example, of_row, read_gold
from .reading import Text
from .report import report
from .search import Result, searches


def add_options(parser: ArgumentParser) -> None:
    """Add the options of the report and of the search."""
    parser.add_argument("--report", action="store_true", help="measure what each head is worth, and print a table")
    parser.add_argument(
        "--gold",
        metavar="FILE",
        type=Path,
        help="with --report, in place of TEXT: lines of JSON with source, target, and gold, for each character of target "
        "the places of the characters of source that decide it (without it: the words that target takes over from source); or "
        "with context, question, answer and start: gold is the sentence that holds the answer",
    )
    parser.add_argument(
        "--integrated",
        metavar="N",
        type=int,
        default=8,
        help="with --report: integrated gradients of the first N texts (they are slow); default: 8",
    )
    endings = ", ".join(ending.removeprefix(".") for ending in report_figure.ENDINGS)
    parser.add_argument("--report-to", metavar="FILE", type=Path, help=f"with --report: a picture of it: {endings}")
    parser.add_argument("--search", action="store_true", help="print the search as a tree: what died where, and why")
    parser.add_argument(
        "--beams", metavar="N,...", default="4", help="with --search; default: 4; several are compared"
    )
    parser.add_argument("--length-penalty", metavar="X,...", default="1", help="with --search; default: 1")
    parser.add_argument("--json", action="store_true", help="print the report, or the search, as JSON")


def check(options: Namespace) -> None:
    """See that the options fit together, and read the file that they name into `options.rows`.

    Raises:
        ValueError: They do not; see `examples.read_gold`.
    """
    if options.to is None and not options.report and not options.search:
        raise ValueError("--to: missing; a page, a picture, --report or --search is what there is to be had")
    if options.gold is not None and (not options.report or options.search or options.to):
        raise ValueError("--gold: belongs to --report, without --search and --to")
    if (options.text is None) == (options.gold is None):
        raise ValueError("TEXT: must be given, or --gold in its place")
    if options.question is not None and (options.text is None or options.target is not None or options.search):
        raise ValueError("--question: belongs to TEXT, without --target and --search")
    if options.report_to is not None and not options.report:
        raise ValueError("--report-to: belongs to --report")
    if options.report_to is not None:
        report_figure.check(options.report_to)
    if options.json and options.report == options.search:
        raise ValueError("--json: must have one of --report and --search")
    if options.integrated < 0:
        raise ValueError(f"--integrated: {options.integrated} must be at least 0")
    beams_of(options)
    penalties_of(options)
    if options.gold is not None:
        options.rows = read_gold(options.gold)


def beams_of(options: Namespace) -> list[int]:
    """Read the numbers of beams."""
    words = options.beams.split(",")
    if not all(word.isascii() and word.isdecimal() and len(word) < 3 and 1 <= int(word) <= 64 for word in words):
        raise ValueError(f"--beams: {options.beams!r} must be whole numbers in 1..64, such as 1,4")
    return [int(word) for word in words]


def penalties_of(options: Namespace) -> list[float]:
    """Read the length penalties."""
    try:
        penalties = [float(word) for word in options.length_penalty.split(",")]
    except ValueError:
        penalties = [math.nan]
    if not all(math.isfinite(penalty) for penalty in penalties):
        raise ValueError(f"--length-penalty: {options.length_penalty!r} must be numbers, such as 0.6,1")
    return penalties


def text_of(options: Namespace) -> Text:
    """Return what the model reads: a text, or a question and its text."""
    return options.text if options.question is None else (options.question, options.text)


def reported(model: PreTrainedModel, tokenizer: Any, options: Namespace) -> str:
    """Return the report on one text, or on those of a file with gold."""
    if options.gold is None:
        texts = [example(model, tokenizer, text_of(options), options.target)]
    else:
        texts = [of_row(model, tokenizer, row) for row in options.rows]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    figures = report(model, texts, pad, options.integrated)
    if options.report_to is not None:
        report_figure.draw(figures, options.report_to)
    if options.json:
        return report_text.as_json(figures, options.model, type(model).__name__)
    return report_text.table(figures)


def searched(model: PreTrainedModel, tokenizer: Any, options: Namespace) -> list[Result]:
    """Return the searches of a text, one for each number of beams and length penalty."""
    return searches(model, tokenizer, options.text, options.target, beams_of(options), penalties_of(options))


def shown(results: list[Result], options: Namespace) -> str:
    """Return the searches as text: the tree of the first, and a table of all."""
    if options.json:
        return search_text.as_json(results)
    return f"{search_text.tree(results[0].search)}\n\n{search_text.table(results)}"
