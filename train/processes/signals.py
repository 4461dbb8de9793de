"""SIGTERM and SIGINT become a request that a run honours between two steps, or two batches of an evaluation."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

import torch

from train.processes import ranks

if TYPE_CHECKING:
    from accelerate import Accelerator

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(Exception):
    """A run was asked to stop and has saved its state.

    Attributes:
        signal: number of the signal; a shell expects exit code 128 + signal.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.signal = number


class Interrupted(Exception):
    """An evaluation was asked to stop, and has no result.

    Attributes:
        signal: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.signal = number


class Request:
    """The number of the signal that arrived, 0 = none."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Note the signal and print that at once; a second one is not held back any more."""
        self.signal = number
        if os.environ.get("LOCAL_RANK", "0") == "0":
            name = signal.Signals(number).name
            notice = f"{name}: the run saves where it is and stops; a second {name} ends it now, without saving"
            with contextlib.suppress(OSError):  # print may be at work: its buffer takes no second writer
                os.write(2, f"{os.linesep if sys.stderr.isatty() else ''}{notice}{os.linesep}".encode())
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


_requests: list[Request] = []


def is_asked() -> bool:
    """Tell whether this process received a signal while it trains; the others may not know of it yet."""
    return any(request.signal for request in _requests)


def look(accelerator: "Accelerator") -> None:
    """Let all ranks of a run under way learn of a signal to one of them; outside of a run nothing is asked.

    Raises:
        Interrupted: on every rank, for the same signal.
    """
    if not _requests:
        return
    ranks.arrive()
    mine = [int(_requests[-1].signal == number) for number in SIGNALS]
    seen = accelerator.reduce(torch.tensor(mine, device=accelerator.device)).tolist()
    for number, count in zip(SIGNALS, seen, strict=True):
        if count:
            raise Interrupted(int(number))


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
        _requests.append(request)
        restored.callback(_requests.remove, request)
        try:
            yield request
        except Stopped:
            end.push(restored.pop_all())
            ignore(end)
            raise
