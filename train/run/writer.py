"""Write checkpoints beside training: the loop waits for a copy of the weights, a thread does the rest.

At most one write is in flight. Its error is kept until the main process asks for it, so none is lost.
"""

import threading
from collections.abc import Callable
from pathlib import Path


class Writer:
    """One thread that writes, and the error it met.

    Attributes:
        error: what went wrong in the write that ended last, None = nothing.
    """

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None

    def start(self, write: Callable[[], object], then: Callable[[], object]) -> None:
        """Write in the thread, and then do what must not be done unless that went well.

        The write before must have been waited for.
        """
        if self.thread is not None:
            raise RuntimeError("a write is still in flight")

        def run() -> None:
            try:
                write()
                then()
            except Exception as error:  # noqa: BLE001  (raised by `wait`, on the main thread)
                self.error = error

        # A daemon: a second signal ends the process at once, and a half-written folder counts for nothing.
        self.thread = threading.Thread(target=run, name="checkpoint", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Wait for the end of the write, whatever it is."""
        if self.thread is not None:
            self.thread.join()
            self.thread = None

    def wait(self) -> None:
        """Wait for the end of the write.

        Raises:
            Exception: what the write raised.
        """
        self.close()
        error, self.error = self.error, None
        if error is not None:
            raise error


def free_memory() -> int:
    """Return the bytes of main memory that a process may still take here; Linux only, else 0."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return 0
    group = Path("/sys/fs/cgroup")  # a container may have less than its machine
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        # Pages of files count as used and are given back under pressure.
        cached = next(line for line in (group / "memory.stat").read_text().splitlines() if line.startswith("file "))
        free = free if limit == "max" else min(free, int(limit) - int(used) + int(cached.split()[1]))
    except (OSError, ValueError, StopIteration):
        pass
    return free
