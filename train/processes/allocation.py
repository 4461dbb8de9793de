"""How glibc hands out the memory of a training process: decision 058."""

import contextlib
import os
import sys
from pathlib import Path

VARIABLES = ("GLIBC_TUNABLES", "LD_PRELOAD", "MALLOC_")
"""How the names of what sets an allocator begin."""
GPUS = ("/dev/nvidiactl", "/dev/kfd")
SETTINGS = {
    "mmap_threshold": 1 << 30,  # below it nothing is mapped by itself, and so given back and fetched anew at each step
    "trim_threshold": 2**31 - 1,  # what may lie free at the end of the heap
    "tcache_count": 0,  # or the rest of each aligned piece is held back in a cache, and the free memory beside it never becomes one
}
TUNABLES = ":".join(f"glibc.malloc.{name}={value}" for name, value in SETTINGS.items())


def settle() -> None:
    """Start this process anew under `TUNABLES`: glibc reads them only when a process begins. Call it before anything is done.

    Nothing happens with another C library, where the environment says something of the allocator already (so never twice), or
    on a machine with a GPU, whose memory torch keeps itself.
    """
    if (
        any(name.startswith(VARIABLES) for name in os.environ)
        or any(Path(gpu).exists() for gpu in GPUS)
        or not (sys.executable and _is_glibc())
    ):
        return
    with contextlib.suppress(OSError):  # where no program may be started, this one goes on as it is
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | {"GLIBC_TUNABLES": TUNABLES})


def _is_glibc() -> bool:
    """Return whether the C library is glibc."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):  # Windows has no confstr; others do not know the name
        return False
