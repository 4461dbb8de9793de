"""The exceptions with a meaning for the command line, and how a text of unknown origin is shown."""

import io
import re
import sys
from typing import Any

MOST_QUOTED = 80
"""Characters of an input that a message shows."""
_MOST_IN_ALL = 4000
_QUOTED = re.compile(r"""(?<!\w)(['"])((?:\\.|(?!\1)[^\\])*)\1(?!\w)""", re.DOTALL)
_WORD = re.compile(r"\S{1001,}")  # longer than a path, as a rule


def print_anything() -> None:
    """Show the escape of a character that the console cannot print: what is printed never decides how a command ends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def quoted(value: Any) -> str:
    """Return a value as Python writes it, cut after `MOST_QUOTED` characters."""
    text = value[: MOST_QUOTED + 1] if isinstance(value, str) else value  # a text may be a whole file
    return short(repr(text))


def short(message: str) -> str:
    """Return a message with each quoted input, and each endless word, cut after `MOST_QUOTED` characters."""
    message = _QUOTED.sub(lambda match: f"{match[1]}{_cut(match[2])}{match[1]}", message)
    return bounded(_WORD.sub(lambda match: _cut(match[0]), message))


def bounded(message: str) -> str:
    """Return a message without its middle where it is endless; what it quotes stays: the system quotes paths."""
    half = _MOST_IN_ALL // 2
    return message if len(message) <= _MOST_IN_ALL else f"{message[:half]} ... {message[-half:]}"


def _cut(text: str) -> str:
    return text if len(text) <= MOST_QUOTED else f"{text[:MOST_QUOTED]}..."


def plain(text: str) -> str:
    """Return a text that a terminal shows as it stands: control, direction and invisible characters become escapes.

    Line ends stay. What `str.isprintable` refuses goes: escape codes, U+202E and its like, halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char == "\n" or char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def show(text: str) -> None:
    """Print a text of unknown origin."""
    print(plain(text), flush=True)


class UserError(ValueError):
    """A mistake in a recipe, a data file or a folder: named in one line, ended with exit code 2.

    The message names the file, the line or field, the value found and the rule it breaks.
    """

    def __init__(self, message: str) -> None:
        """Keep the message on one line, so that it is one line of stderr too, and what it quotes short."""
        super().__init__(short(" ".join(message.split())))


class MissingDataError(UserError):
    """A file of the data is not there; the recipe may say how to get it, see `train.settings.get_it`."""


class NonFiniteError(RuntimeError):
    """The loss or its gradient is no number; the weights on disk are the last good ones."""


class DriftError(RuntimeError):
    """The processes of a job no longer hold the same weights; those on disk are from before."""


class GenerationError(RuntimeError):
    """What a model generates is not what its forward passes say: no figure of it may be reported."""


class PublishError(RuntimeError):
    """The Hub or the way there failed, or a folder is not fit for it: one line, exit code 1, nothing is half published."""
