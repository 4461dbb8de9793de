"""The search for garbage pauses for the imports of a command, and for nothing else."""

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from train.processes import imports

ROOT = Path(__file__).resolve().parents[3]
COMMAND = """
import gc, sys
from train.processes import imports

assert "torch" not in sys.modules, "the commands are slow before they begin"
try:
    with imports.stay():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
        import no_such_library
except ModuleNotFoundError:
    assert gc.isenabled() and gc.get_freeze_count() > 1000
    assert not any(one is kept for one in gc.get_objects())
    kept = [[]]
    assert any(one is kept for one in gc.get_objects())
    print("done")
"""


def test_what_is_imported_is_left_alone_from_then_on():
    done = subprocess.run([sys.executable, "-c", COMMAND], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("is_on", [True, False])
def test_a_process_that_has_torch_keeps_its_garbage_collector(monkeypatch, is_on):
    monkeypatch.setattr(gc, "freeze", lambda: pytest.fail("it would keep the garbage of a long process"))
    was_on = gc.isenabled()
    try:
        (gc.enable if is_on else gc.disable)()
        with imports.stay():
            assert gc.isenabled() == is_on
        assert gc.isenabled() == is_on
    finally:
        (gc.enable if was_on else gc.disable)()
