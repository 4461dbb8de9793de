"""The line of a recipe's head that fetches its data: `# Get it:  COMMAND`."""

import re
from collections.abc import Iterable
from pathlib import Path

_BEGIN = re.compile(r"#\s*Get it:\s*(\S.*)")
_GOES_ON = re.compile(r"#\s{4,}(\S.*)")  # further in than the labels of a head


def command(path: str | Path) -> str | None:
    """Return the command in the head of a recipe, one line; None where it has none.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: it is not UTF-8.
    """
    lines: list[str] = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        match = (_GOES_ON if lines else _BEGIN).fullmatch(line.rstrip())
        if match:
            lines.append(match[1])
        elif lines or not line.startswith("#"):
            break
    return " ".join(lines) or None


def command_among(words: Iterable[str]) -> str | None:
    """Return the command of the recipe that a command line names; None where it names none, or one without a command."""
    names = [word.rpartition("=")[2] for word in words]
    recipe = next((name for name in names if name.endswith((".yaml", ".yml")) and Path(name).is_file()), None)
    return command(recipe) if recipe else None
