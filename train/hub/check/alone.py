"""A process that does not know this project: what works there works for anybody who has torch and transformers.

`use.py` lets `stranger.py` examine a folder in a process that is bounded too; both refuse the project by the same class.
"""

import inspect
import sys
from pathlib import Path

import transformers

from train.hub.check.stranger import OURS, Refuse

START = f"""
import atexit, gc, sys

gc.disable()  # as in train/processes/imports.py; such a process is short, and leaves little garbage of its own
atexit.register(gc.freeze)
OURS = {OURS!r}

{inspect.getsource(Refuse)}

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(Path(transformers.__file__).parents[1])!r})
"""


def command(script: str, *arguments: str) -> list[str]:
    """Return the command line that runs lines of Python where this project cannot be imported, even if it is installed.

    -I ignores every variable PYTHON*, so `START` names the folder of the libraries again, and UTF-8 is asked for as an option.
    """
    return [sys.executable, "-I", "-X", "utf8", "-c", START + script, *arguments]
