"""A process that does not know this project: what works there works for anybody who has torch and transformers.

`use.py` lets `stranger.py` examine a folder in a process that is bounded too; both refuse the project by the same class.
"""

import inspect
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers

from train.hub.check.stranger import OURS, Refuse

# -I ignores every variable PYTHON*: the folder of the libraries is named again, and UTF-8 asked for as an option.
START = f"""
import sys

OURS = {OURS!r}

{inspect.getsource(Refuse)}

sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {str(Path(transformers.__file__).parents[1])!r})
"""


def run(
    script: str, arguments: list[str], folder: Path, environment: Mapping[str, str], **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run lines of Python where the packages of this project cannot be imported, also where they are installed.

    Args:
        script: the lines.
        arguments: become `sys.argv[1:]`.
        folder: where the process starts; nothing can be imported from it.
        environment: of the process.
        options: of `subprocess.run`.
    """
    return subprocess.run(
        [sys.executable, "-I", "-X", "utf8", "-c", START + script, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,  # transformers asks a person whether it may run code: no answer is a no
        text=True,
        check=False,
        **options,
    )
