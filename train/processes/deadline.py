"""A deadline that needs no answer: the end of a process whose call to another process never returns.

A call to a key-value store or a collective waits for a process that may be frozen, or on a machine that is gone, and no
limit of its own is sure to hold there. The thread of a deadline calls nothing that can wait.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

WAITS = "waits for a store"
"""Name of a thread that calls a key-value store."""


def is_stuck() -> bool:
    """Tell whether a thread is still inside a call to a store that does not return.

    The end of the interpreter would take it down in the middle of the call, which aborts the process: use `leave`.
    """
    return any(thread.name == WAITS for thread in threading.enumerate())


def leave(line: str | None, code: int = 1) -> NoReturn:
    """End this process now, from any thread; an orderly end could wait for processes that are gone.

    Args:
        line: printed on stderr; None = nothing.
        code: exit code.
    """
    if line:
        print(line, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class Deadline:
    """A thread that ends this process, with a line on stderr and exit code 1, unless `extend` is called in time.

    Seconds in which this process itself was frozen do not count: the others may have waited for it.

    Args:
        seconds: time from one `extend` to the next at most.
        line: gives the line to print.
    """

    def __init__(self, seconds: float, line: Callable[[], str]) -> None:
        self.seconds, self.line, self.left = seconds, line, seconds
        self.tick = min(0.5, seconds / 10)
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._run, name="deadline", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Count no more."""
        self.closed.set()
        self.thread.join()

    def extend(self) -> None:
        """Start to count again from the full time."""
        self.left = self.seconds

    def _run(self) -> None:
        """Count down to the end of the process."""
        before = time.monotonic()
        while not self.closed.wait(self.tick):
            now = time.monotonic()
            self.left -= min(now - before, 2 * self.tick)
            before = now
            if self.left < 0:
                leave(f"error: {self.line()}")
