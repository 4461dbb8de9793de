"""Locks without `fcntl`, as on Windows: everything can be imported, one process at a time, and a kill lets go."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
HIDDEN = "import sys\nsys.modules['fcntl'] = None\n"
HOLD = """
from pathlib import Path
from train import files
try:
    with files.lock(Path(sys.argv[1])):
        print("held", flush=True)
        sys.stdin.readline()
except ValueError as error:
    print(error, flush=True)
"""
IMPORT = """
import importlib, pkgutil, modeling_vanilla, accelerate, datasets, evaluate, sacrebleu, train
sys.modules["fcntl"] = sys.modules["resource"] = None  # libraries ask for the system's name, and take them for granted here
from train.processes import locks
for module in pkgutil.walk_packages(train.__path__, "train."):
    importlib.import_module(module.name)
print(locks.fcntl)
"""


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a process without fcntl and gives it and the first line it writes."""
    begun = []

    def function(code: str = HOLD, hidden: str = HIDDEN) -> tuple[subprocess.Popen, str]:
        words = [sys.executable, "-c", hidden + code, str(tmp_path)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(
            words, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
        )
        begun.append(process)
        return process, process.stdout.readline().strip()

    yield function
    for process in begun:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("hidden", [HIDDEN, "import sys\n"], ids=["without fcntl", "with it"])
def test_one_process_holds_a_folder_and_its_end_lets_go(start, tmp_path, hidden):
    first, line = start(hidden=hidden)
    assert line == "held"
    words = f"run_dir: {tmp_path}: another process (pid {first.pid}) is training in this folder"
    assert start(hidden=hidden)[1] == words
    first.kill()
    first.wait()
    third, line = start(hidden=hidden)
    assert line == "held"
    third.communicate("\n")  # and so does an orderly end
    assert start(hidden=hidden)[1] == "held"
    assert all(
        path.name.startswith(".lock") for path in tmp_path.iterdir()
    )  # what a run folder may hold before it is one


def test_every_module_can_be_imported_where_there_is_no_fcntl(start):
    assert start(IMPORT, hidden="import sys\n")[1] == "None"
