"""SIGTERM and SIGINT become a request that the loop honours between two steps."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run was asked to stop and has saved its state.

    Attributes:
        signal: number of the signal; a shell expects exit code 128 + signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


class Request:
    """The number of the signal that arrived, 0 = none."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal; a second one is not held back any more."""
        self.signal = number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def ignore(end: contextlib.ExitStack) -> None:
    """Ignore the signals until `end` is closed.

    A launcher that sees one rank end sends its own to those that still say why they stop.
    """
    for number in SIGNALS:
        end.callback(signal.signal, number, signal.signal(number, signal.SIG_IGN))


@contextlib.contextmanager
def requests(end: contextlib.ExitStack) -> Iterator[Request]:
    """Catch the signals while the block runs.

    Args:
        end: closed when the run has ended. Where the block ends in `Stopped`, the signals are ignored until then.
    """
    request = Request()
    with contextlib.ExitStack() as restored:
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for number in SIGNALS:
                restored.callback(signal.signal, number, signal.signal(number, request))
        try:
            yield request
        except Stopped:
            end.push(restored.pop_all())
            ignore(end)
            raise
