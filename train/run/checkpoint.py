"""Checkpoints of a run: what their files are called, writing them whole, trusting none that does not verify.

    checkpoints/step-00000100/{model.safetensors, config.json, optimizer.safetensors, rng-00000.safetensors,
    state.json, manifest.json}

safetensors and JSON only: nothing that is read back can execute code.
"""

import copy
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers.utils import logging

from modeling_vanilla import __version__
from train import files
from train.errors import UserError
from train.run import writer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

WEIGHTS, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
FORMAT = 1
"""Of what a checkpoint holds; one that says nothing has format 1. A change that an older version would misread counts up."""


def folder_of(run_dir: Path, step: int) -> Path:
    """Return the folder of one step's checkpoint."""
    return Path(run_dir) / files.CHECKPOINTS / f"step-{step:08d}"


def save(
    run_dir: Path,
    step: int,
    model: "PreTrainedModel",
    optimizer: torch.optim.Optimizer,
    random_states: Sequence[dict[str, torch.Tensor]],
    state: dict[str, Any],
    more: dict[str, dict[str, torch.Tensor]] | None = None,
) -> Path:
    """Write the checkpoint of a step: staged, synced, listed in a manifest, renamed once, read back and compared.

    Args:
        run_dir: folder of the run.
        step: updates done.
        model: the bare model, not wrapped by accelerate.
        optimizer: the optimiser of that model.
        random_states: one per rank, from `state.gather_random_states`.
        state: JSON values; at least `scheduled`: whether the recipe asked for a checkpoint at this step.
        more: further safetensors files, by name.

    Raises:
        ValueError: a weight is not finite; the checkpoints on disk stay as they are.
        OSError: the disk did not take it; nothing of it is left, the checkpoints on disk stay as they are.
    """
    _refuse_not_finite(step, model)
    return _write(run_dir, step, model, None, _optimizer_tensors(model, optimizer), random_states, state, more or {})


def copied(
    run_dir: Path,
    step: int,
    model: "PreTrainedModel",
    optimizer: torch.optim.Optimizer,
    random_states: Sequence[dict[str, torch.Tensor]],
    state: dict[str, Any],
    more: dict[str, dict[str, torch.Tensor]] | None = None,
) -> Callable[[], Path] | None:
    """Copy what `save` writes, and return a function that writes the copy while the model trains on.

    Returns:
        The function, which raises the `OSError` of `save`; None where the copy does not fit into main memory.

    Raises:
        ValueError: a weight is not finite.
    """
    _refuse_not_finite(step, model)
    tensors = [*model.parameters(), *(value for own in optimizer.state.values() for value in own.values())]
    tensors += [value for own in (more or {}).values() for value in own.values()]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    if any(type(tensor.data) is not torch.Tensor for tensor in tensors) or needed > writer.free_memory() // 2:
        return None
    try:
        moments = _optimizer_tensors(model, optimizer, copied=True)
        places: dict[int, torch.Tensor] = {}  # tied matrices stay one tensor, so that they are written once
        for tensor in model.state_dict().values():
            places.setdefault(tensor.data_ptr(), tensor.detach().to("cpu", copy=True))
        weights = {name: places[tensor.data_ptr()] for name, tensor in model.state_dict().items()}
        others = {name: {key: value.clone() for key, value in own.items()} for name, own in (more or {}).items()}
    except (MemoryError, RuntimeError):  # torch has a RuntimeError for a CPU without memory
        return None
    with torch.device("meta"):  # saving changes the config for a moment, which must not be the one in use
        shell = type(model)(copy.deepcopy(model.config))
        torch.nn.Module.to(shell, dtype=model.dtype)
    if model.can_generate():
        shell.generation_config = copy.deepcopy(model.generation_config)
    return lambda: _write(run_dir, step, shell, weights, moments, random_states, state, others)


def _refuse_not_finite(step: int, model: "PreTrainedModel") -> None:
    """Refuse to write weights that are no numbers."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"step {step}: {name} is not finite, so no checkpoint is written")


def _write(
    run_dir: Path,
    step: int,
    model: "PreTrainedModel",
    weights: dict[str, torch.Tensor] | None,
    moments: dict[str, torch.Tensor],
    random_states: Sequence[dict[str, torch.Tensor]],
    state: dict[str, Any],
    more: dict[str, dict[str, torch.Tensor]],
) -> Path:
    """Write a checkpoint; the weights are the model's own where None are given."""
    folder = folder_of(run_dir, step)
    try:
        with files.staged_folder(folder, manifest=True) as staging:
            write_model(model, staging, weights)
            save_file(moments, staging / OPTIMIZER)
            for rank, tensors in enumerate(random_states):
                save_file(tensors, staging / f"rng-{rank:05d}.safetensors")
            for name, tensors in more.items():
                save_file(tensors, staging / name)
            files.write_json(staging / STATE, {"format": FORMAT, "version": __version__} | state)
    except Exception as error:  # safetensors reports a full disk with an exception of its own
        raise OSError(f"{folder}: checkpoint not written: {error}") from error
    problem = files.damage(folder)
    if problem:
        raise OSError(f"{folder}: checkpoint does not read back: {problem}")
    return folder


def write_model(model: "PreTrainedModel", folder: Path, weights: dict[str, torch.Tensor] | None = None) -> None:
    """Write a Hugging Face model folder: weights (None = the model's) in one safetensors file, config and code."""
    noisy = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model.save_pretrained(folder, state_dict=weights, max_shard_size="1TB")
    finally:
        if noisy:
            logging.enable_progress_bar()


def prune(run_dir: Path, keep: int) -> None:
    """Delete old checkpoints, except the newest `keep` scheduled ones and the newest of all.

    Call it after `save`, which has verified the newest. A checkpoint forced by a signal is not scheduled: it goes as
    soon as a later one exists, so that the set kept, and hence its average, is that of a run nobody interrupted.
    """
    newest_first = folders(run_dir)[::-1]
    scheduled = [folder for folder in newest_first if (peek(folder) or {}).get("scheduled")]
    for folder in newest_first[1:]:
        if folder not in scheduled[:keep]:
            files.remove_folder(folder)


def newest(run_dir: Path) -> Path | None:
    """Return the newest checkpoint whose every file verifies, None when the run has none yet.

    A damaged one is named on stderr and skipped.

    Raises:
        UserError: there are checkpoints and all are damaged; starting anew silently would hide the loss.
    """
    damaged = []
    for folder in folders(run_dir)[::-1]:
        problem = files.damage(folder) or _unreadable(folder)
        if problem is None:
            return folder
        damaged.append(f"{folder.name}: {problem}")
        print(f"warning: {folder}: damaged checkpoint skipped: {problem}", file=sys.stderr)
    if damaged:
        raise UserError(
            f"{Path(run_dir) / 'checkpoints'}: no checkpoint is intact ({'; '.join(damaged)}); "
            "delete that folder to train from the start"
        )
    return None


def set_aside(run_dir: Path, chosen: Path) -> None:
    """Rename the checkpoints after the chosen one, which are damaged: pruning must never count them as the newest."""
    for folder in folders(run_dir):
        if folder.name > chosen.name:
            target = folder.with_name(f"damaged-{folder.name}")
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)


def load(folder: Path, model: "PreTrainedModel", optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's weights and moments into a model and its optimiser, in place.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    load_weights(folder, model)
    tensors = load_file(folder / OPTIMIZER)
    names = {parameter: name for name, parameter in model.named_parameters()}
    state: dict[int, dict[str, torch.Tensor]] = {}
    layout = optimizer.state_dict()["param_groups"]
    for group, numbered in zip(optimizer.param_groups, layout, strict=True):
        for parameter, index in zip(group["params"], numbered["params"], strict=True):
            prefix = names[parameter] + "/"
            own = {key.removeprefix(prefix): tensors.pop(key) for key in list(tensors) if key.startswith(prefix)}
            if own:
                state[index] = own
    if tensors:
        raise UserError(f"{folder / OPTIMIZER}: {next(iter(tensors))} belongs to no parameter of this model")
    optimizer.load_state_dict({"state": state, "param_groups": layout})


def load_weights(folder: Path, model: "PreTrainedModel") -> None:
    """Put a folder's weights into a model, in place.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    path = Path(folder) / WEIGHTS
    put_weights(load_file(path), model, str(path))


def put_weights(weights: dict[str, torch.Tensor], model: "PreTrainedModel", origin: str) -> None:
    """Put tensors into a model, in place; every name and shape must agree.

    Args:
        weights: tensors by name; a tied matrix is there once.
        model: the bare model.
        origin: where they come from, for the error.

    Raises:
        UserError: a tensor is missing, unexpected or of another shape.
    """
    try:
        outcome = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise UserError(f"{origin}: {error}") from None
    own = model.state_dict()
    present = {tensor.data_ptr() for name, tensor in own.items() if name not in outcome.missing_keys}
    missing = [name for name in outcome.missing_keys if own[name].data_ptr() not in present]
    if missing or outcome.unexpected_keys:
        raise UserError(f"{origin}: missing tensors {missing[:3]}, unexpected ones {outcome.unexpected_keys[:3]}")


def read_state(folder: Path) -> dict[str, Any]:
    """Return the JSON state of a checkpoint.

    Raises:
        UserError: it cannot be read, or another version of this program wrote it in another format.
    """
    state = files.read_json(folder / STATE)
    found = state.get("format", 1) if isinstance(state, dict) else None
    if found != FORMAT:
        writer_of_it = (
            f", written by version {state['version']}" if isinstance(state, dict) and "version" in state else ""
        )
        raise UserError(
            f"{folder}: a checkpoint of format {found}{writer_of_it}; version {__version__} reads format {FORMAT}: "
            "go on with the version that wrote it, or train into another folder with --run_dir"
        )
    return state


def read_random_state(folder: Path, rank: int) -> dict[str, torch.Tensor] | None:
    """Return the random state of one rank, None if the checkpoint was written by fewer ranks."""
    path = folder / f"rng-{rank:05d}.safetensors"
    return load_file(path) if path.is_file() else None


def average(run_dir: Path, last: int) -> Path:
    """Write the mean of the last checkpoints' weights to `<run_dir>/average` (Vaswani et al. 2017, sec. 6.1).

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
        raise UserError(f"{run_dir / 'checkpoints'}: {len(chosen)} intact checkpoints, the average needs {last}")
    target = run_dir / files.AVERAGE
    with files.staged_folder(target) as staging:
        extra = [path for path in chosen[0].iterdir() if path.name == files.CONFIG or path.suffix == ".py"]
        tokenizer = run_dir / files.TOKENIZER
        extra += chosen[0].glob(files.GENERATION)
        for path in [*extra, *(tokenizer.iterdir() if tokenizer.is_dir() else [])]:
            (staging / path.name).write_bytes(path.read_bytes())
        save_file(mean_weights(chosen), staging / WEIGHTS, metadata={"format": "pt"})
    return target


def averageable(run_dir: Path, last: int) -> list[Path]:
    """Return the newest intact checkpoint and the intact scheduled ones before it, at most `last`, newest first."""
    chosen: list[Path] = []
    for folder in folders(run_dir)[::-1]:
        if len(chosen) < last and files.damage(folder) is None and (read_state(folder)["scheduled"] or not chosen):
            chosen.append(folder)
    return chosen


def mean_weights(folders: Sequence[Path]) -> dict[str, torch.Tensor]:
    """Return the arithmetic mean of every weight over some model folders, summed in double precision."""
    with safe_open(folders[0] / WEIGHTS, framework="pt") as first:
        dtypes = {name: first.get_tensor(name).dtype for name in first.keys()}  # noqa: SIM118  (no dict)
    sums: dict[str, torch.Tensor] = {}
    for folder in folders:
        for name, tensor in load_file(folder / WEIGHTS).items():
            sums[name] = sums[name].add_(tensor) if name in sums else tensor.to(torch.float64)
    return {name: (total / len(folders)).to(dtypes[name]) for name, total in sums.items()}


def folders(run_dir: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    return sorted((Path(run_dir) / files.CHECKPOINTS).glob("step-*"))


def peek(folder: Path) -> dict[str, Any] | None:
    """Return a checkpoint's state, None where it cannot be read."""
    try:
        return read_state(folder)
    except (OSError, ValueError):
        return None


def _unreadable(folder: Path) -> str | None:
    """Check what digests cannot: that the manifest lists what a resume needs, and that the weights are finite."""
    listed = files.read_json(folder / files.MANIFEST)["files"]
    for name in (WEIGHTS, OPTIMIZER, STATE, "rng-00000.safetensors"):
        if name not in listed:
            return f"{name} is not in {files.MANIFEST}"
    for name, tensor in load_file(folder / WEIGHTS).items():
        if not torch.isfinite(tensor).all():
            return f"{WEIGHTS}: {name} is not finite"
    return None


def _optimizer_tensors(
    model: "PreTrainedModel", optimizer: torch.optim.Optimizer, copied: bool = False
) -> dict[str, torch.Tensor]:
    """Return the optimiser's tensors as `parameter/quantity`: names survive a change of the groups' order."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}/{quantity}": value.detach().to("cpu", copy=copied).contiguous()
        for parameter, own in optimizer.state.items()
        for quantity, value in own.items()
    }
