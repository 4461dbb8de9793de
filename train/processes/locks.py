"""Locks that end with the process that holds them, however it ends, and that name it.

POSIX has `lockf`. It is taken, and not the `flock` of the package filelock: a process that the data loader forks would hold an
`flock` after its parent's death. Where there is no `fcntl`, as on Windows, nothing forks, and filelock does it.
"""

import contextlib
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

try:
    import fcntl
except ImportError:
    fcntl = None


def no_link(path: str, flags: int) -> int:
    """Open a file for `open(..., opener=no_link)`: in a folder that another user made, a link may lead to any file.

    Raises:
        OSError: a link is there.
    """
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


class Lock:
    """A file that one process at a time may hold; the file stays when it is let go.

    Args:
        path: the file; its folder exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Windows lets no other process read a file that is locked: the name of the holder lies beside it there.
        self.note = path.with_name(f"{path.name}-holder")
        self.file = open(path, "a+", encoding="utf-8", opener=no_link) if fcntl else None  # noqa: SIM115  (`close` closes it)
        self.other = None if fcntl else filelock.FileLock(path)

    def take(self, seconds: float | None = 0.0) -> bool:
        """Take the lock; return False where another process holds it.

        Args:
            seconds: to wait for it; None = for ever.

        Raises:
            OSError: the system does not lock files there.
        """
        end = math.inf if seconds is None else time.monotonic() + seconds
        while not self._taken():
            if time.monotonic() >= end:
                return False
            time.sleep(0.05)
        return True

    def _taken(self) -> bool:
        """Try once."""
        try:
            if self.file is not None:
                fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            else:
                self.other.acquire(blocking=False)
        except (BlockingIOError, PermissionError, filelock.Timeout):  # POSIX allows EAGAIN and EACCES
            return False
        except OSError as error:  # of a network's file system without locks; the system names no file
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        return True

    def sign(self, text: str) -> None:
        """Write down who holds it, for those who find it taken."""
        if self.file is None:
            self.note.write_text(f"{text}\n", encoding="utf-8")
            return
        self.file.truncate(0)
        self.file.write(f"{text}\n")
        self.file.flush()

    def holder(self) -> str:
        """Return what the holder wrote, or unknown."""
        if self.file is not None:
            # The file that is open: closing another one of it would let go of a lock of this process.
            self.file.seek(0)
            return self.file.read().strip() or "unknown"
        with contextlib.suppress(OSError):
            return self.note.read_text(encoding="utf-8").strip() or "unknown"
        return "unknown"

    def close(self) -> None:
        """Let go of it."""
        if self.file is not None:
            self.file.close()
        else:
            self.other.release()


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Lock]:
    """Yield the lock of a file, not yet taken, and let go of it in the end."""
    with contextlib.closing(Lock(path)) as lock:
        yield lock
