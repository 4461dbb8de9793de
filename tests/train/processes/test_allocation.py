"""A training process begins under settings of glibc's with which its memory is used again, unless its environment has some."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from train.processes import allocation

needs_glibc = pytest.mark.skipif(
    not allocation._is_glibc() or any(Path(gpu).exists() for gpu in allocation.GPUS), reason="of glibc, without a GPU"
)
SURROUNDINGS = {name: value for name, value in os.environ.items() if not name.startswith(allocation.VARIABLES)}
# Pieces of many sizes, each step others, freed in another order; and between them small ones that stay, as a library keeps some.
SCRIPT = """
import ctypes, json, random, resource
from pathlib import Path
from train.processes import allocation
{begin}
import torch
draw, malloc = random.Random(0), ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_void_p

def step():
    rows, pieces = draw.randint(1000, 2000), []
    for _ in range(40):
        pieces.append(torch.zeros(rows, draw.choice((64, 256, 1024))))
        malloc(draw.choice((24, 40, 56, 72, 88)))
    draw.shuffle(pieces)
    needed = sum(piece.nbytes for piece in pieces)
    while pieces:
        pieces.pop()
        torch.zeros(rows, 256)
    return needed

held = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
before = held()
needed = max(step() for _ in range(50))
half = faults()
needed = max(needed, *(step() for _ in range(50)))
print(json.dumps([(held() - before) / needed, faults() - half]))
"""


def python(script: str, **variables: str) -> str:
    """Return what a script prints in a process of its own."""
    environ = SURROUNDINGS | variables
    return subprocess.run(
        [sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True
    ).stdout


@needs_glibc
def test_memory_that_was_freed_is_used_again():
    plain, settled = (json.loads(python(SCRIPT.format(begin=begin))) for begin in ("", "allocation.settle()"))
    # What is held, by what a step needs at most: 2.9 without the last setting (glibc 2.36; a later one may cut memory otherwise).
    assert settled[0] < min(1.5, 1.1 * plain[0])
    assert 20 * settled[1] < plain[1]  # pages that were fetched


SETTLED = """
import os, sys
from train.processes import allocation
print("begun")
sys.stdout.flush()
allocation.settle()
print(os.environ.get("GLIBC_TUNABLES"), os.environ.get("MALLOC_ARENA_MAX"))
"""


@needs_glibc
def test_a_process_begins_anew_once_and_not_where_its_environment_has_a_word_on_it():
    assert python(SETTLED).split() == ["begun", "begun", allocation.TUNABLES, "None"]
    assert python(SETTLED, MALLOC_ARENA_MAX="2").split() == ["begun", "None", "2"]
    tunables = "glibc.malloc.tcache_count=7"
    assert python(SETTLED, GLIBC_TUNABLES=tunables).split() == ["begun", tunables, "None"]


@needs_glibc
def test_the_command_line_settles_what_trains_and_keeps_its_words(write_recipe):
    """The recipe has a space and a letter of two bytes in its name; the process stays the one that was started."""
    path = write_recipe(loop={"max_steps": 1})
    path = path.rename(path.with_name("한 글.yaml"))
    command = [sys.executable, "-m", "train", "fit", str(path), "--optim.lr", "0.001"]
    process = subprocess.Popen(command, env=SURROUNDINGS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("step=1 "):
            # glibc ends each of the settings with a null byte where it read them.
            environ = Path(f"/proc/{process.pid}/environ").read_text().replace("\0", ":")
            assert f":GLIBC_TUNABLES={allocation.TUNABLES}:" in environ
    assert process.wait() == 0 and "step=1 " in said, said


@needs_glibc
def test_where_no_program_can_be_started_this_one_goes_on():
    assert python("import sys\nsys.executable = ''" + SETTLED).split() == ["begun", "None", "None"]


def test_another_c_library_is_left_as_it_is(monkeypatch):
    def unknown(name):
        raise ValueError(name)

    monkeypatch.setattr(os, "confstr", unknown, raising=False)
    assert not allocation._is_glibc()
    monkeypatch.delattr(os, "confstr")
    assert not allocation._is_glibc()
    monkeypatch.setattr(os, "execve", lambda *words: pytest.fail("began anew"))
    allocation.settle()
