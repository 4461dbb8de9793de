"""The ranks of a job: where all of them meet, what the main process does for the others, and how they learn of its failure."""

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")
Note = Callable[[int | None], None]
_notes: list[Note] = []


class PeerError(RuntimeError):
    """The main process failed and says why; this one only follows it."""


@contextlib.contextmanager
def on_arrival(note: Note) -> Iterator[None]:
    """Call a function with the step, or None, at each meeting point that this rank reaches inside the block."""
    _notes.append(note)
    try:
        yield
    finally:
        _notes.remove(note)


def arrive(step: int | None = None) -> None:
    """Note that this rank is where all ranks meet next, for `train.processes.peers`; every rank passes the same points.

    Args:
        step: updates done, None = as before.
    """
    for note in _notes:
        note(step)


def on_main(accelerator: "Accelerator", action: Callable[[], Result]) -> Result | None:
    """Run something on the main process only, and let every process fail when it fails.

    Without this a full disk on the main process leaves the others waiting at the next collective.

    Returns:
        The result on the main process, None elsewhere.

    Raises:
        Exception: on the main process, what the action raised.
        PeerError: on every other process when it did.
    """
    result, error = None, None
    if accelerator.is_main_process:
        try:
            result = action()
        except Exception as caught:  # noqa: BLE001  (passed on below, once the others know)
            error = caught
    arrive()
    failed = accelerator.reduce(torch.tensor(int(error is not None), device=accelerator.device))
    if error is not None:
        raise error
    if failed.item():
        raise PeerError("the main process failed")
    return result


def from_main(accelerator: "Accelerator", action: Callable[[], int | None]) -> int | None:
    """Run something as `on_main` does, and give every process the non-negative number that it returns (None stays None)."""
    value = on_main(accelerator, action)
    mine = (-1 if value is None else value) if accelerator.is_main_process else 0
    arrive()
    shared = int(accelerator.reduce(torch.tensor(mine, device=accelerator.device)).item())
    return None if shared < 0 else shared
