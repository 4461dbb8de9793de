# Copyright 2026 The modeling_vanilla authors. Licensed under the Apache License, Version 2.0.
"""The checks of the doctor, in the order of its report, and the report itself."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import transformers
from huggingface_hub.utils import enable_progress_bars, tqdm

from . import checks, folder_checks, generation
from .subject import Measure, Skip, Subject, one_line, printable


@dataclass(frozen=True)
class Finding:
    """One row of the report: `outcome` is "pass", "FAIL" or "skipped"."""

    name: str
    outcome: str
    measured: float | None
    limit: float | None
    meaning: str


@dataclass(frozen=True)
class Check:
    """A check: its function, what it means that it passes, or fails, and what its result is compared with."""

    measure: Callable[[Subject], Measure]
    holds: str
    broken: str
    reference: str

    @property
    def name(self) -> str:
        """What the command line and the report call it."""
        function = getattr(self.measure, "func", self.measure)  # of `functools.partial`, which has no name
        return function.__name__.replace("_", "-")

    @torch.no_grad()
    def __call__(self, subject: Subject) -> Finding:
        """Run it; an error inside is a failure of the model, told in one line."""
        torch.manual_seed(subject.seed)
        try:
            measure = self.measure(subject)
        except Skip as reason:
            return Finding(self.name, "skipped", None, None, str(reason))
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of tokenizers is no Exception
            return Finding(self.name, "FAIL", None, None, f"stopped with {one_line(error)}")
        passed = measure.value <= measure.limit  # false for NaN
        note = f" ({measure.note})" if measure.note else ""
        meaning = (self.holds if passed else self.broken) + note
        return Finding(self.name, "pass" if passed else "FAIL", float(measure.value), float(measure.limit), meaning)


# What is measured, what it means that the check passes, that it fails, and what its result is compared with.
CHECKS = [
    Check(
        folder_checks.weights,
        "the folder holds every weight",
        "weights are new random numbers, are left out, or are not those of the file",
        "the tensors of the files; what the config asks for",
    ),
    Check(folder_checks.finite, "every weight is a number", "weights are NaN or infinite", "nothing: it has to hold"),
    Check(
        folder_checks.save_load,
        "comes back from a folder to the bit",
        "does not come back from a folder",
        "the model before; buffers of no file also with a new model's",
    ),
    Check(
        folder_checks.tied,
        "weights are tied as the config says",
        "weights are not tied as the config says",
        "`tie_word_embeddings` of the config",
    ),
    Check(
        folder_checks.special_ids,
        "configs and tokenizer agree",
        "ids that do not exist, or contradict each other",
        "each other, and the rows of the embedding",
    ),
    Check(
        folder_checks.tokenizer,
        "fits the embedding and undoes itself",
        "does not fit the model, or loses text",
        "the sentence itself; the rows of the embedding",
    ),
    Check(checks.batch, "rows of a batch do not meet", "a row's output depends on the other rows", "each row alone"),
    Check(
        checks.left_padding,
        "forward() does not see padding on the left",
        "padding on the left changes what forward() gives: pad on the right",
        "each text alone, without a mask",
    ),
    Check(
        checks.right_padding,
        "forward() does not see padding on the right",
        "padding on the right changes what forward() gives",
        "each text alone, without a mask",
    ),
    Check(
        checks.padding_values,
        "ids under the mask do not matter",
        "ids under the mask change the output: put nothing but pad_token_id there",
        "the same batch with `pad_token_id` there, which the two checks above compare with the text alone",
    ),
    Check(
        checks.wrong_mask,
        "a mask of the wrong length is refused",
        "a mask that is too short is accepted, and something else is computed",
        "nothing: it has to be an error",
    ),
    Check(
        checks.empty_row,
        "a row without a token gives numbers",
        "a row without a token gives NaN or infinity",
        "nothing: it has to hold",
    ),
    Check(
        checks.kernels,
        "eager and sdpa attention agree",
        "the output depends on the attention kernel",
        "eager, which is the equation written out",
    ),
    Check(
        checks.future,
        "no logit depends on a later token",
        "logits depend on later tokens: training can cheat",
        "nothing: the gradient has to be 0",
    ),
    Check(
        generation.cache,
        "a text in pieces is the text",
        "the cache changes the logits",
        "one pass over the whole text, without a cache",
    ),
    Check(
        generation.cache_reorder,
        "beams can change places in the cache",
        "beam search reads another beam",
        "one pass over the rows in their new places, without a cache",
    ),
    Check(
        checks.packing,
        "texts packed in a row do not meet",
        "packed texts see each other: do not pack",
        "each text alone",
    ),
    Check(
        generation.generate_forward,
        "generate() with a cache is forward() without one",
        "generate() loses what it has read: every text is wrong",
        "a pass over the whole text for each new token, without a cache",
    ),
    Check(
        generation.generation,
        "generate() does not see padding in a batch",
        "generate() gives something else in a padded batch",
        "the same passes over each row alone",
    ),
    Check(
        generation.unknown_input,
        "an input of an unknown name is noticed",
        "an input of an unknown name is lost, and nothing says so",
        "nothing: it has to be an error, or to change the result",
    ),
    Check(
        checks.label_alignment,
        "the loss is the one of its own logits and labels",
        "the loss is not that of its logits and labels",
        "the likelihood written out; logits of a call without labels, for a target that is moved here",
    ),
    Check(
        checks.ignored_labels,
        "a batch without labels does no harm",
        "one batch in which all labels are -100 ruins the weights",
        "nothing: the loss has to be finite",
    ),
]


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
