"""What evaluations leave beside the checkpoints: the best weights, and a note of an evaluation that came after its checkpoint.

A run that was killed goes on from a checkpoint, so only what that checkpoint knows of has happened. `best/` therefore carries
the step and the value it was measured at, and the weights it replaced stay in `best-earlier/` for as long as a checkpoint
refers to them.
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train import files
from train.run import checkpoint

if TYPE_CHECKING:
    from train.run.run import Progress

EARLIER = f"{files.BEST}-earlier"
RECORD, NOTE = "best.json", "evaluation.json"
# What an evaluation changes of a run's progress.
_FIELDS = ("evaluated", "best", "best_step", "bad_evals")


def replace(run_dir: Path, progress: "Progress", write: Callable[[Path, dict[str, Any]], None]) -> None:
    """Make the weights of this moment the best ones.

    Args:
        run_dir: folder of the run.
        progress: its best value and step are those of the weights.
        write: writes a model folder, with a JSON file for each further item.
    """
    folder = run_dir / files.BEST
    before = files.read_object(folder / RECORD).get("step")
    if before in _referred(run_dir):
        earlier = _earlier(run_dir, before)
        shutil.rmtree(earlier, ignore_errors=True)
        earlier.parent.mkdir(exist_ok=True)
        folder.rename(earlier)
    write(folder, {RECORD: _record(progress)})


def holds(folder: Path, progress: "Progress") -> bool:
    """Tell whether a folder has, undamaged, the weights that a run knows as its best."""
    known = files.read_object(folder / RECORD)
    same = all(known.get(name) == value for name, value in _record(progress).items())
    return same and files.damage(folder) is None


def settle(run_dir: Path, progress: "Progress") -> bool:
    """Make `best/` what a run knows as its best where it goes on; weights of steps that are lost go.

    Returns:
        Whether `best/` is what the run knows; False where it is damaged or deleted.
    """
    folder = run_dir / files.BEST
    if progress.best is None:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    if holds(folder, progress):
        return True
    earlier = _earlier(run_dir, progress.best_step)
    if holds(earlier, progress):
        shutil.rmtree(folder, ignore_errors=True)
        earlier.rename(folder)
        return True
    if (folder / checkpoint.WEIGHTS_FILE).is_file() and not (folder / RECORD).exists():
        files.write_json(folder / RECORD, _record(progress))  # of a version that kept no record
        files.write_manifest(folder)
        return True
    shutil.rmtree(folder, ignore_errors=True)
    return False


def prune(run_dir: Path) -> None:
    """Delete the earlier best weights that no checkpoint refers to any more."""
    parent = run_dir / EARLIER
    if not parent.is_dir():
        return
    kept = {_earlier(run_dir, step) for step in _referred(run_dir)}
    for folder in parent.iterdir():
        if folder not in kept:
            shutil.rmtree(folder, ignore_errors=True)
    if not any(parent.iterdir()):
        parent.rmdir()


def note(run_dir: Path, progress: "Progress") -> None:
    """Write down in the checkpoint of this step, where there is one, what the evaluation after it changed.

    Main process only, while no checkpoint is being written.
    """
    folder = checkpoint.folder_of(run_dir, progress.step)
    if folder.is_dir():
        fields = {name: getattr(progress, name) for name in _FIELDS}
        files.write_json(folder / NOTE, {"progress": fields, "sha256": _digest(fields)})
        prune(run_dir)


def noted(folder: Path, progress: "Progress") -> "Progress":
    """Return a checkpoint's progress with what `note` wrote beside it.

    Where the note is missing or damaged the progress is returned as it is: then the evaluation is made again.
    """
    written = files.read_object(folder / NOTE)
    fields = written.get("progress")
    intact = isinstance(fields, dict) and {*fields} == {*_FIELDS} and written.get("sha256") == _digest(fields)
    return dataclasses.replace(progress, **fields) if intact else progress


def _record(progress: "Progress") -> dict[str, Any]:
    """Return what `best/` says of itself."""
    return {"step": progress.best_step, "value": progress.best}


def _earlier(run_dir: Path, step: int) -> Path:
    """Return where the best weights of a step lie once they are replaced."""
    return run_dir / EARLIER / f"step-{step:08d}"


def _referred(run_dir: Path) -> set[int]:
    """Return the steps whose best weights a checkpoint on disk may need."""
    states = {folder: state for folder in checkpoint.folders(run_dir) if (state := checkpoint.peek(folder))}
    # The note goes before the state. Without it the evaluation is made again, and finds the same weights better.
    return {noted(folder, state.progress).best_step for folder, state in states.items()} - {0}


def _digest(fields: dict[str, Any]) -> str:
    """Return the sha256 of a note's fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
