# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""`python -m modeling_vanilla doctor`: look for what goes wrong in a text model without an error."""

import argparse
import contextlib
import json
import math
import sys
import warnings
from collections.abc import Sequence

import transformers
from huggingface_hub.utils import enable_progress_bars, tqdm
from transformers.utils import logging

from .checks import (
    batch,
    empty_row,
    future,
    ignored_labels,
    kernels,
    label_alignment,
    left_padding,
    packing,
    padding_values,
    right_padding,
    wrong_mask,
)
from .folder_checks import finite, save_load, special_ids, tied, tokenizer, weights
from .generation import cache, cache_reorder, generate_forward, generation, unknown_input
from .subject import Check, Finding, Subject, load, printable
from .versions import compare as compare_versions

# Name, function, what it means that the check passes, that it fails, and what its result is compared with.
CHECKS = [
    Check(*row)
    for row in (
        (
            "weights",
            weights,
            "the folder holds every weight",
            "weights are new random numbers, are left out, or are not those of the file",
            "the tensors of the files; what the config asks for",
        ),
        ("finite", finite, "every weight is a number", "weights are NaN or infinite", "nothing: it has to hold"),
        (
            "save-load",
            save_load,
            "comes back from a folder to the bit",
            "does not come back from a folder",
            "the model before; buffers of no file also with a new model's",
        ),
        (
            "tied",
            tied,
            "weights are tied as the config says",
            "weights are not tied as the config says",
            "`tie_word_embeddings` of the config",
        ),
        (
            "special-ids",
            special_ids,
            "configs and tokenizer agree",
            "ids that do not exist, or contradict each other",
            "each other, and the rows of the embedding",
        ),
        (
            "tokenizer",
            tokenizer,
            "fits the embedding and undoes itself",
            "does not fit the model, or loses text",
            "the sentence itself; the rows of the embedding",
        ),
        (
            "batch",
            batch,
            "rows of a batch do not meet",
            "a row's output depends on the other rows",
            "each row alone",
        ),
        (
            "left-padding",
            left_padding,
            "forward() does not see padding on the left",
            "padding on the left changes what forward() gives: pad on the right",
            "each text alone, without a mask",
        ),
        (
            "right-padding",
            right_padding,
            "forward() does not see padding on the right",
            "padding on the right changes what forward() gives",
            "each text alone, without a mask",
        ),
        (
            "padding-values",
            padding_values,
            "ids under the mask do not matter",
            "ids under the mask change the output: put nothing but pad_token_id there",
            "the same batch with `pad_token_id` there, which the two checks above compare with the text alone",
        ),
        (
            "wrong-mask",
            wrong_mask,
            "a mask of the wrong length is refused",
            "a mask that is too short is accepted, and something else is computed",
            "nothing: it has to be an error",
        ),
        (
            "empty-row",
            empty_row,
            "a row without a token gives numbers",
            "a row without a token gives NaN or infinity",
            "nothing: it has to hold",
        ),
        (
            "kernels",
            kernels,
            "eager and sdpa attention agree",
            "the output depends on the attention kernel",
            "eager, which is the equation written out",
        ),
        (
            "future",
            future,
            "no logit depends on a later token",
            "logits depend on later tokens: training can cheat",
            "nothing: the gradient has to be 0",
        ),
        (
            "cache",
            cache,
            "a text in pieces is the text",
            "the cache changes the logits",
            "one pass over the whole text, without a cache",
        ),
        (
            "cache-reorder",
            cache_reorder,
            "beams can change places in the cache",
            "beam search reads another beam",
            "one pass over the rows in their new places, without a cache",
        ),
        (
            "packing",
            packing,
            "texts packed in a row do not meet",
            "packed texts see each other: do not pack",
            "each text alone",
        ),
        (
            "generate-forward",
            generate_forward,
            "generate() with a cache is forward() without one",
            "generate() loses what it has read: every text is wrong",
            "a pass over the whole text for each new token, without a cache",
        ),
        (
            "generation",
            generation,
            "generate() does not see padding in a batch",
            "generate() gives something else in a padded batch",
            "the same passes over each row alone",
        ),
        (
            "unknown-input",
            unknown_input,
            "an input of an unknown name is noticed",
            "an input of an unknown name is lost, and nothing says so",
            "nothing: it has to be an error, or to change the result",
        ),
        (
            "label-alignment",
            label_alignment,
            "the loss is the one of its own logits and labels",
            "the loss is not that of its logits and labels",
            "the likelihood written out; logits of a call without labels, for a target that is moved here",
        ),
        (
            "ignored-labels",
            ignored_labels,
            "a batch without labels does no harm",
            "one batch in which all labels are -100 ruins the weights",
            "nothing: the loss has to be finite",
        ),
    )
]


class Parser(argparse.ArgumentParser):
    """A parser of one command: `-h` prints its help, and a wrong word is a ValueError of one line."""

    def __init__(self, command: str, description: str, example: str):
        super().__init__(
            prog=f"python -m modeling_vanilla {command}",
            description=description,
            epilog=f"example: python -m modeling_vanilla {example}",
            allow_abbrev=False,
        )
        self.command = command

    def error(self, message: str):
        raise ValueError(f"{self.command}: {message}")


def _parse(words: Sequence[str]) -> argparse.Namespace:
    names = [check.name for check in CHECKS]
    parser = Parser(
        "doctor",
        "Look for what goes wrong in any text model without an error: padding, caches, generate, masks, labels, saved "
        "files. Exit code 1: a check failed.",
        "doctor runs/dates-en-ko --checks cache,generation",
    )
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
    options = parser.parse_args(list(words))
    if unknown := [name for name in options.checks if name not in names]:
        raise ValueError(f"doctor: no check {unknown[0]!r}; one of {', '.join(names)}")
    return options


def examine(subject: Subject, names: Sequence[str] | None = None, show_progress: bool = False) -> list[Finding]:
    """Run the checks, all of them or those named, and return a finding of each, in the order of CHECKS."""
    chosen = [check for check in CHECKS if names is None or check.name in names]
    if show_progress:
        enable_progress_bars("modeling_vanilla")
    # `None`: only where the standard error is a terminal.
    bar = tqdm(chosen, disable=None if show_progress else True, leave=False, name="modeling_vanilla.doctor")
    return [check(subject) for check in bar]


def number(value: float | None) -> str:
    """Write counts as counts and measures with two digits."""
    if value is None:
        return ""
    return str(int(value)) if math.isfinite(value) and value == int(value) else f"{value:.1e}"


def table(findings: Sequence[Finding]) -> str:
    """Return one line for each finding under a head."""
    rows = [("check", "outcome", "measured", "limit", "meaning")]
    rows += [(f.name, f.outcome, number(f.measured), number(f.limit), printable(f.meaning)) for f in findings]
    return "\n".join(f"{a:<17}{b:<9}{c:>9}{d:>9}  {e}".rstrip() for a, b, c, d, e in rows)


def as_json(model: str, subject: Subject, findings: Sequence[Finding]) -> str:
    """Return the report as a JSON object; a measure that is NaN or infinite is a string in it."""

    def plain(value):
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    report = {
        "model": model,
        "class": type(subject.model).__name__,
        "transformers": transformers.__version__,
        "seed": subject.seed,
        "failed": [f.name for f in findings if f.outcome == "FAIL"],
        "findings": [{name: plain(value) for name, value in vars(f).items()} for f in findings],
    }
    return json.dumps(report, indent=2)  # escaped: a terminal may be where it is shown


def doctor(words: Sequence[str]) -> int:
    """Examine the model that the words of a command line name, and print the report.

    Returns:
        1 when a check failed, else 0.

    Raises:
        ValueError: A word is wrong, or the model cannot be loaded; see `subject.load`. A version of transformers
            cannot be had; see `versions`.
    """
    options = _parse(words)
    if options.transformers:
        inner = [options.model, "--checks", ",".join(options.checks), "--seed", str(options.seed)]
        inner += ["--trust-remote-code"] * options.trust_remote_code
        return compare_versions(options.model, options.transformers, inner, options.json)
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
    failed = sum(f.outcome == "FAIL" for f in findings)
    skipped = sum(f.outcome == "skipped" for f in findings)
    if options.json:
        print(as_json(options.model, subject, findings))
    else:
        print(f"{options.model}: {type(subject.model).__name__}\n\n{table(findings)}\n")
        print(f"{len(findings) - failed - skipped} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0)
