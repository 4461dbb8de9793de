"""The mean of a run's last checkpoints (Vaswani et al. 2017, sec. 6.1)."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from train import files
from train.errors import UserError
from train.run import checkpoint
from train.run.checkpoint import WEIGHTS_FILE


def average(run_dir: Path, last: int) -> Path:
    """Write the mean of the last checkpoints' weights to `<run_dir>/average`.

    The newest checkpoint counts, and before it only those the recipe scheduled.

    Returns:
        A model folder like `final/`: the mean, the newest checkpoint's config and code, and the run's tokenizer.

    Raises:
        UserError: `last` is below 1, or fewer checkpoints are intact.
    """
    run_dir = Path(run_dir)
    if last < 1:
        raise UserError(f"--last: {last}: must be at least 1")
    chosen = averageable(run_dir, last)
    if len(chosen) < last:
        remedy = f"; --last {len(chosen)} takes these" if chosen else ""
        place = run_dir / files.CHECKPOINTS
        raise UserError(
            f"{place}: {len(chosen)} intact checkpoints, the average needs {last}{remedy}; loop.keep_last keeps more"
        )
    target, tokenizer = run_dir / files.AVERAGE, run_dir / files.TOKENIZER
    with files.staged_folder(target) as staging:
        for pattern in (files.CONFIG, files.GENERATION, "*.py"):
            for path in chosen[0].glob(pattern):
                shutil.copyfile(path, staging / path.name)
        for path in tokenizer.iterdir() if tokenizer.is_dir() else ():
            shutil.copyfile(path, staging / path.name)
        save_file(mean_weights(chosen), staging / WEIGHTS_FILE, metadata={"format": "pt"})
    return target


def averageable(run_dir: Path, last: int) -> list[Path]:
    """Return the newest intact checkpoint and the intact scheduled ones before it, at most `last`, newest first."""
    chosen: list[Path] = []
    for folder in checkpoint.folders(run_dir)[::-1]:
        if (
            len(chosen) < last
            and files.damage(folder) is None
            and (checkpoint.read_state(folder).scheduled or not chosen)
        ):
            chosen.append(folder)
    return chosen


def mean_weights(folders: Sequence[Path]) -> checkpoint.Tensors:
    """Return the arithmetic mean of every weight over some model folders, summed in double precision."""
    dtypes: dict[str, torch.dtype] = {}
    sums: checkpoint.Tensors = {}
    for folder in folders:
        for name, tensor in load_file(folder / WEIGHTS_FILE).items():
            dtypes.setdefault(name, tensor.dtype)
            sums[name] = sums[name].add_(tensor) if name in sums else tensor.to(torch.float64)
    return {name: (total / len(folders)).to(dtypes[name]) for name, total in sums.items()}
