"""The exceptions with a meaning for the command line, and how a text of unknown origin is shown."""

import io
import sys


def print_anything() -> None:
    """Show the escape of a character that the console cannot print: what is printed never decides how a command ends."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def plain(text: str) -> str:
    """Return a text that a terminal shows as it stands: control, direction and invisible characters become escapes.

    Line ends stay. What `str.isprintable` refuses goes: escape codes, U+202E and its like, halves of surrogate pairs.
    """
    if text.isprintable():
        return text
    return "".join(
        one if one == "\n" or one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text
    )


class UserError(ValueError):
    """A mistake in a recipe, a data file or a folder: named in one line, ended with exit code 2.

    The message names the file, the line or field, the value found and the rule it breaks.
    """

    def __init__(self, message: str) -> None:
        """Keep the message on one line, so that it is one line of stderr too."""
        super().__init__(" ".join(message.split()))


class NonFiniteError(RuntimeError):
    """The loss or its gradient is no number; the weights on disk are the last good ones."""


class DriftError(RuntimeError):
    """The processes of a job no longer hold the same weights; those on disk are from before."""


class GenerationError(RuntimeError):
    """What a model generates is not what its forward passes say: no figure of it may be reported."""


class PublishError(RuntimeError):
    """The Hub or the way there failed, or a folder is not fit for it: one line, exit code 1, nothing is half published."""
