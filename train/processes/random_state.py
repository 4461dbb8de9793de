"""What a run remembers between two steps besides weights: position, best score, the random state of every rank."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

if TYPE_CHECKING:
    from accelerate import Accelerator

Result = TypeVar("Result")
_arrivals: list[Callable[[int | None], None]] = []


class PeerError(RuntimeError):
    """The main process failed and says why; this one only follows it."""


@dataclass
class Progress:
    """Where a run stands. Plain numbers, so that JSON holds all of it.

    Attributes:
        step: updates done.
        epoch: pass over the data that the next batch belongs to, from 0.
        position: global batches of that pass already used.
        stream: where the data of that pass begin, for data that is streamed.
        tokens: real tokens seen, over all processes.
        seconds: time spent training, over all starts of the run.
        flops: of the model over those tokens, see `train.cost.flops`.
        evaluated: step of the last evaluation, 0 = none yet.
        best: best value of `eval.best_metric`, None = none yet.
        best_step: the step it was measured at.
        bad_evals: evaluations since then.
        watch: what the watchdog remembers.
    """

    step: int = 0
    epoch: int = 0
    position: int = 0
    stream: dict[str, Any] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    flops: int = 0
    evaluated: int = 0
    best: float | None = None
    best_step: int = 0
    bad_evals: int = 0
    watch: dict[str, Any] = field(default_factory=dict)


def arrive(step: int | None = None) -> None:
    """Note that this rank is where all ranks meet next, for `train.processes.peers`; every rank passes the same points.

    Args:
        step: updates done, None = as before.
    """
    for note in _arrivals:
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


def from_main(accelerator: "Accelerator", value: int | None) -> int | None:
    """Give every process the main process's non-negative number (None stays None)."""
    mine = (-1 if value is None else value) if accelerator.is_main_process else 0
    arrive()
    shared = int(accelerator.reduce(torch.tensor(mine, device=accelerator.device)).item())
    return None if shared < 0 else shared


def seed_everything(*key: int) -> None:
    """Seed torch, numpy and random from a tuple of numbers, such as (seed, rank, step)."""
    drawn = np.random.SeedSequence(key).generate_state(3)
    torch.manual_seed(int(drawn[0]))
    np.random.seed(int(drawn[1]))
    random.seed(int(drawn[2]))


def random_state() -> dict[str, torch.Tensor]:
    """Return the state of every global random generator as tensors: torch, the device's, numpy's and Python's."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, words, next_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, keys), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([gauss], dtype=torch.float64),
        "python": torch.tensor([version, *words, next_gauss is not None], dtype=torch.int64),
        "python_gauss": torch.tensor([next_gauss or 0.0], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore_random_state(state: dict[str, torch.Tensor]) -> None:
    """Put every global random generator where `random_state` found it."""
    torch.set_rng_state(state["torch"])
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, dtype=np.uint32), position, has_gauss, state["numpy_gauss"].item()))
    version, *words, has_next = state["python"].tolist()
    random.setstate((version, tuple(words), state["python_gauss"].item() if has_next else None))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def gather_random_states(accelerator: "Accelerator") -> list[dict[str, torch.Tensor]]:
    """Return the random state of every rank, in the order of the ranks; every rank calls this."""
    mine = random_state()
    gathered = {name: accelerator.gather(value[None].to(accelerator.device)).cpu() for name, value in mine.items()}
    return [
        {name: value[rank].clone() for name, value in gathered.items()} for rank in range(accelerator.num_processes)
    ]
