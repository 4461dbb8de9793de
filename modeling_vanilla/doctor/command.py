# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla doctor`: look for what goes wrong in a text model without an error."""

import contextlib
import sys
import warnings
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from transformers.utils import logging

from .report import CHECKS, as_json, examine, table
from .subject import load
from .versions import compare


def doctor(parser: ArgumentParser, words: Sequence[str]) -> int:
    """Examine the model that the words of a command line name, and print the report.

    Returns:
        1 when a check failed, else 0.

    Raises:
        ValueError: A word is wrong, or the model cannot be loaded; see `subject.load`. A version of transformers cannot
            be had; see `versions`.
    """
    options = _parsed(parser, words)
    if options.transformers:
        inner = [options.model, "--checks", ",".join(options.checks), "--seed", str(options.seed)]
        inner += ["--trust-remote-code"] * options.trust_remote_code
        return compare(options.model, options.transformers, inner, options.json)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        # Some models print; the output holds the report and nothing else.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            subject = load(options.model, options.trust_remote_code, options.seed)
            findings = examine(subject, options.checks, show_progress=True)
    finally:
        logging.set_verbosity(verbosity)
    failed = sum(finding.outcome == "FAIL" for finding in findings)
    skipped = sum(finding.outcome == "skipped" for finding in findings)
    if options.json:
        print(as_json(options.model, subject, findings))
    else:
        print(f"{options.model}: {type(subject.model).__name__}\n\n{table(findings)}\n")
        print(f"{len(findings) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)


def _parsed(parser: ArgumentParser, words: Sequence[str]) -> Namespace:
    names = [check.name for check in CHECKS]
    parser.description = (
        "Look for what goes wrong in any text model without an error: padding, caches, generate, masks, labels, saved "
        "files. Exit code 1: a check failed."
    )
    parser.epilog = "example: python -m modeling_vanilla doctor runs/dates-en-ko --checks cache,generation"
    parser.add_argument("model", metavar="MODEL", help="a model folder, a run folder (its final/), or a Hub id")
    parser.add_argument(
        "--checks",
        metavar="NAME,...",
        type=lambda text: text.split(","),
        default=names,
        help=f"default: all of them: {', '.join(names)}",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="draws the texts; default: 0")
    parser.add_argument("--trust-remote-code", action="store_true", help="run code of the folder; read it first")
    parser.add_argument(
        "--transformers",
        metavar="VERSION,...",
        type=lambda text: text.split(","),
        default=[],
        help="with each of these versions, side by side, such as 5.17,5.24,newest",
    )
    options = parser.parse_args(words)
    if unknown := [name for name in options.checks if name not in names]:
        raise ValueError(f"doctor: no check {unknown[0]!r}; one of {', '.join(names)}")
    return options
