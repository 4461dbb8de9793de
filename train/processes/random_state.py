"""The random state of every rank: seeded, read, restored and gathered."""

import random
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from accelerate import Accelerator


def seed_everything(*key: int) -> None:
    """Seed torch, numpy and random from a tuple of numbers, such as (seed, rank, step)."""
    drawn = np.random.SeedSequence(key).generate_state(3)
    torch.manual_seed(int(drawn[0]))
    np.random.seed(int(drawn[1]))
    random.seed(int(drawn[2]))


def random_state() -> dict[str, torch.Tensor]:
    """Return the state of every global random generator as tensors: torch, the device's, numpy's and Python's."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    version, integers, next_gauss = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "numpy": torch.tensor([*map(int, keys), position, has_gauss], dtype=torch.int64),
        "numpy_gauss": torch.tensor([gauss], dtype=torch.float64),
        "python": torch.tensor([version, *integers, next_gauss is not None], dtype=torch.int64),
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
    version, *integers, has_next = state["python"].tolist()
    random.setstate((version, tuple(integers), state["python_gauss"].item() if has_next else None))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def gather_random_states(accelerator: "Accelerator") -> list[dict[str, torch.Tensor]]:
    """Return the random state of every rank, in the order of the ranks; every rank calls this."""
    mine = random_state()
    gathered = {name: accelerator.gather(value[None].to(accelerator.device)).cpu() for name, value in mine.items()}
    return [
        {name: value[rank].clone() for name, value in gathered.items()} for rank in range(accelerator.num_processes)
    ]
