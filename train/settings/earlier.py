"""What a recipe means by keys that it leaves open: those that 0.1.0 and 0.1.1 lacked, and those of a run that goes on.

A resolved recipe says what was trained: where it lacks a key, it means what those versions had built in. A recipe that was
written by hand leaves keys out because their default is meant, today's; unless a run goes on, which keeps what it was begun
with.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from train import files

# The keys that every resolved recipe holds since 0.1.0, by section: one written by hand leaves some out.
_RESOLVED = {
    "tokenizer": frozenset("path kind vocab_size lowercase min_frequency".split()),
    "optim": frozenset("lr schedule warmup_steps min_lr beta1 beta2 eps weight_decay clip_norm".split()),
    "eval": frozenset("split metrics beams length_penalty max_extra_tokens batch_tokens limit best_metric".split()),
}


def is_resolved(written: Mapping[str, Any], name: str) -> bool:
    """Tell whether a section of a recipe, as it is written, is that of a recipe that a run wrote down."""
    section = written.get(name)
    return isinstance(section, Mapping) and section.keys() >= _RESOLVED[name]


def meant(written: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the resolved sections of a recipe stand for, of the keys that leave something open.

    Args:
        written: a recipe as it stands in its file.

    Returns:
        Values by their full key, such as `tokenizer.normalize`.
    """
    # Text was taken as it stood (`wordpiece` composed it), and the words of BLEU ended where its own tokenizer says.
    kind = written["tokenizer"]["kind"] if is_resolved(written, "tokenizer") else None
    built_in = {
        "tokenizer.normalize": "nfc" if kind == "wordpiece" else "none",
        "optim.warmup_steps": None,
        "optim.lr": None,
        "eval.bleu_tokenizer": "13a",
        "eval.split": "test",
    }
    values = {}
    for name, value in built_in.items():
        section, key = name.split(".")
        if is_resolved(written, section):
            values[name] = written[section].get(key, value)
    return values


def begun(folder: Path) -> dict[str, Any]:
    """Return what the recipe of a folder's run means, as `meant` has it.

    Returns:
        Nothing, where there is no run to go on with, or its recipe cannot be read, which the start of the run reports.
    """
    if not files.has_progress(folder):
        return {}
    try:
        written = yaml.safe_load((folder / files.RECIPE).read_text(encoding="utf-8"))
        return meant(written)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError, RecursionError):
        return {}
