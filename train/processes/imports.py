"""The import of the large libraries: they make a million objects that stay until the process ends."""

import contextlib
import gc
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def stay() -> Iterator[None]:
    """Look for no garbage while the libraries are imported, and for none in them later, not even at the end.

    It would take a third of the time of a short command. Where torch is there already, nothing changes.
    """
    if "torch" in sys.modules:
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
