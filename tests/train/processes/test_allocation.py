"""A training process keeps the memory that it frees, unless its environment says otherwise."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import resource
import torch
from train.processes.allocation import keep_freed_memory
print(keep_freed_memory())
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    return len([torch.ones(1 << 20) for _ in range(30)])  # 120 MiB, freed at the end of it
for _ in range(3):
    step()
before = faults()
for _ in range(3):
    step()
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
def test_memory_that_was_freed_is_not_fetched_again():
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC", "LD_PRELOAD"))}

    def faults(**variables: str) -> tuple[str, int]:
        command = [sys.executable, "-c", SCRIPT]
        done = subprocess.run(command, env=surroundings | variables, capture_output=True, text=True, check=True)
        keeps, number = done.stdout.split()
        return keeps, int(number)

    (keeps, few), (leaves, many) = faults(), faults(MALLOC_TRIM_THRESHOLD_="131072")
    assert (keeps, leaves) == ("True", "False")
    assert 4 * few < many
