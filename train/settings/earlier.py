"""What a recipe of 0.1.0 or 0.1.1 meant by `tokenizer.normalize`, a key that it lacks.

A resolved recipe says what was trained: where it lacks the key, the text was taken as it stood (`wordpiece` composed it). A
recipe that somebody wrote by hand leaves keys out because their default is meant, today's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from train import files

_KEY = "normalize"
# The keys of the section that every resolved recipe holds since 0.1.0: whoever writes one by hand leaves some out.
_RESOLVED = frozenset("path kind vocab_size lowercase min_frequency".split())


def form_then(section: Any, kind: str) -> str | None:
    """Return the form of Unicode that a `tokenizer` section of a resolved recipe stands for.

    Args:
        section: as it is written in the file.
        kind: of the tokenizer.

    Returns:
        None = it is no section of a resolved recipe, or it holds a value that names no form.
    """
    if not isinstance(section, Mapping) or not section.keys() >= _RESOLVED:
        return None
    if _KEY in section:
        return section[_KEY]
    return "nfc" if kind == "wordpiece" else "none"


def form_begun(folder: Path, kind: str) -> str | None:
    """Return the form that the run of a folder was begun with: its tokenizer is built, and stays.

    Returns:
        None = there is no run to go on with, or its recipe cannot be read, which the start of the run reports.
    """
    if not files.has_progress(folder):
        return None
    try:
        written = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
        return form_then(written["tokenizer"], kind)
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, RecursionError):
        return None
